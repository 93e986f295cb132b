"""Structs that the host fills and kernels read: sizes and places of fields on both sides."""

import numpy as np
import pytest

from gpu_shim.host import RawModule, compiled
from stepsmith.cuda._arrays import ARRAY
from stepsmith.cuda._source import _in_order, _text
from stepsmith.cuda.optim import structs

STRUCTS = {
    "Array": ARRAY,
    "Row": structs.ROW,
    "Control": structs.CONTROL,
    "Report": structs.REPORT,
    "News": structs.NEWS,
    "Pass": structs.PASS,
}


@pytest.mark.parametrize("name", STRUCTS)
def test_a_struct_is_the_same_on_both_sides(gpu, name):
    dtype = STRUCTS[name]
    places = [f"(u64)&(({name} *)64)->{field} - 64" for field in dtype.names]
    numbers = "".join(f"out[{i}] = {place};" for i, place in enumerate([f"sizeof({name})", *places]))
    text = "".join(_text(file) for file in _in_order("control.cuh", [])) + f"KERNEL(places)(u64 *out) {{ {numbers} }}\n"
    out = gpu.zeros(1 + len(places), np.uint64)
    RawModule(path=str(compiled(text))).get_function("places")((1,), (32,), (out,))
    assert out.get().tolist() == [dtype.itemsize, *(dtype.fields[field][1] for field in dtype.names)]
