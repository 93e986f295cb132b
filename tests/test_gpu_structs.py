"""Structs that the host fills and kernels read: sizes and places of fields on both sides."""

import numpy as np
import pytest

import gpu_shim
from stepsmith.cuda._arrays import ARRAY
from stepsmith.cuda.optim import structs

STRUCTS = {
    "Array": ARRAY,
    "Row": structs.ROW,
    "Control": structs.CONTROL,
    "Report": structs.REPORT,
    "News": structs.NEWS,
    "Pass": structs.PASS,
}


def kernel(name, dtype):
    """Writes the size of a struct, then the place of each field."""
    places = [f"(u64)&(({name} *)64)->{field} - 64" for field in dtype.names]
    numbers = "".join(f"out[{i}] = {place};" for i, place in enumerate([f"sizeof({name})", *places]))
    return f"KERNEL(places_of_{name})(u64 *out) {{ {numbers} }}\n"


@pytest.mark.parametrize("name", STRUCTS)
def test_a_struct_is_the_same_on_both_sides(gpu, name):
    dtype = STRUCTS[name]
    out = gpu.zeros(1 + len(dtype.names), np.uint64)
    module = gpu_shim.probe("control.cuh", text="".join(kernel(*struct) for struct in STRUCTS.items()))
    module.get_function(f"places_of_{name}")((1,), (32,), (out,))
    assert out.get().tolist() == [dtype.itemsize, *(dtype.fields[field][1] for field in dtype.names)]
