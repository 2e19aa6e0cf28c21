"""The rules of a tier: contents come in, are pinned while in transit, and go when room is needed.

Owns: slots, pins, the LRU ring, and what hangs from what when a policy must know. Leaves to others:
the index's inside (`_index_kernel`), the choice of a policy (`kvatlas.eviction`), bytes.

Pinning takes a slot out of the ring and unpinning puts it at its young end, as a device's free
queue does with its blocks: a content that is used, or written once more, becomes the youngest.

Contents arrive in any order: a device evicts a request's deepest block first, so a block mostly
comes before what it hangs from. Such a block waits as an *orphan* under the key above it, and is
linked when that arrives, so that a policy by leaf never leaves a hole.
"""

from __future__ import annotations

from kvatlas.eviction import _hooks_kernel as hooks
from kvatlas.eviction._state_kernel import Eviction
from kvatlas.jit import inlined, kernel
from kvatlas.tiers import _index_kernel as index_
from kvatlas.tiers._state_kernel import NONE, Store

_MASK62 = 0x3FFFFFFFFFFFFFFF


@inlined
def find(store: Store, key: int) -> int:
    """Return the slot that holds `key`, NONE without; O(1) expected."""
    return index_.find(store.places, store.keys, key)


@kernel
def insert(store: Store, key: int, above: int, depth: int) -> int:
    """Give `key`, which is not there, a slot, pinned once; O(1) expected, O(log C) by policy.

    `above` is the key that it hangs from (NONE: nothing) and `depth` its position in its path; only
    a policy looks at them. Returns NONE when every slot is pinned.
    """
    slot = _take(store)
    if slot == NONE:
        store.info.refusals += 1
        return NONE
    record = store.slots[slot]
    record.pins = 1
    record.depth = depth
    record.waits = 0
    store.keys[slot] = key
    index_.add(store.places, store.keys, slot)
    info = store.info
    info.used += 1
    info.pinned += 1
    info.inserts += 1
    _tell_inserted(store, store.eviction, slot, above, depth)
    return slot


@inlined
def pin(store: Store, slot: int) -> None:
    """Keep `slot` from being evicted once more; O(1), O(log C) by policy."""
    record = store.slots[slot]
    record.pins += 1
    if record.pins == 1:
        store.info.pinned += 1
        _leave_ring(store, store.eviction, slot)
        _tell_pinned(store, store.eviction, slot)


@inlined
def unpin(store: Store, slot: int) -> None:
    """Take a pin off; without any the slot becomes the youngest; O(1), O(log C) by policy."""
    record = store.slots[slot]
    record.pins -= 1
    if record.pins == 0:
        store.info.pinned -= 1
        _enter_ring(store, store.eviction, slot)
        _tell_released(store, store.eviction, slot)


@inlined
def refresh(store: Store, slot: int) -> None:
    """Make `slot` the youngest, unless it is pinned."""
    if store.slots[slot].pins == 0:
        pin(store, slot)
        unpin(store, slot)


@kernel
def evict(store: Store) -> int:
    """Forget the content that goes next; return its slot, NONE when all are pinned or empty.

    O(1) expected, O(log C) by policy.
    """
    slot = _victim(store, store.eviction)
    if slot == NONE:
        return NONE
    _leave_ring(store, store.eviction, slot)
    _tell_removed(store, store.eviction, slot, True)
    _empty(store, slot)
    store.info.evictions += 1
    return slot


@kernel
def discard(store: Store, slot: int) -> None:
    """Forget the content of `slot`, whoever pins it; O(1) expected, O(C) by a policy by leaf."""
    record = store.slots[slot]
    if record.pins == 0:
        _leave_ring(store, store.eviction, slot)
    else:
        record.pins = 0
        store.info.pinned -= 1
    key = int(store.keys[slot])
    _tell_removed(store, store.eviction, slot, False)
    _empty(store, slot)
    if store.info.by_leaf != 0:
        # What hung from it waits for it again.
        for child in range(store.info.fresh):
            other = store.slots[child]
            here = index_.find(store.places, store.keys, store.keys[child]) == child
            if here and other.pins == 0 and other.waits == 0 and store.above[child] == key:
                _wait(store, child)


@inlined
def _empty(store: Store, slot: int) -> None:
    index_.take_out(store.places, store.keys, slot)
    store.slots[slot].newer = store.info.empty
    store.info.empty = slot + 1
    store.info.used -= 1


