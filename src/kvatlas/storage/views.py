"""A layer of a pool as an array: the same shape in every layout, never a copy.

Owns: shapes and orders of axes. Leaves to others: the memory (`host`, `device`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kvatlas.storage.device import import_torch
from kvatlas.storage.dtypes import numpy_dtype
from kvatlas.storage.layouts import LOGICAL

if TYPE_CHECKING:
    from kvatlas.storage.pool import KVCacheMemoryPool


def layer_view(pool: KVCacheMemoryPool, index: int) -> Any:
    """Return layer `index` as (num_blocks, 2, block_size, kv_heads, head_size)."""
    placed, memory = pool.placed, pool.memory.bytes
    at = placed.axes.index("layer")
    here = (slice(None),) * at + (index,)
    left = [axis for axis in placed.axes if axis != "layer"]
    order = [left.index(axis) for axis in LOGICAL]
    if pool.backend == "numpy":
        numbers = memory.view(numpy_dtype(pool.number))
        return numbers.reshape(placed.lengths)[here].transpose(order)
    torch = import_torch()
    if isinstance(memory, np.ndarray):
        memory = torch.from_numpy(memory)
    numbers = memory.view(getattr(torch, pool.number.name))
    return numbers.view(placed.lengths)[here].permute(order)
