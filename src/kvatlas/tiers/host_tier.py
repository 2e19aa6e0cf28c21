"""`HostTier`: which contents lie in a tier below the device, and in which of its slots.

Owns: the public face of the index: look up, reserve, pin, release, resize. Leaves to others: the
bytes (`SwapManager`) and when a device writes and reads (`kvatlas.engine`, or the caller).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kvatlas.errors import InputError
from kvatlas.tiers import _entries_kernel as entries
from kvatlas.tiers._state_kernel import I32, I64, NONE
from kvatlas.tiers.build import make_store, occupied, ring
from kvatlas.tiers.check import check_store

__all__ = ["HostTier", "Reserved", "TierStats"]

_LARGEST_KEY = 2**62


@dataclass(frozen=True, slots=True)
class TierStats:
    """What a tier has done so far, in contents (blocks).

    Attributes:
        capacity, used, pinned: slots.
        inserts: contents that came in; evictions: contents that had to go for others.
        refusals: contents that found every slot pinned and stayed out.
    """

    capacity: int
    used: int
    pinned: int
    inserts: int
    evictions: int
    refusals: int


@dataclass(frozen=True, slots=True, eq=False)
class Reserved:
    """Pinned slots for the contents `keys[first:]` of a batch.

    Attributes:
        first: keys before this one found every slot pinned and have none.
        slots: (n - first,) the slots.
        fresh: (n - first,) True where the content must be written, False where it is there already.
    """

    first: int
    slots: I32
    fresh: NDArray[np.bool_]


class HostTier:
    """An index from content to slot under an eviction policy, O(1) per content by LRU.

    Args:
        num_slots: contents that it holds at most.
        policy: one of `TIER_POLICIES`; `lru` evicts what has been unused for longest.
        block_size: tokens per block, for the policies that weigh depth.

    Raises:
        InputError: no slot, an unknown policy, or one that a tier cannot run.
    """

    def __init__(self, num_slots: int, policy: str = "lru", *, block_size: int = 16) -> None:
        self.policy = policy
        self.num_slots = num_slots
        self._store = make_store(num_slots, policy, block_size=block_size)

    def __len__(self) -> int:
        return int(self._store.info.used)

    def __contains__(self, key: int) -> bool:
        return self.slot_of(key) is not None

    def slot_of(self, key: int) -> int | None:
        """Return the slot that holds `key`, None without; changes nothing."""
        found = np.empty(1, np.int32)
        entries.find_each(self._store, as_keys([key]), found)
        return None if found[0] == NONE else int(found[0])

    def lookup(self, keys: ArrayLike) -> int:
        """Return how many of the leading `keys` are there; changes nothing. O(that many)."""
        return int(entries.leading(self._store, as_keys(keys)))

    def reserve(self, keys: ArrayLike, *, parent: int | None = None, depth: int = 0) -> Reserved:
        """Pin a slot for each of `keys`, evicting what is not pinned; `release` must follow.

        `keys` are consecutive blocks of one path; `parent` is the key before the first and `depth`
        its position (policies that keep prefixes whole go by them). When every slot is pinned the
        beginning of the path stays out: `Reserved.first`. Raises: InputError for a key twice.
        """
        asked = as_keys(keys)
        if np.unique(asked).size != asked.size:
            raise InputError("a content twice in one batch", field="keys", value=list(asked)[:8])
        above = np.empty_like(asked)
        above[1:] = asked[:-1]
        above[:1] = NONE if parent is None else parent
        slots, fresh = np.empty(asked.size, np.int32), np.empty(asked.size, np.int32)
        first = asked.size - int(entries.reserve(self._store, asked, above, depth, slots, fresh))
        return Reserved(first, slots[first:], fresh[first:].astype(bool))

    def acquire(self, keys: ArrayLike, *, used: bool = True) -> I32:
        """Pin and return the slots of the leading `keys` that are there; `release` must follow.

        `used` counts it as a request's hit, by which policies judge.
        """
        asked = as_keys(keys)
        slots = np.empty(asked.size, np.int32)
        return slots[: int(entries.pin_leading(self._store, asked, slots, used))]

    def release(self, slots: ArrayLike) -> None:
        """Take a pin off each of `slots`: the first of them are the youngest from now on.

        Raises: InputError for a slot without a pin.
        """
        given = np.ascontiguousarray(slots, np.int32)
        fits = not given.size or (int(given.min()) >= 0 and int(given.max()) < self.num_slots)
        slots, counts = np.unique(given, return_counts=True)
        if not fits or (counts > self._store.slots["pins"][slots]).any():
            raise InputError("a slot that is not pinned", field="slots", value=given.tolist()[:8])
        entries.unpin_each(self._store, given)

    def resize(self, num_slots: int) -> int:
        """Hold at most `num_slots` from now on, evicting; return how many are held.

        More than asked are held while pins forbid it. The tier cannot grow beyond the slots it was
        made with. O(evictions). Raises: InputError.
        """
        if not 1 <= num_slots <= self.num_slots:
            raise InputError(
                f"a tier of {self.num_slots:,} slots",
                field="num_slots",
                value=num_slots,
                remedy=f"give 1 to {self.num_slots:,}",
            )
        held = int(entries.shrink(self._store, num_slots))
        self._store.info.capacity = max(num_slots, held)
        return held

    def keys(self) -> list[int]:
        """Return the contents; by LRU from the one that goes first, pinned ones left out. O(C)."""
        slots = ring(self._store) if self._store.eviction is None else occupied(self._store)
        return [int(self._store.keys[slot]) for slot in slots]

    @property
    def stats(self) -> TierStats:
        """What has happened so far."""
        info = self._store.info
        return TierStats(
            capacity=int(info.capacity),
            used=int(info.used),
            pinned=int(info.pinned),
            inserts=int(info.inserts),
            evictions=int(info.evictions),
            refusals=int(info.refusals),
        )

    def check(self) -> None:
        """Verify every invariant. O(slots). Raises: InvariantError."""
        check_store(self._store)


def as_keys(keys: ArrayLike | Sequence[int]) -> I64:
    """Return keys as an array. Raises: InputError for one that is no number from 0 to 2**62 - 1."""
    try:
        given = np.ascontiguousarray(keys, np.int64).ravel()
    except (OverflowError, TypeError, ValueError) as error:
        raise InputError("keys must be whole numbers", field="keys") from error
    if given.size and (int(given.min()) < 0 or int(given.max()) >= _LARGEST_KEY):
        bad = given[(given < 0) | (given >= _LARGEST_KEY)][0]
        raise InputError("a key is a number from 0 to below 2**62", field="keys", value=int(bad))
    return given
