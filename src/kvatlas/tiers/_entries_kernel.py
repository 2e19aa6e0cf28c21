"""The kernels that `HostTier` calls, a batch of contents at a time.

Owns: nothing but the doors: each entry compiles on its first call and is kept on disk. Leaves to
others: the rules behind them (`_store_kernel`).
"""

from __future__ import annotations

from kvatlas.jit import entry
from kvatlas.tiers import _store_kernel as store_
from kvatlas.tiers._state_kernel import I32, I64, NONE, Store


@entry
def find_each(store: Store, keys: I64, out: I32) -> None:
    """Write the slot of each key, NONE without."""
    for i in range(keys.shape[0]):
        out[i] = store_.find(store, keys[i])


@entry
def reserve(store: Store, keys: I64, above: I64, depth: I64, out: I32, fresh: I32) -> int:
    """Pin a slot for each key; 1 in `fresh` where the content must be written; return how many.

    What is there is pinned first, so that it makes no room for the others. At the first new one
    that finds every slot pinned it ends: it and those behind it have no slot.
    """
    for i in range(keys.shape[0]):
        slot = store_.find(store, keys[i])
        out[i] = slot
        fresh[i] = 1 if slot == NONE else 0
        if slot != NONE:
            store_.pin(store, slot)
    for i in range(keys.shape[0]):
        if fresh[i] == 0:
            continue
        slot = store_.insert(store, keys[i], above[i], depth[i])
        if slot == NONE:
            for k in range(keys.shape[0] - 1, i, -1):
                if fresh[k] == 0:
                    store_.unpin(store, int(out[k]))
            return i
        out[i] = slot
    return int(keys.shape[0])


@entry
def make_room(store: Store, keys: I64, gone: I64) -> int:
    """Evict what must go before `keys` can come in; return how many, (key, slot, above, depth).

    None of `keys` is evicted; what is there of them becomes the youngest, the first of all. The
    slots keep their bytes until somebody takes them.
    """
    info = store.info
    fresh = 0
    for i in range(keys.shape[0]):
        slot = store_.find(store, keys[i])
        if slot != NONE:
            store_.pin(store, slot)
        else:
            fresh += 1
    count = 0
    while info.used > 0 and info.used + fresh > info.capacity and count < gone.shape[0]:
        slot = store_.evict(store)
        if slot == NONE:
            break
        gone[count, 0] = store.keys[slot]
        gone[count, 1] = slot
        gone[count, 2] = store.above[slot] if store.above.shape[0] > 1 else NONE
        gone[count, 3] = store.slots[slot].depth
        count += 1
    for i in range(keys.shape[0] - 1, -1, -1):
        slot = store_.find(store, keys[i])
        if slot != NONE:
            store_.unpin(store, slot)
    return count


@entry
def discard(store: Store, slot: int) -> None:
    """Forget the content of `slot`, whoever pins it; O(1) expected, O(C) by a policy by leaf."""
    store_.discard(store, slot)


@entry
def pin_each(store: Store, slots: I32, used: bool) -> None:
    """Put a pin on each of `slots`, as a request's finds where `used`."""
    if used:
        store_.tell_request(store, store.eviction)
    for i in range(slots.shape[0]):
        if used:
            store_.tell_used(store, store.eviction, int(slots[i]))
        store_.pin(store, int(slots[i]))


@entry
def unpin_each(store: Store, slots: I32) -> None:
    """Take a pin off each of `slots`, the last first."""
    for i in range(slots.shape[0] - 1, -1, -1):
        store_.unpin(store, int(slots[i]))


@entry
def shrink(store: Store, capacity: int) -> int:
    """Evict until `capacity` or fewer are held; return how many are, more when pins forbid it."""
    while store.info.used > capacity and store_.evict(store) != NONE:
        pass
    return int(store.info.used)