@inlined
def _take(store: Store) -> int:
    """Return an empty slot, making one of the victim if need be, NONE when all are pinned."""
    info = store.info
    if info.used >= info.capacity and evict(store) == NONE:
        return NONE
    if info.empty == 0:
        info.fresh += 1
        return int(info.fresh - 1)
    slot = int(info.empty - 1)
    info.empty = store.slots[slot].newer
    return slot


@inlined
def _victim(store: Store, eviction: Eviction | None) -> int:
    if eviction is not None:
        return int(hooks.victim(eviction))
    sentinel = store.slots.shape[0] - 1
    oldest = int(store.slots[sentinel].newer)
    return NONE if oldest == sentinel else oldest


@inlined
def _leave_ring(store: Store, eviction: Eviction | None, slot: int) -> None:
    if eviction is not None:
        return
    record = store.slots[slot]
    store.slots[record.older].newer = record.newer
    store.slots[record.newer].older = record.older


@inlined
def _enter_ring(store: Store, eviction: Eviction | None, slot: int) -> None:
    if eviction is not None:
        return
    sentinel = store.slots.shape[0] - 1
    youngest = int(store.slots[sentinel].older)
    record = store.slots[slot]
    record.older = youngest
    record.newer = sentinel
    store.slots[youngest].newer = slot
    store.slots[sentinel].older = slot


@inlined
def _content(eviction: Eviction, key: int) -> int:
    """Return the number under which the policy remembers `key`."""
    return int(key & _MASK62) if eviction.info.memory_mask >= 0 else int(key)


@inlined
def _tell_inserted(
    store: Store, eviction: Eviction | None, slot: int, above: int, depth: int
) -> None:
    """Let the policy know a new, pinned content, and link to it what has waited for it."""
    if eviction is None:
        return
    store.above[slot] = above
    key = int(store.keys[slot])
    hooks.inserted(eviction, slot, _content(eviction, key), _slot_above(store, slot), depth)
    if store.info.by_leaf == 0:
        return
    child = index_.find(store.orphans, store.above, key)
    if child == NONE:
        return
    index_.take_out(store.orphans, store.above, child)
    while child != NONE:
        record = store.slots[child]
        record.waits = 0
        hooks.link(eviction, child, slot)
        child = int(record.behind)


@inlined
def _tell_pinned(store: Store, eviction: Eviction | None, slot: int) -> None:
    if eviction is None:
        return
    _stop_waiting(store, slot)
    hooks.pinned(eviction, slot)


@inlined
def _tell_released(store: Store, eviction: Eviction | None, slot: int) -> None:
    """Let the policy know that `slot` may go, but not before what hangs from it."""
    if eviction is None:
        return
    parent = _slot_above(store, slot)
    hooks.released(eviction, slot, parent)
    if store.info.by_leaf != 0 and parent == NONE and store.above[slot] != NONE:
        _wait(store, slot)


@inlined
def _tell_removed(store: Store, eviction: Eviction | None, slot: int, evicted: bool) -> None:
    if eviction is None:
        return
    _stop_waiting(store, slot)
    hooks.removed(eviction, slot, _content(eviction, int(store.keys[slot])), evicted)


@inlined
def tell_used(store: Store, eviction: Eviction | None, slot: int) -> None:
    """A request found its content in `slot`."""
    if eviction is None:
        return
    hooks.used(eviction, slot)


@inlined
def tell_request(store: Store, eviction: Eviction | None) -> None:
    """A request begins: the policies' clock."""
    if eviction is None:
        return
    hooks.request_begins(eviction)


@inlined
def _slot_above(store: Store, slot: int) -> int:
    above = int(store.above[slot])
    return NONE if above == NONE else index_.find(store.places, store.keys, above)


@inlined
def _wait(store: Store, slot: int) -> None:
    """Put `slot` before the others that wait for the same content."""
    record = store.slots[slot]
    first = index_.find(store.orphans, store.above, int(store.above[slot]))
    record.waits = 1
    record.before = NONE
    record.behind = first
    if first == NONE:
        index_.add(store.orphans, store.above, slot)
    else:
        store.slots[first].before = slot
        index_.replace(store.orphans, store.above, first, slot)


@inlined
def _stop_waiting(store: Store, slot: int) -> None:
    record = store.slots[slot]
    if record.waits == 0:
        return
    record.waits = 0
    if record.behind != NONE:
        store.slots[record.behind].before = record.before
    if record.before != NONE:
        store.slots[record.before].behind = record.behind
    elif record.behind != NONE:
        index_.replace(store.orphans, store.above, slot, int(record.behind))
    else:
        index_.take_out(store.orphans, store.above, slot)
