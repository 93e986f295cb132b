"""The traffic of a step and next to no arithmetic, the limit that a step is measured against."""

from typing import Any

import numpy as np

from stepsmith._backend import cupy
from stepsmith.cuda.optim.launches import Launches
from stepsmith.cuda.optim.settings import scale_by
from stepsmith.cuda.optim.structs import CONTROL, PASS
from stepsmith.cuda.optim.table import Table

__all__ = ["Sweep"]


class Sweep:
    """Every array becomes itself plus the gradient; nothing counts that."""

    def __init__(self, table: Table, zeroes_grads: bool) -> None:
        self._table, self._record = table, np.zeros((), PASS)
        slot = np.array([0.0, 1.0])  # update 0 and a sign, no scalars
        self._control = cupy().asarray(np.zeros(CONTROL.itemsize, np.uint8))
        self._slot: Any = cupy().asarray(slot)
        self._record["control"], self._record["table"] = self._control.data.ptr, self._slot.data.ptr
        self._record["slot_width"], self._record["ema_weight"] = slot.size, 0.5
        self._record["zeroes_grads"] = zeroes_grads
        scale_by(self._record, 1.0)
        self._launches = Launches("sweep", self._record)

    def run(self) -> None:
        """Launches it over the table's arrays, which it spoils."""
        self._table.upload()
        self._table.fill(self._record)
        self._launches.write(self._table, ends=False)
