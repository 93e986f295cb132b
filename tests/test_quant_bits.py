"""The same bits of codes, casts, fake quantization and products at each CPU level and any number of threads."""

import pytest

from battery import parts_of
from battery_digests import COUNTS, PARTS
from conftest import LEVELS


def test_every_part_is_compared() -> None:
    assert parts_of("digests") is PARTS
    assert PARTS.keys() == COUNTS.keys()


@pytest.mark.parametrize("part", PARTS)
def test_levels_and_threads_do_not_matter(battery, part) -> None:
    reports = [battery("digests", level)[part] for level in LEVELS]
    assert [(report["isa"], report["wrong"]) for report in reports] == [(level, []) for level in LEVELS]
    first = reports[0]["lines"]
    assert len(first) == COUNTS[part]
    for report in reports:
        assert report["lines"] == first
