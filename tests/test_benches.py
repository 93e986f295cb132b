"""The benches run, check before they time, and cover every optimizer. How fast anything is, is not asked here."""

import dataclasses
import importlib
import json
import subprocess
import sys
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import environ
from stepsmith import _core, optim, quant

BENCHES = Path(__file__).parent.parent / "benches"
PEERS = "torch", "optax", "jax", "thinc", "bitsandbytes", "torchao"
TIMED = {"ms", "q1", "q3", "samples", "blocks"}

sys.path.append(str(BENCHES))
_harness = importlib.import_module("_harness")
_peers = importlib.import_module("_peers")
bench_optim = importlib.import_module("bench_optim")
_quant = importlib.import_module("_quant")
bench_quant = importlib.import_module("bench_quant")


def run(script: str, target: Path, *arguments: str, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a bench writes when it runs quickly, some modules being hidden from it."""
    argv = [script, "--quick", "--json", str(target), *arguments]
    code = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({without!r}))
sys.path.insert(0, {str(BENCHES)!r})
sys.argv = {argv!r}
runpy.run_path({str(BENCHES / script)!r}, run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environ({}), check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(target) in done.stdout
    content: dict[str, Any] = json.loads(target.read_text())
    assert content["quick"] is True
    assert {"date", "cpu", "cores", "isa", "threads", "python", "versions"} <= content.keys()
    assert {"stepsmith", "numpy"} <= content["versions"].keys()
    return content


def assert_timed(side: dict[str, Any]) -> None:
    assert side.keys() >= TIMED
    assert 0 < side["q1"] <= side["ms"] <= side["q3"]
    assert side["samples"] >= len(side["blocks"]) >= 2


def test_every_case_is_checked_and_no_peer_is_needed(tmp_path) -> None:
    content = run("bench_optim.py", tmp_path / "optim.json", without=PEERS)
    rows = content["cases"]
    assert [row["case"] for row in rows] == [case.id for case in bench_optim.cases(bench_optim.QUICK_SHAPES)]
    assert {row["rule"] for row in rows} == set(_peers.ROWS)
    for row in rows:
        names = [side["name"] for side in row["sides"]]
        others = ["default check", "max_norm"] if row["case"].endswith("/checks") else ["numpy"]
        assert names == ["stepsmith", "sweep", *others]
        for side in row["sides"]:
            assert side["checked"] is True
            assert 0 <= side["deviation"] <= 1
            assert_timed(side)
            assert side["gb_per_s"] > 0
            assert side["of_sweep"] > 0
            assert (side["ratio"] is None) == (side["name"] == "stepsmith")


def test_bytes_are_those_of_the_arrays(tmp_path) -> None:
    content = run("bench_optim.py", tmp_path / "deep" / "optim.json", "--only", "*/70001/*", without=PEERS)
    bytes_each = {row["case"]: row["bytes"] / 70_001 for row in content["cases"]}
    # Parameter and each state array twice, the gradient once.
    one = "sgd", "adagrad", "rmsprop", "asgd", "lion", "lars", "adafactor"
    states = {**dict.fromkeys(one, 1), "ademamix": 3, "adan": 4}
    assert bytes_each == {
        **{f"{rule}/70001/float32": 4 * (3 + 2 * states.get(rule, 2)) for rule in _peers.ROWS},
        "adamw/70001/bfloat16": 14,
        "adamw/70001/float32/checks": 28,
    }


@pytest.mark.parametrize("rule", _peers.ROWS)
def test_peers_that_are_here_agree(tmp_path, rule: str) -> None:
    here = [name for name in ("torch", "optax", "thinc") if _harness.find(name)]
    if not here:
        pytest.skip("no peer is installed")
    content = run("bench_optim.py", tmp_path / "optim.json", "--rule", rule, "--only", "*/8x64/*")
    sides = content["cases"][0]["sides"]
    assert len(sides) >= 3
    assert all(side["checked"] for side in sides)


def test_each_optimizer_has_a_row() -> None:
    assert set(_peers.ROWS) == set(optim.REGISTRY) - set(_peers.UNMEASURED)
    assert set(_peers.UNMEASURED) == {"lbfgs", "muon"}


def test_each_target_has_a_case() -> None:
    known = {case.id for case in bench_optim.cases(bench_optim.SHAPES)}
    assert {case for case, _ in bench_optim.TARGETS} <= known


def test_targets_count_in_the_right_direction() -> None:
    assert bench_optim.Target(at_least=2).met(2.5)
    assert not bench_optim.Target(at_least=2).met(1.9)
    assert bench_optim.Target(at_most=2).met(1.9)
    assert not bench_optim.Target(at_most=2).met(2.5)


@pytest.mark.parametrize(("dtype", "share"), [("float32", 2e-5), ("bfloat16", 0.2)])
def test_a_wrong_result_is_seen(dtype: str, share: float) -> None:
    problem = _peers.Problem(1, 1000, dtype)
    start = problem.before(slice(0, 1000))
    want = start - 0.1
    limit = bench_optim.LIMITS[dtype]
    assert bench_optim.deviation(want, want, start, limit) == 0
    wrong = want.copy()
    wrong[777] += 0.1 * share
    assert bench_optim.deviation(wrong, want, start, limit) > 1
    wrong[777] = np.nan
    assert bench_optim.deviation(wrong, want, start, limit) == np.inf
    assert bench_optim.deviation(start, start, start, limit) == np.inf


def test_our_being_wrong_stops_the_bench(monkeypatch) -> None:
    def without_decay(*arguments: Any, lr: float, weight_decay: float) -> None:  # noqa: ARG001
        _peers.numpy_adam(*arguments, lr=lr)

    row = dataclasses.replace(_peers.ROWS["adamw"], expression=without_decay)
    monkeypatch.setitem(_peers.ROWS, "adamw", row)
    case = bench_optim.Case("adamw", bench_optim.Shape("100", 1, 100))
    with pytest.raises(ArithmeticError, match="adamw/100/float32: stepsmith and numpy disagree"):
        bench_optim.run(case, bench_optim.Effort(2, 0.0))


def test_a_peer_that_is_wrong_is_named_and_not_timed(monkeypatch, capsys) -> None:
    def lazy(_rule: str, problem: Any) -> list[Any]:
        params = problem.params()
        return [_peers.Contender("lazy", lambda: None, params=lambda: params)]

    monkeypatch.setattr(_peers, "PEERS", (_peers.numpy, lazy))
    case = bench_optim.Case("sgd", bench_optim.Shape("100", 1, 100))
    row = bench_optim.describe(case, *bench_optim.run(case, bench_optim.Effort(2, 0.0)))
    assert [side["checked"] for side in row["sides"]] == [True, True, True, False]
    assert "ms" not in row["sides"][-1]
    json.dumps(row)
    bench_optim.show(row)
    assert "not timed" in capsys.readouterr().out.splitlines()[-1]


def test_sides_take_turns_and_the_first_sample_is_dropped() -> None:
    calls: list[str] = []
    sides = [
        _harness.Side("a", lambda: calls.append("a"), lambda: calls.append("A")),
        _harness.Side("b", lambda: calls.append("b"), lambda: calls.append("B")),
    ]
    timings = _harness.measure(sides, 3, 0.0)
    assert "".join(x for x in calls if x.isupper()) == "AB" + "AB" + "BA" + "AB"
    assert [len(timing.blocks) for timing in timings.values()] == [3, 3]
    assert all(len(timing.samples) == 3 for timing in timings.values())


def test_no_such_case_is_an_error(capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench_optim.main(["--only", "nothing"])
    assert stopped.value.code == 2
    assert "--list" in capsys.readouterr().err


def test_everything_folded_is_timed_beside_a_sweep(tmp_path) -> None:
    content = run("bench_folded.py", tmp_path / "folded.json")
    names = list(content["sides"])
    assert names[:2] == ["stepsmith", "sweep"]
    assert content["deviation"] < 1e-3
    for side in content["sides"].values():
        assert side["ratio"] > 0
        assert_timed(side)


@pytest.mark.parametrize("name", ["norm", "activation"])
def test_functions_are_timed_both_ways_and_with_given_outputs(tmp_path, name: str) -> None:
    content = run(f"bench_{name}.py", tmp_path / "functions.json", without=PEERS)
    bench = importlib.import_module(f"bench_{name}")
    rows = content["cases"]
    assert {row["case"].split("/")[0] for row in rows} == set(bench.FUNCTIONS)
    assert {row["case"].split("/")[2] for row in rows} == {"forward", "backward"}
    for row in rows:
        assert set(row["sides"]) in ({"stepsmith", "out="}, {"stepsmith", "out=", "sweep"})
        assert ("of_sweep" in row) == ("sweep" in row["sides"])
        for side in row["sides"].values():
            assert_timed(side)


@pytest.mark.parametrize("name", ["norm", "activation"])
def test_functions_agree_with_torch(tmp_path, name: str) -> None:
    pytest.importorskip("torch")
    for row in run(f"bench_{name}.py", tmp_path / "functions.json")["cases"]:
        assert {"ratio", "ratio_into", "met"} <= row.keys()


def test_a_wrong_function_stops_the_bench() -> None:
    functions = importlib.import_module("_functions")
    x = functions.numbers((4, 5))
    wrong = functions.Work(lambda: [x], lambda: [x * 1.001], None, None, 1)
    case = functions.Case("twice", (4, 5), lambda _: {"forward": wrong}, "forward")
    with pytest.raises(ArithmeticError, match="twice/4x5/forward: stepsmith and out= disagree"):
        functions.run(case, 2, 0.0)
    assert functions.deviation([x], [x]) == 0
    assert functions.deviation([x * np.nan], [x]) == np.inf


def test_quantization_is_timed_and_no_peer_is_needed(tmp_path) -> None:
    content = run("bench_quant.py", tmp_path / "quant.json", without=PEERS)
    rows = content["cases"]
    assert [row["case"] for row in rows] == [case.id for case in bench_quant.cases(quick=True)]
    assert {row["missing"] for row in rows} == {None, "bitsandbytes", "torch", "torchao"}
    assert {row["peer"] for row in rows if "peer" in row} == {"gguf", "ml_dtypes", "numpy float32", "float32 state"}
    for row in rows:
        assert ("peer" in row) == ("ratio" in row)
        assert ("met" in row) == ("ratio" in row and "target" in row)
        assert (_quant.CHECKED in row["sides"]) == row["case"].startswith("quantize/")
        for side in row["sides"].values():
            assert side["gb_per_s"] > 0
            assert_timed(side)


@pytest.mark.parametrize("package", ["torch", "bitsandbytes"])
def test_codes_are_those_of_peers_that_are_here(tmp_path, package: str) -> None:
    pytest.importorskip(package)
    glob = {"torch": "*quantize/int8/*", "bitsandbytes": "*quantize/[dn]*"}[package]
    rows = run("bench_quant.py", tmp_path / "quant.json", "--only", glob)["cases"]
    assert len(rows) >= 3
    assert {row.get("peer") for row in rows} >= {package}


def test_bytes_of_codes_are_those_of_the_arrays() -> None:
    n = 96 * 256
    codes = {
        "dynamic8": n + n // 64,
        "nf4": n // 2 + n // 16,
        "int8": n + 4,
        "q4_0": n * 18 // 32,
        "mxfp4": n * 17 // 32,
    }
    for case in bench_quant.cases(quick=True):
        name = case.id.split("/")[1]
        if "quantize" in case.id.split("/")[0] and name in codes and not case.id.startswith("fake"):
            assert case.make().traffic == 4 * n + codes[name]


@pytest.mark.parametrize("case", ["quantize/q8_0/*", "dequantize/q8_0/*", "quantize/nvfp4/*", "matmul/int4/2x*"])
def test_a_wrong_quantization_stops_the_bench(monkeypatch, case: str) -> None:
    """A scheme that leaves what was there stands for a kernel that is wrong."""
    makes = [made.make for made in bench_quant.cases(quick=True) if fnmatch(made.id, case)]
    assert len(makes) == 1
    assert makes[0]().right()
    method = "matmul" if case.startswith("matmul") else case.split("/", maxsplit=1)[0]
    owner = quant.QuantizedArray if method == "matmul" else quant.REGISTRY["ggml" if "q8" in case else "nvfp4"]
    work = makes[0]()
    monkeypatch.setattr(owner, method, lambda *_, **__: None)
    with pytest.raises(ArithmeticError, match=r"this: stepsmith and .* disagree"):
        _quant.run(_quant.Case("this", lambda: work), _quant.Effort(2, 0.0, 0.0))


def test_state_that_goes_astray_stops_the_bench() -> None:
    steps = importlib.import_module("_quant_steps")
    problem = _peers.Problem(1, 5000, "float32")
    ours = _peers.ours("adamw", problem, state_dtype="int8")
    assert steps._agree(problem, ours, _peers.ours("adamw", problem))
    problem = _peers.Problem(1, 5000, "float32")
    other = _peers.ours("adam", problem, state_dtype="int8", lr=1.2 * _peers.LR)
    assert not steps._agree(problem, other, _peers.ours("adamw", problem))


def test_copies_beside_the_bench_end_with_it(monkeypatch) -> None:
    steps = importlib.import_module("_quant_steps")
    started: list[Any] = []

    class Watched(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(steps.subprocess, "Popen", Watched)
    before = _core.info()["threads"]

    def fail() -> None:
        with steps.beside_copies(1000):
            assert started[0].poll() is None
            assert _core.info()["threads"] == 1
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail()
    assert started[0].poll() is not None
    assert _core.info()["threads"] == before


def test_training_is_checked_and_timed(tmp_path) -> None:
    content = run("bench_train.py", tmp_path / "train.json")
    assert [side["name"] for side in content["sides"]] == ["stepsmith", "MLPClassifier"]
    assert content["ratio"] > 0
    for side in content["sides"]:
        assert side["checked"] is True
        assert side["accuracy"] > 0.5
        assert_timed(side)


def test_networks_need_no_peer(tmp_path) -> None:
    if find_spec("torch") is not None:
        pytest.skip("SciPy looks into an entry of sys.modules that hides PyTorch")
    content = run("bench_nn.py", tmp_path / "nn.json")
    assert [[side["name"] for side in row["sides"]] for row in content["cases"]] == [["stepsmith", "our loop"]] * 3
    assert all(row["ratio"] is None and row["overhead"] > 0 for row in content["cases"])
    assert [row["target"] for row in content["cases"]] == [1.1, 2.0, 0.35]


def test_networks_learn_as_torch_s_do(tmp_path) -> None:
    pytest.importorskip("torch")
    for row in run("bench_nn.py", tmp_path / "nn.json")["cases"]:
        assert [side["name"] for side in row["sides"]] == ["stepsmith", "our loop", "torch"]
        assert row["met"] == (row["ratio"] >= row["target"] and row["overhead"] <= 1.05)
        for side in row["sides"]:
            assert side["checked"] is True
            assert_timed(side)


def test_a_network_that_learns_otherwise_stops_the_bench() -> None:
    bench = importlib.import_module("bench_nn")
    bench.check("this", {"stepsmith": 1.0, "torch": 1.0005})
    for wrong in (1.01, float("nan")):
        with pytest.raises(ArithmeticError, match="this: stepsmith and torch disagree"):
            bench.check("this", {"stepsmith": wrong, "torch": 1.0})


def test_import_starts_no_thread(tmp_path) -> None:
    content = run("import_time.py", tmp_path / "import.json")
    assert [side["name"] for side in content["sides"]] == ["numpy", "stepsmith"]
    assert content["added_threads"] == 0
    assert content["added_ms"] == content["sides"][1]["ms"] - content["sides"][0]["ms"]
    for side in content["sides"]:
        assert side["threads"] >= 1
        assert_timed(side)
