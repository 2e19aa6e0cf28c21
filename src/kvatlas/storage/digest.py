"""What tells one block's content from another's, whatever layout holds it.

Owns: digests of blocks. Leaves to others: reading blocks (`host`, `device`), the function
(`_digest_kernel`).
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from kvatlas.storage._digest_kernel import digest_rows
from kvatlas.storage.device import DeviceMemory
from kvatlas.storage.exchange import read_in_order
from kvatlas.storage.host import HostMemory, share
from kvatlas.storage.moves import Ids

_AT_ONCE_BYTES = 4 * 2**20
"""Rows stay in the cache between being gathered and being read."""


def digests(memory: HostMemory | DeviceMemory, ids: Ids) -> NDArray[np.uint64]:
    """Return xxHash64 over layer, keys and values, slot, head, number of each block (n,)."""
    found = np.empty(len(ids), np.uint64)
    size = memory.placed.shape.bytes_per_block
    step = max(1, _AT_ONCE_BYTES // size)
    rows = np.empty((min(step, len(ids)), size), np.uint8)
    for start in range(0, len(ids), step):
        part = ids[start : start + step]
        read_in_order(memory, part, rows)
        work = partial(_digest, rows.ctypes.data, size, found[start : start + step])
        share(work, len(part), len(part) * size)
    return found


def _digest(address: int, size: int, out: NDArray[np.uint64], first: int, last: int) -> None:
    digest_rows(address, size, first, last, out)
