"""What tells one block's content from another's, whatever layout holds it.

Owns: digests. Leaves to others: reading blocks (`host`, `device`).
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from kvatlas.storage.device import DeviceMemory
from kvatlas.storage.exchange import in_order, rows_on_host
from kvatlas.storage.host import HostMemory
from kvatlas.storage.moves import Ids

_AT_ONCE_BYTES = 16 * 2**20


def digests(memory: HostMemory | DeviceMemory, ids: Ids) -> NDArray[np.uint64]:
    """Return BLAKE2b of 8 bytes over layer, keys and values, slot, head, number of each block."""
    found = np.empty(len(ids), np.uint64)
    step = max(1, _AT_ONCE_BYTES // memory.placed.shape.bytes_per_block)
    for first in range(0, len(ids), step):
        rows = in_order(rows_on_host(memory, ids[first : first + step]), memory.placed)
        for index, row in enumerate(rows):
            found[first + index] = int.from_bytes(blake2b(row, digest_size=8).digest(), "little")
    return found
