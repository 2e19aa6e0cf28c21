"""Invariants of a tier, checked the slow and obvious way.

Owns: what must hold after every operation. Leaves to others: making it hold. O(slots).
"""

from __future__ import annotations

from kvatlas.errors import InvariantError
from kvatlas.eviction.check import check_eviction
from kvatlas.tiers import _index_kernel as index_
from kvatlas.tiers._state_kernel import I32, I64, NONE, Store, Tier
from kvatlas.tiers.build import occupied, ring

__all__ = ["check_store", "check_tier"]


def _require(holds: bool, promise: str) -> None:
    if not holds:
        raise InvariantError(promise)


def check_tier(tier: Tier) -> None:
    """Check a tier between two steps: its store, and that nothing is left in transit.

    Raises: InvariantError naming the first promise that is broken.
    """
    check_store(tier.store)
    _require(int(tier.store.info.pinned) == 0, "a slot is still pinned after a step")
    _require(int(tier.info.found) == 0, "a request's finds outlived its admission")
    _require(int(tier.info.lost_moves) == 0, "a move found no room in the list")


def check_store(store: Store) -> None:
    """Check ring, index, pins and links against each other.

    Raises: InvariantError naming the first promise that is broken.
    """
    info, slots = store.info, occupied(store)
    _require(len(slots) == int(info.used), "the number of used slots is wrong")
    most = max(int(info.capacity), int(info.pinned))  # pins may keep a `resize` from its end
    _require(int(info.used) <= most, "the tier holds more than its capacity")
    keys = [int(store.keys[slot]) for slot in slots]
    _require(len(set(keys)) == len(keys), "a content lies in two slots")
    _check_index(store.places, store.keys, slots, "the index")
    pins = {slot: int(store.slots[slot].pins) for slot in slots}
    _require(min(pins.values(), default=0) >= 0, "a slot has fewer than no pins")
    _require(sum(count > 0 for count in pins.values()) == int(info.pinned), "pins are miscounted")
    loose = {slot for slot, count in pins.items() if count == 0}
    if store.eviction is None:
        order = ring(store)
        _require(len(order) == len(set(order)), "the ring visits a slot twice")
        _require(set(order) == loose, "the ring is not the unpinned slots")
        sentinel = store.slots.shape[0] - 1
        for older, newer in zip([sentinel, *order], [*order, sentinel], strict=True):
            _require(int(store.slots[newer].older) == older, f"slot {newer}: a wrong back link")
        return
    check_eviction(store.eviction)
    for slot, count in pins.items():
        item = store.eviction.items[slot]
        _require(int(item.cached) == 1, f"the policy does not know slot {slot}")
        _require(bool(item.held) == (count > 0), f"the policy is wrong on the pins of slot {slot}")
    known = int(store.eviction.items["cached"].sum())
    _require(known == len(slots), "the policy believes in contents that are not there")
    if info.by_leaf:
        _check_links(store, slots, loose)


def _check_links(store: Store, slots: list[int], loose: set[int]) -> None:
    """Check that every unpinned content is linked to what it hangs from, or waits for it."""
    eviction = store.eviction
    if eviction is None:
        return
    slot_of = {int(store.keys[slot]): slot for slot in slots}
    firsts = []
    for slot in slots:
        record, above = store.slots[slot], int(store.above[slot])
        parent = slot_of.get(above, NONE)
        waits = slot in loose and above != NONE and parent == NONE
        _require(bool(record.waits) == waits, f"slot {slot} waits for what is there, or does not")
        if slot in loose and parent != NONE:
            item, over = eviction.items[slot], eviction.items[parent]
            linked = int(item.parent) == parent and int(item.parent_born) == int(over.born)
            _require(linked, f"slot {slot} does not hang from slot {parent}")
        if waits and int(record.before) == NONE:
            firsts.append(slot)
        if waits and int(record.behind) != NONE:
            behind = store.slots[int(record.behind)]
            _require(int(behind.before) == slot, f"slot {slot}: the next orphan's back link")
    _check_index(store.orphans, store.above, firsts, "the index of orphans")


def _check_index(index: I32, names: I64, numbers: list[int], what: str) -> None:
    filed = sorted(int(held) - 1 for held in index[index != 0])
    _require(filed == sorted(numbers), f"{what} does not hold what it should")
    lost = int(index_.first_lost(index, names))
    _require(lost == NONE, f"{what} does not find {lost}")
