"""`ObjectCache`: bytes of any length under names, in a byte arena, the least recently used leave.

Owns: which objects stay, and what those that left would have been worth. Leaves to others: the
memory (`kvatlas.storage.arena`), how much of it (`tuning`). For what a server keeps beside KV
blocks: encoded images, tokenised prompts, grammars.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from kvatlas.errors import InputError, InvariantError
from kvatlas.pressure.hybrid.stack_meter import StackMeter
from kvatlas.storage.arena import Allocation, GPUMemoryPool

__all__ = ["ObjectCache", "ObjectCounts"]

_GRANULE = 64


@dataclass(frozen=True, slots=True)
class ObjectCounts:
    """What a cache of objects has done: `refused` objects were larger than all of it."""

    objects: int
    used_bytes: int
    limit_bytes: int
    hits: int
    misses: int
    evictions: int
    refused: int
    bytes_moved: int
    saved_s: float


class ObjectCache:
    """An LRU of byte strings in an arena of `max_bytes`, of which `limit_bytes` may be used.

    When an object finds its bytes free but apart, the arena is compacted (least bytes moved).

    Attributes:
        max_bytes: as given.
        meter: the seconds that `get` was asked for by depth, objects that left included.

    Raises: InputError: a limit beyond the arena.
    """

    def __init__(self, max_bytes: int, limit_bytes: int | None = None) -> None:
        self.meter = StackMeter((max_bytes,))
        self._worth: dict[Hashable, float] = {}
        self._saved_s = 0.0
        self._arena = GPUMemoryPool(rounded(max_bytes), granule=_GRANULE, on_pressure=self._compact)
        self.max_bytes = max_bytes
        self._held: OrderedDict[Hashable, Allocation] = OrderedDict()
        self._used = self._hits = self._misses = self._evictions = self._refused = self._moved = 0
        self._limit = max_bytes if limit_bytes is None else limit_bytes
        self.set_limit(self._limit)

    def __len__(self) -> int:
        return len(self._held)

    @property
    def limit_bytes(self) -> int:
        """How much of it may be used now."""
        return self._limit

    def get(self, key: Hashable) -> bytes | None:
        """Return a copy of the object, None when it is not there. O(bytes)."""
        held = self._held.get(key)
        self.meter.count(key, self._worth.get(key, 0.0))
        if held is None:
            self._misses += 1
            return None
        self._hits += 1
        self._saved_s += self._worth[key]
        self._held.move_to_end(key)
        self.meter.use(key, rounded(held.nbytes))
        return bytes(held.view())

    def put(self, key: Hashable, data: bytes, *, cost_s: float = 0.0) -> bool:
        """Keep `data` under `key` in place of what was there; False when it is larger than all.

        Args:
            key: its name.
            data: at least one byte.
            cost_s: seconds to make it again, what a hit is worth.

        Raises: InputError: no bytes, or a cost below 0.
        """
        if not data:
            raise InputError("an object has at least 1 byte", field="data")
        if not cost_s >= 0:
            raise InputError("must be at least 0", field="cost_s", value=cost_s)
        self.drop(key)
        nbytes = rounded(len(data))
        self._note(key, nbytes, cost_s)
        if nbytes > self._limit:
            self._refused += 1
            return False
        self._shrink_to(self._limit - nbytes)
        got = self._arena.allocate(len(data))
        if got is None:
            raise InvariantError("objects: the arena has no room within its limit")
        got.view()[:] = np.frombuffer(data, np.uint8)
        self._held[key] = got
        self._used += nbytes
        return True

    def drop(self, key: Hashable) -> bool:
        """Forget an object; False when it is not there."""
        held = self._held.pop(key, None)
        if held is not None:
            self._used -= rounded(held.nbytes)
            held.free()
        return held is not None

    def set_limit(self, limit_bytes: int) -> None:
        """Use at most so much from now on; what is too much leaves. Raises: InputError."""
        if not 0 <= limit_bytes <= self.max_bytes:
            raise InputError(
                f"must be 0 to {self.max_bytes}", field="limit_bytes", value=limit_bytes
            )
        self._limit = limit_bytes
        self._shrink_to(limit_bytes)

    def counts(self) -> ObjectCounts:
        """Return what it holds and has done."""
        return ObjectCounts(
            len(self._held), self._used, self._limit, self._hits, self._misses,
            self._evictions, self._refused, self._moved, self._saved_s,
        )  # fmt: skip

    def check(self) -> None:
        """Verify every invariant; O(objects). Raises: InvariantError."""
        self._arena.check()
        self.meter.check()
        seen = self._arena.statistics()
        if seen.reserved_bytes != self._used or seen.live != len(self._held):
            raise InvariantError("objects: the arena holds other bytes than the cache")
        if self._used > self._limit:
            raise InvariantError("objects: more is used than the limit allows")

    def _shrink_to(self, nbytes: int) -> None:
        while self._used > nbytes:
            self.drop(next(iter(self._held)))
            self._evictions += 1

    def _note(self, key: Hashable, nbytes: int, cost_s: float) -> None:
        self.meter.use(key, nbytes)
        self._worth[key] = cost_s
        if len(self._worth) > 2 * (len(self.meter) + len(self._held)) + 64:
            self._worth = {
                name: worth
                for name, worth in self._worth.items()
                if name in self._held or self.meter.zone_of(name) is not None
            }

    def _compact(self, nbytes: int) -> None:
        self._moved += self._arena.compact(nbytes).bytes_moved


def rounded(nbytes: int) -> int:
    """Return the bytes that an object of `nbytes` takes."""
    return -(-nbytes // _GRANULE) * _GRANULE
