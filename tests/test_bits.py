"""Every optimizer equals the oracle bit for bit, at each CPU level: the comparisons of battery.py; lists agree."""

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import stepsmith as ss
from battery import CONFIGS, SUITES, THOROUGH, THREADS, threads_of
from helpers import assert_same_bits, different, environ
from reference_rules import RULES, STATE
from reference_scalars import CARRIED, CARRY, SCALARS
from stepsmith import _core

sys.path.append(str(Path(__file__).parent.parent / "benches"))
_peers = importlib.import_module("_peers")
GOLDEN = json.loads((Path(__file__).parent / "golden" / "optim.json").read_text())


def test_lists_of_rules_agree() -> None:
    rules = _core.rules()
    golden = {row["optimizer"] for row in GOLDEN}
    assert set(rules) == set(ss.optim.REGISTRY) - {"lbfgs"}, "LBFGS steps by a closure"
    elementwise = set(rules) - {"muon"}
    assert elementwise == set(RULES) == set(SCALARS), "Muon's products are BLAS's"
    assert elementwise == set(_peers.ROWS), "a rule that no bench measures"
    assert set(rules) <= golden, "a rule without a golden row"
    assert {rule for rule, _ in CONFIGS.values()} == elementwise, "a rule that no configuration compares"


@pytest.mark.parametrize("name", RULES)
def test_a_rule_s_names_agree_everywhere(name) -> None:
    states, scalars = _core.rules()[name]
    oracle = inspect.signature(RULES[name])
    named = [key for key, parameter in oracle.parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    assert named == scalars == list(SCALARS[name](1, 0.1))
    assert ss.optim.REGISTRY[name].carried == CARRIED.get(name, {})
    cls = ss.optim.REGISTRY[name]
    assert cls.name == name
    assert list(cls.slots) == states == list(STATE[name])
    optimizer = cls([np.zeros(1)])
    group, carried = optimizer.groups[0], tuple(cls.carried.values())
    carried = optimizer._carry(group, 0.1, 1, carried)
    assert len(optimizer._scalars(group, 0.1, 1, carried)) == len(scalars) == len(optimizer._stepper.scalars)


@pytest.mark.parametrize("name", CONFIGS)
def test_scalars_equal_the_oracle_s(name) -> None:
    rule, settings = CONFIGS[name]
    optimizer = ss.optim.REGISTRY[rule]([np.zeros(1)], **settings)
    given = {key: value for key, value in settings.items() if key != "maximize"}
    group, kept, carried = optimizer.groups[0], {}, tuple(CARRIED.get(rule, {}).values())
    for step in (1, 2, 3, 1000, 10**6):
        after = optimizer._carry(group, settings["lr"], step, carried)
        got = optimizer._scalars(group, settings["lr"], step, after)
        if rule in CARRY:
            kept = {"carried": carried}
            carried = CARRY[rule](step, **given, **kept)
        want = SCALARS[rule](step, **given, **kept)
        assert [x.hex() for x in after] == [x.hex() for x in carried]
        assert [float(x).hex() for x in got] == [float(x).hex() for x in want.values()]


@pytest.mark.parametrize("part", SUITES["bits"])
def test_every_level_equals_the_oracle(battery, level, part) -> None:
    report = battery("bits", level)[part]
    if report.get("skipped"):
        pytest.skip("MXCSR is x86-64's")
    assert report["wrong"] == []
    assert report["isa"] == level
    if "threads" in report:
        config = part.removeprefix("chunk ")
        asked = [[n, n] for n in threads_of(config, config in THOROUGH)]
        assert report["threads"] == asked, "the threads that took part are those asked for"
    if "ran" in report:
        assert report["ran"] == [1, 7]


@pytest.mark.slow
@pytest.mark.parametrize("part", SUITES["bits-all-pairs"])
def test_every_level_equals_the_oracle_for_all_pairs_of_dtypes(battery, level, part) -> None:
    report = battery("bits-all-pairs", level)[part]
    assert (report["wrong"], report["isa"]) == ([], level)
    assert report["threads"] == [[n, n] for n in THREADS]


@pytest.mark.slow
@pytest.mark.parametrize("part", SUITES["bits-all-coded"])
def test_every_level_equals_the_oracle_with_codes_beside_all_pairs_of_dtypes(battery, level, part) -> None:
    report = battery("bits-all-coded", level)[part]
    assert (report["wrong"], report["isa"]) == ([], level)


def test_the_comparison_can_fail() -> None:
    a = np.array([0.0, np.nan, 1.0], np.float32)
    b = np.array([-0.0, -np.nan, np.nextafter(np.float32(1), np.float32(2))], np.float32)
    assert different(a, b).tolist() == [0, 2]
    with pytest.raises(AssertionError, match="2 of 3 elements differ, first at 0"):
        assert_same_bits(a, b)


@pytest.mark.parametrize("wish", ["avx1024", "sse2", "AVX2"])
def test_an_unknown_level_is_an_error_at_import(wish) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import stepsmith"],
        env=environ({"STEPSMITH_ISA": wish}),
        capture_output=True,
        text=True,
        check=False,
    )
    levels = ", ".join(_core.info()["isa_available"])
    message = f"STEPSMITH_ISA must name a level of this CPU ({levels}), got '{wish}'"
    assert done.returncode != 0
    assert message in done.stderr
