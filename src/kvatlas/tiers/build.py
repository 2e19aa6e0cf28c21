"""Arrays for a tier: sizes them, fills in the first state.

Owns: the first state of every array. Leaves to others: all later changes (`_store_kernel`, the
engine's `tiering`), which policies there are (`registry`).
"""

from __future__ import annotations

import numpy as np

from kvatlas.errors import InputError
from kvatlas.eviction._state_kernel import Eviction
from kvatlas.eviction.build import make_eviction
from kvatlas.eviction.registry import policy
from kvatlas.records import one_record, records
from kvatlas.tiers._state_kernel import NONE, SLOT, STORE_INFO, TIER_INFO, Store, Tier
from kvatlas.tiers.registry import SWAPS, WRITE_BACKS, require_policy

__all__ = ["make_store", "make_tier"]

_MOST_SLOTS = 2**30


def make_store(
    num_slots: int, name: str = "lru", *, block_size: int = 16, num_keys: int | None = None
) -> Store:
    """Return an empty store of `num_slots` slots under the policy `name`.

    Args:
        num_slots: contents that it holds at most, at least 1.
        name: one of `TIER_POLICIES`.
        block_size: tokens per block, for the policies that weigh depth.
        num_keys: keys are below this number; None when they may be any.

    Memory: 60 bytes per slot ever used; a policy takes another 130.
    Raises: InputError.
    """
    if not 1 <= num_slots <= _MOST_SLOTS:
        raise InputError(
            f"a tier has 1 to {_MOST_SLOTS:,} slots", field="host_blocks", value=num_slots
        )
    require_policy(name)
    places = 1 << (2 * num_slots - 1).bit_length()
    chooser: Eviction | None = None
    if name != "lru":
        chooser = make_eviction(
            policy(name),
            num_items=num_slots,
            capacity=num_slots,
            block_size=block_size,
            num_contents=num_keys,
        )
    by_leaf = chooser is not None and policy(name).by_leaf
    slots = records(num_slots + 1, SLOT)
    slots[num_slots].older = slots[num_slots].newer = num_slots
    return Store(
        keys=np.zeros(num_slots, np.int64),
        above=np.zeros(num_slots if chooser is not None else 1, np.int64),
        slots=slots,
        places=np.zeros(places, np.int32),
        orphans=np.zeros(places if by_leaf else 2, np.int32),
        eviction=chooser,
        info=one_record(STORE_INFO, capacity=num_slots, by_leaf=int(by_leaf)),
    )


def make_tier(
    store: Store,
    *,
    write_back: str,
    swap: str,
    ms_per_block: float,
    ms_per_token: float,
    num_blocks: int,
    width: int,
    num_moves: int = 0,
) -> Tier:
    """Return the tier of an engine.

    Args:
        store: an empty store.
        write_back: one of `WRITE_BACKS`; swap: one of `SWAPS`.
        ms_per_block: milliseconds that a block is under way, either direction.
        ms_per_token: milliseconds that computing a token again takes.
        num_blocks: the device's blocks; width: the longest block table.
        num_moves: rows of the list of moves, 0 for none.
    """
    noted = num_blocks if store.eviction is not None else 1
    info = one_record(TIER_INFO, write_back=WRITE_BACKS[write_back], swap=SWAPS[swap])
    info.ms_per_block, info.ms_per_token = ms_per_block, ms_per_token
    return Tier(
        store=store,
        found=np.zeros(max(1, width), np.int32),
        above=np.zeros(noted, np.int64),
        depth=np.zeros(noted, np.int32),
        moves=np.zeros((num_moves, 3), np.int32),
        info=info,
    )


def occupied(store: Store) -> list[int]:
    """Return the slots that hold a content, in the order of their numbers; O(slots ever used)."""
    empty, slot = set(), int(store.info.empty)
    while slot != 0:
        empty.add(slot - 1)
        slot = int(store.slots[slot - 1].newer)
        if len(empty) > int(store.info.fresh):
            break  # a circle: `check_store` says so
    return [slot for slot in range(int(store.info.fresh)) if slot not in empty]


def ring(store: Store) -> list[int]:
    """Return the unpinned slots from the oldest to the youngest; empty under a policy; O(slots)."""
    sentinel = store.slots.shape[0] - 1
    order: list[int] = []
    slot = int(store.slots[sentinel].newer)
    while slot not in (sentinel, NONE) and len(order) <= sentinel:
        order.append(slot)
        slot = int(store.slots[slot].newer)
    return order
