"""`HostTier`: which contents lie in a tier below the device, and in which of its slots.

Owns: the public face of the index: look up, reserve, pin, release, resize, clear. Leaves to others:
the bytes (`SwapManager`) and when a device writes and reads (`kvatlas.engine`, or the caller).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kvatlas.errors import InputError
from kvatlas.tiers import _entries_kernel as entries
from kvatlas.tiers._state_kernel import I32, I64, NONE
from kvatlas.tiers.build import make_store, occupied, ring
from kvatlas.tiers.check import check_store

__all__ = ["Evicted", "HostTier", "Reserved", "TierStats", "as_column", "as_keys", "leading"]

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
    """Pinned slots for the first contents of a batch: the rest found every slot pinned.

    Attributes:
        slots: (n,) the slots.
        fresh: (n,) True where the content must be written, False where it is there already.
    """

    slots: I32
    fresh: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Evicted:
    """Contents that had to go.

    Attributes:
        keys, slots: (n,) what, and where its bytes still are until the slot is taken again.
        parents, depths: (n,) as they were given; -1 where only LRU decides.
    """

    keys: I64
    slots: I32
    parents: I64
    depths: I64


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
        self.num_slots = _whole(num_slots, "num_slots")
        self._block_size = block_size
        self._store = make_store(self.num_slots, policy, block_size=block_size)

    def __len__(self) -> int:
        return int(self._store.info.used)

    def __contains__(self, key: int) -> bool:
        return self.slot_of(key) is not None

    def slot_of(self, key: int) -> int | None:
        """Return the slot that holds `key`, None without; changes nothing."""
        found = int(self.slots_of([key])[0])
        return None if found == NONE else found

    def slots_of(self, keys: ArrayLike) -> I32:
        """Return the slot of each key, -1 without; changes nothing. O(keys)."""
        asked = as_keys(keys)
        found = np.empty(asked.size, np.int32)
        entries.find_each(self._store, asked, found)
        return found

    def lookup(self, keys: ArrayLike) -> int:
        """Return how many of the leading `keys` are there; changes nothing. O(that many)."""
        return leading(self.slots_of(keys))

    def make_room(self, keys: ArrayLike) -> Evicted:
        """Evict what must go before `keys` can come in, and return it: its bytes are there still.

        For a caller who has somewhere to put them. O(batch), O(log C) by policy.
        """
        asked = as_keys(keys)
        gone = np.empty((asked.size, 4), np.int64)
        gone = gone[: int(entries.make_room(self._store, asked, gone))]
        return Evicted(gone[:, 0], gone[:, 1].astype(np.int32), gone[:, 2], gone[:, 3])

    def reserve(
        self, keys: ArrayLike, parents: ArrayLike | None = None, depths: ArrayLike | None = None
    ) -> Reserved:
        """Pin a slot for each of `keys`, evicting what is not pinned; `release` must follow.

        `parents` are the keys that they hang from, -1 for none, and `depths` their positions in
        their paths: policies that keep prefixes whole go by them. When every slot is pinned the
        last keys stay out, and `Reserved` is shorter than the batch.

        Raises: InputError for a key twice, or columns of another length.
        """
        asked = as_keys(keys)
        if np.unique(asked).size != asked.size:
            raise InputError("a content twice in one batch", field="keys", value=list(asked)[:8])
        above = as_column(parents, asked.size, NONE, "parents")
        depth = as_column(depths, asked.size, 0, "depths")
        slots, fresh = np.empty(asked.size, np.int32), np.empty(asked.size, np.int32)
        count = int(entries.reserve(self._store, asked, above, depth, slots, fresh))
        return Reserved(slots[:count], fresh[:count].astype(bool))

    def acquire(self, keys: ArrayLike, *, used: bool = True) -> I32:
        """Pin and return the slots of the leading `keys` that are there; `release` must follow.

        `used` counts it as a request's hit, by which policies judge.
        """
        slots = self.slots_of(keys)
        slots = slots[: leading(slots)]
        self.pin(slots, used=used)
        return slots

    def pin(self, slots: I32, *, used: bool = True) -> None:
        """Put a pin on each of `slots`, which hold something; `release` must follow."""
        entries.pin_each(self._store, slots, used)

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
        info = self._store.info
        if info.used > info.capacity:  # pins have kept a `resize` from its end until now
            entries.shrink(self._store, int(info.capacity))

    def discard(self, keys: ArrayLike) -> int:
        """Forget contents because their bytes are no good; return how many.

        O(1) expected each, O(slots) by a policy that keeps prefixes whole.

        Raises: InputError when one of them is pinned: whoever pins it counts on its slot. Then
            nothing is forgotten.
        """
        asked = as_keys(keys)
        self.require_unpinned(asked)
        count = 0
        for key in asked.tolist():
            slot = self.slot_of(key)
            if slot is not None:
                entries.discard(self._store, slot)
                count += 1
        return count

    def require_unpinned(self, keys: ArrayLike) -> None:
        """Refuse contents that somebody pins; O(keys). Raises: InputError."""
        asked = as_keys(keys)
        slots = self.slots_of(asked)
        asked, slots = asked[slots != NONE], slots[slots != NONE]
        pinned = asked[self._store.slots["pins"][slots] > 0]
        if pinned.size:
            raise InputError(
                "a content that is pinned cannot be forgotten",
                field="keys",
                value=int(pinned[0]),
                remedy="release it first",
            )

    def clear(self) -> int:
        """Forget everything, what the policy has learnt too; return how many there were. O(slots).

        Raises: InputError while something is pinned; then nothing is forgotten.
        """
        old = self._store.info
        if old.pinned:
            raise InputError(
                "contents are pinned", field="clear", value=int(old.pinned), remedy="release them"
            )
        self._store = make_store(self.num_slots, self.policy, block_size=self._block_size)
        for name in ("capacity", "inserts", "evictions", "refusals"):
            setattr(self._store.info, name, int(getattr(old, name)))
        return int(old.used)

    def resize(self, num_slots: int) -> int:
        """Hold at most `num_slots` from now on, evicting; return how many are held.

        More than asked are held while pins forbid it; those go when they are released. The tier
        cannot grow beyond the slots it was made with. O(evictions). Raises: InputError.
        """
        num_slots = _whole(num_slots, "num_slots")
        if not 1 <= num_slots <= self.num_slots:
            raise InputError(
                f"a tier of {self.num_slots:,} slots",
                field="num_slots",
                value=num_slots,
                remedy=f"give 1 to {self.num_slots:,}",
            )
        self._store.info.capacity = num_slots
        return int(entries.shrink(self._store, num_slots))

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


def leading(slots: I32) -> int:
    """Return how many of the first `slots` are there."""
    missing = np.flatnonzero(slots == NONE)
    return int(missing[0]) if missing.size else int(slots.size)


def as_keys(keys: ArrayLike | Sequence[int]) -> I64:
    """Return keys as an array. Raises: InputError for one that is no number from 0 to 2**62 - 1."""
    try:
        given = _whole_numbers(keys)
    except (OverflowError, TypeError, ValueError) as error:
        raise InputError("keys must be whole numbers", field="keys") from error
    if given.size and (int(given.min()) < 0 or int(given.max()) >= _LARGEST_KEY):
        bad = given[(given < 0) | (given >= _LARGEST_KEY)][0]
        raise InputError("a key is a number from 0 to below 2**62", field="keys", value=int(bad))
    return given


def as_column(given: ArrayLike | None, count: int, otherwise: int, field: str) -> I64:
    """Return `count` numbers, `otherwise` where nothing is given. Raises: InputError."""
    if given is None:
        return np.full(count, otherwise, np.int64)
    try:
        column = _whole_numbers(given)
    except (OverflowError, TypeError, ValueError) as error:
        raise InputError("must be whole numbers", field=field) from error
    if column.size != count:
        raise InputError("one for each key", field=field, value=column.size, remedy=f"give {count}")
    return column


def _whole_numbers(given: ArrayLike) -> I64:
    """Return a flat array; no float is cut and no bool counted. Raises: TypeError, ValueError."""
    numbers = np.asarray(given)
    if numbers.size and numbers.dtype.kind not in "iu":
        raise TypeError(f"{numbers.dtype} is no type of whole numbers")
    return np.ascontiguousarray(numbers, np.int64).ravel()


def _whole(given: int, field: str) -> int:
    """Return a size as an int, a NumPy integer too. Raises: InputError."""
    try:
        if isinstance(given, bool):
            raise TypeError("a bool")
        return index(given)
    except TypeError as error:
        raise InputError("must be a whole number", field=field, value=given) from error
