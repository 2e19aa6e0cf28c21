"""`IntelligentMemoryPool`: size classes over an arena, whose shelves follow what is asked for.

Owns: the face. Leaves to others: the rules (`_shelves_kernel`), everything else of an arena
(`gpu_memory_pool`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from typing import Any

from kvatlas.errors import InputError
from kvatlas.storage.arena._shelves_kernel import (
    pool_allocate_many,
    pool_allocate_one,
    pool_free_many,
    pool_free_one,
    return_all,
)
from kvatlas.storage.arena._state_kernel import NONE
from kvatlas.storage.arena.build import class_lengths, make_arena, make_shelves
from kvatlas.storage.arena.calls import direct
from kvatlas.storage.arena.check import check_shelves
from kvatlas.storage.arena.compaction import Compaction
from kvatlas.storage.arena.gpu_memory_pool import I64, GPUMemoryPool
from kvatlas.storage.arena.statistics import ClassStatistics

__all__ = ["IntelligentMemoryPool"]

_LARGEST_CLASS = 1 << 20
_REFILL_SHARE = 256
_LARGEST_SHARE = 16
_INTERVAL = 1024


class IntelligentMemoryPool(GPUMemoryPool):
    """A `GPUMemoryPool` in which a freed range waits, cut to its size class, for the next request.

    A request that finds one is served in O(1). Classes are four to a doubling, so that a range is
    at most a fifth larger than needed, rounding to the granule aside. Every `interval` allocations
    each class looks at what it was asked for: one that ran dry doubles its refills, one that had
    ranges left over all the time gives three quarters of these back and halves them. Before any
    request fails, everything that waits goes back to the arena. Larger requests, and those with an
    alignment above the granule, go to the arena directly.

    Args:
        capacity_bytes, device, buffer, granule, on_pressure: as in `GPUMemoryPool`.
        largest_class_bytes: the largest size class; by default 1 MiB, or a sixteenth of the arena
            when that is less.
        interval: allocations between two looks.

    Raises: InputError: as `GPUMemoryPool`; no class fits between granule and largest; no interval.
    """

    def __init__(
        self,
        capacity_bytes: int | str | None = None,
        *,
        device: str = "cpu",
        buffer: Any = None,
        granule: int = 256,
        on_pressure: Callable[[int], object] | None = None,
        largest_class_bytes: int | None = None,
        interval: int = _INTERVAL,
    ) -> None:
        super().__init__(
            capacity_bytes, device=device, buffer=buffer, granule=granule, on_pressure=on_pressure
        )
        largest = largest_class_bytes
        if largest is None:
            largest = max(granule, min(_LARGEST_CLASS, self.capacity_bytes // _LARGEST_SHARE))
        if largest < granule:
            raise InputError(
                f"must be at least the granule, {granule}",
                field="largest_class_bytes",
                value=largest,
            )
        if interval < 1:
            raise InputError("must be at least 1", field="interval", value=interval)
        self._pool_calls = _direct_calls()
        self._shelves = make_shelves(
            class_lengths(granule, largest),
            refill_bytes=self.capacity_bytes // _REFILL_SHARE,
            interval=interval,
        )

    def _allocate_one(self, nbytes: int, alignment: int, final: bool) -> int:
        return self._pool_calls[0](self._arena, self._shelves, nbytes, alignment, int(final))

    def _allocate_many(
        self, sizes: I64, alignment: int, handles: I64, start: int, final: bool
    ) -> int:
        return pool_allocate_many(
            self._arena, self._shelves, sizes, alignment, handles, start, int(final)
        )

    def _free_one(self, handle: int) -> bool:
        return self._pool_calls[1](self._arena, self._shelves, handle)

    def _free_many(self, handles: I64) -> None:
        pool_free_many(self._arena, self._shelves, handles)

    def trim(self) -> int:
        """Give everything that waits back to the arena, where it merges; the bytes."""
        with self._lock:
            cached = int(self._arena.info[0].shelved_bytes)
            return_all(self._arena, self._shelves)
            return cached

    def compact(
        self, until_bytes: int | None = None, *, pinned: Collection[int] = ()
    ) -> Compaction:
        """Trim, then compact as `GPUMemoryPool.compact`."""
        with self._lock:
            self.trim()
            return super().compact(until_bytes, pinned=pinned)

    def classes(self) -> tuple[ClassStatistics, ...]:
        """Return the size classes that were ever asked, the smallest first."""
        with self._lock:
            return tuple(
                ClassStatistics(
                    nbytes=int(shelf.length),
                    live=int(shelf.live),
                    cached=int(shelf.cached),
                    hits=int(shelf.hits),
                    misses=int(shelf.misses),
                    refilled=int(shelf.refilled),
                    returned=int(shelf.returned),
                    batch=int(shelf.batch),
                )
                for shelf in self._shelves.shelves
                if shelf.hits or shelf.misses
            )

    def check(self) -> None:
        """Verify all books; O(n), for tests. Raises: InvariantError."""
        with self._lock:
            super().check()
            check_shelves(self._arena, self._shelves)


@cache
def _direct_calls() -> tuple[Callable[..., int], Callable[..., bool]]:
    spare = make_arena(base=0, nbytes=4096, granule=16)
    shelves = make_shelves(class_lengths(16, 64), refill_bytes=64, interval=1)
    return (
        direct(pool_allocate_one, spare, shelves, 1, 1, 1),
        direct(pool_free_one, spare, shelves, NONE),
    )
