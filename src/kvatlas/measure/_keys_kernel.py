"""Numbers for keys: 0, 1, 2, ... in the order in which they are met, or the keys themselves.

Owns: the hash table from keys to numbers. Leaves to others: what is kept per key, and growing
(`keys`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.jit import entry, inlined, kernel
from kvatlas.records import Record, record_dtype

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_MASK32 = 0xFFFFFFFF
INDEX_INFO = record_dtype(dense="i8", used="i8")  # `dense`: a key is its own number


class KeyIndex(NamedTuple):
    """An open-addressing table, at most half full; of one slot when keys are dense."""

    keys: I64  # (2**b,)
    numbers: I32  # (2**b,) plus one; 0: empty
    info: Record  # INDEX_INFO


@inlined
def number_of(index: KeyIndex, key: int) -> int:
    """Return the number of `key`, a new one when it was never met; O(1) expected."""
    if index.info.dense != 0:
        return key
    return _find(index, key)


@kernel
def _find(index: KeyIndex, key: int) -> int:
    mask = index.numbers.shape[0] - 1
    # Two multiplicative rounds on 32 bits: products stay below 2**63.
    mixed = (key ^ (key >> 32)) & _MASK32
    mixed = (mixed * 0x5BD1E995) & _MASK32
    mixed ^= mixed >> 15
    mixed = (mixed * 0x27D4EB2F) & _MASK32
    mixed ^= mixed >> 13
    slot = mixed & mask
    while index.numbers[slot] != 0:
        if index.keys[slot] == key:
            return int(index.numbers[slot]) - 1
        slot = (slot + 1) & mask
    index.keys[slot] = key
    index.info.used += 1
    index.numbers[slot] = index.info.used
    return int(index.info.used) - 1


@entry
def move_keys(keys: I64, larger: KeyIndex) -> None:
    """Put `keys` into an empty table in the order of their numbers; O(keys)."""
    for number in range(keys.shape[0]):
        _find(larger, keys[number])
