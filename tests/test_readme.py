"""Every block of the README runs."""

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README.read_text(), flags=re.S)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [code for language, code in BLOCKS if language == "sh"]


def test_readme_has_an_example_for_each_kind_of_program() -> None:
    assert len(PYTHON) == 8
    assert sum("autograd" in code for code in PYTHON) == 1
    assert sum("torch" in code for code in PYTHON) == 1


@pytest.mark.parametrize(
    "code", PYTHON, ids=["numpy", "autograd", "torch", "folded", "norm", "activation", "quantization", "training"]
)
def test_readme_example_runs(code: str) -> None:
    if "import torch" in code and find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("line", [line for code in SHELL for line in code.splitlines()])
def test_readme_command_is_a_target_of_make(line: str) -> None:
    words = line.split("#", maxsplit=1)[0].split()
    planned = subprocess.run([*words, "--dry-run"], cwd=README.parent, capture_output=True, text=True, check=False)
    assert planned.returncode == 0, planned.stderr
