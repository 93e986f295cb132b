"""What is folded around a rule: each stage, each pair and all of them equal the oracle."""

import pytest

from battery_stages import PARTS, STAGES, compatible


@pytest.mark.parametrize("part", PARTS)
def test_every_level_equals_the_oracle(battery, level, part) -> None:
    report = battery("stages", level)[part]
    assert report["wrong"] == []
    assert report["isa"] == level
    if "ran" in report:
        assert report["ran"] == 7, "as many threads took part as were asked for"


def test_every_pair_that_can_be_is_compared() -> None:
    from battery import parts_of

    assert parts_of("stages") is PARTS
    refused = [(a, b) for i, a in enumerate(STAGES) for b in list(STAGES)[i + 1 :] if not compatible(a, b)]
    assert len(refused) == 3 + 3 + 1, "three norms, three shadows, master beside stochastic"
