"""What is kept per key: an array of records that grows with the keys that are met.

Owns: numbering keys, and room for their records. Leaves to others: the records.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.events.schema import CACHED
from kvatlas.measure._keys_kernel import INDEX_INFO, KeyIndex, move_keys
from kvatlas.records import Records, one_record, records

__all__ = ["KeyTable"]

_MOST_DENSE = 1 << 27
"""Keys for which room is set aside at once; the system hands out only the memory that is used."""
_FEWEST = 1 << 10


class KeyTable:
    """Records of `dtype` for every key; a new key's is all zeros.

    Args:
        num_keys: keys are 0 .. num_keys - 1; 0 when they may be any number.
        dtype: of a record.
    """

    def __init__(self, num_keys: int, dtype: np.dtype[np.void]) -> None:
        dense = 0 < num_keys <= _MOST_DENSE
        self._dtype = dtype
        self.rows: Records = records(num_keys if dense else _FEWEST, dtype)
        self.index = _index(1 if dense else 2 * _FEWEST, dense)

    def make_room(self, events: Records) -> None:
        """Make room for every key that `events` may bring; O(keys) when it grows, amortised."""
        if self.index.info.dense:
            return
        new = int(events["count"][events["event"] == CACHED].sum(dtype=np.int64))
        needed = int(self.index.info.used) + new
        if needed <= self.rows.shape[0]:
            return
        size = 1 << (needed - 1).bit_length()
        rows = records(size, self._dtype)
        rows[: self.rows.shape[0]] = self.rows
        larger = _index(2 * size, False)
        move_keys(self.keys(), larger)
        self.rows, self.index = rows, larger

    def keys(self) -> NDArray[np.int64]:
        """Return the keys by their numbers; O(keys)."""
        if self.index.info.dense:
            return np.arange(self.rows.shape[0], dtype=np.int64)
        taken = np.flatnonzero(self.index.numbers)
        keys = np.empty(taken.size, np.int64)
        keys[self.index.numbers[taken] - 1] = self.index.keys[taken]
        return keys


def _index(slots: int, dense: bool) -> KeyIndex:
    info = one_record(INDEX_INFO, dense=int(dense))
    return KeyIndex(np.zeros(slots, np.int64), np.zeros(slots, np.int32), info)
