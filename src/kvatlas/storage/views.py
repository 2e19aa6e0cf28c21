"""A layer of a pool as an array: the same shape in every layout, never a copy.

Owns: shapes and orders of axes. Leaves to others: the memory (`host`, `device`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kvatlas.storage.device import import_torch
from kvatlas.storage.dtypes import Number, numpy_dtype
from kvatlas.storage.layouts import LOGICAL, Placed


def layer_view(memory: Any, placed: Placed, number: Number, backend: str, index: int) -> Any:
    """Return layer `index` of bytes as (num_blocks, 2, block_size, kv_heads, head_size)."""
    at = placed.axes.index("layer")
    here = (slice(None),) * at + (index,)
    left = [axis for axis in placed.axes if axis != "layer"]
    order = [left.index(axis) for axis in LOGICAL]
    if backend == "numpy":
        numbers = memory.view(numpy_dtype(number))
        return numbers.reshape(placed.lengths)[here].transpose(order)
    torch = import_torch()
    if isinstance(memory, np.ndarray):
        memory = torch.from_numpy(memory)
    numbers = memory.view(getattr(torch, number.name))
    return numbers.view(placed.lengths)[here].permute(order)
