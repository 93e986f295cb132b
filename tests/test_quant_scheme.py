"""Schemes by their names."""

from dataclasses import dataclass

import pytest

import stepsmith as ss
from quant_cases import CASES
from stepsmith.quant import NF4


def test_schemes_by_name() -> None:
    assert ss.quant.scheme("nf4", block_size=128) == NF4(128)
    for case in CASES:
        assert ss.quant.scheme(case.scheme.name, **case.scheme.settings()) == case.scheme
    known = ", ".join(sorted(ss.quant.REGISTRY))
    with pytest.raises(ValueError, match=f"scheme: name must be one of {known}, got 'nf5'"):
        ss.quant.scheme("nf5")
    with pytest.raises(ValueError, match="scheme: settings of dynamic8 are block_size, signed, got 'block'"):
        ss.quant.scheme("dynamic8", block=3)
    with pytest.raises(ValueError, match="block_size must be a power of two, got 48"):
        ss.quant.scheme("nf4", block_size=48)
    with pytest.raises(TypeError, match="signed must be True or False, got 1"):
        ss.quant.scheme("dynamic8", signed=1)
    with pytest.raises(TypeError, match="scheme: name must be a string"):
        ss.quant.scheme(NF4)  # type: ignore[arg-type]


def test_a_setting_without_default_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Needy(NF4):
        kind: str

    monkeypatch.setitem(ss.quant.REGISTRY, "needy", Needy)
    with pytest.raises(ValueError, match=r"scheme: needy needs the setting kind, got \['block_size'\]"):
        ss.quant.scheme("needy", block_size=64)
    assert ss.quant.scheme("needy", kind="x") == Needy(kind="x")
