"""The plainest tier below a pool: a dictionary of bytes that forgets the oldest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvatlas.storage import KVCacheMemoryPool


class PlainTier:
    """Copies of at most `room` blocks by key."""

    def __init__(self, storage: KVCacheMemoryPool, room: int) -> None:
        self._storage, self._room = storage, room
        self._rows: dict[int, Any] = {}

    def swap_out(self, keys: Sequence[int], block_ids: Sequence[int]) -> None:
        """Keep copies; a key that comes again is the youngest."""
        for key, row in zip(keys, self._storage.gather(block_ids), strict=True):
            self._rows.pop(key, None)
            self._rows[key] = row
        for key in list(self._rows)[: -self._room]:
            del self._rows[key]

    def lookup(self, keys: Sequence[int]) -> int:
        """Return how many leading keys are there."""
        found = 0
        while found < len(keys) and keys[found] in self._rows:
            found += 1
        return found

    def swap_in(self, keys: Sequence[int], block_ids: Sequence[int]) -> None:
        """Copy them into blocks."""
        for key, block in zip(keys, block_ids, strict=True):
            self._storage.scatter([block], self._rows[key][None])
