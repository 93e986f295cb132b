"""The command line: the demo from end to end, info, exit codes."""

import subprocess
import sys

import pytest

from stepsmith import cli


def run(*arguments: str, cwd=None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stepsmith", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        check=False,
    )


def test_demo_trains_and_draws(tmp_path) -> None:
    done = run("demo", "--epochs", "2", "--output", "curves.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["epoch", "step", "loss"]
    assert [line.split()[:2] for line in lines[1:3]] == [["1", "43"], ["2", "86"]]
    for part in ("test accuracy, seed 0:", "mean of seeds 0 to 2:", "MLPClassifier", "ratio"):
        assert part in done.stdout
    assert (done.stdout + done.stderr).replace("\n", "").isprintable()
    assert done.stderr == ""


def test_demo_reaches_its_accuracy(tmp_path) -> None:
    done = run("demo", "--no-compare", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "demo.png").exists()
    assert "MLPClassifier" not in done.stdout
    shown, mean = [float(line.rsplit(": ", 1)[1]) for line in done.stdout.splitlines() if line.startswith("test acc")]
    assert shown >= 0.965
    assert mean >= 0.968


def test_info_says_what_runs() -> None:
    done = run("info")
    assert done.returncode == 0, done.stderr
    names = [line.split("  ")[0] for line in done.stdout.splitlines()]
    assert names == ["stepsmith", "python", "CPU level", "threads", "numpy", "BLAS", "optional"]
    assert "scikit-learn" in done.stdout


@pytest.mark.parametrize("arguments", [[], ["nope"], ["demo", "--epochs", "x"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "usage: stepsmith" in done.stderr


def test_failure_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--epochs", "0"]) == 1
    assert capsys.readouterr().err == "stepsmith demo: epochs must be at least 1, got 0\n"


def test_missing_scikit_learn_names_the_extra(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert cli.main(["demo"]) == 1
    assert "stepsmith[sklearn]" in capsys.readouterr().err


def test_a_command_costs_one_function(monkeypatch, capsys) -> None:
    monkeypatch.setattr(cli, "COMMANDS", dict(cli.COMMANDS))

    @cli.command(cli.option("--times", type=int, default=1))
    def greet(arguments) -> int:
        """Say hello."""
        print("hello " * arguments.times)
        return 3

    assert cli.main(["greet", "--times", "2"]) == 3
    assert capsys.readouterr().out.split() == ["hello", "hello"]
