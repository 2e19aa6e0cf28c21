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
def leading(store: Store, keys: I64) -> int:
    """Return how many of the first keys are there, up to the first that is not; O(that)."""
    count = 0
    while count < keys.shape[0] and store_.find(store, keys[count]) != NONE:
        count += 1
    return count


@entry
def reserve(store: Store, keys: I64, above: I64, first_depth: int, out: I32, fresh: I32) -> int:
    """Pin a slot for each key; 1 in `fresh` where the content must be written; return how many.

    What is there is pinned first, so that it makes no room for the others. New contents come in
    from the last: at one that finds every slot pinned it ends, and keys `[0, n - returned)` have no
    slot.
    """
    for i in range(keys.shape[0]):
        slot = store_.find(store, keys[i])
        out[i] = slot
        fresh[i] = 1 if slot == NONE else 0
        if slot != NONE:
            store_.pin(store, slot)
    for i in range(keys.shape[0] - 1, -1, -1):
        if fresh[i] == 0:
            continue
        slot = store_.insert(store, keys[i], above[i], first_depth + i)
        if slot == NONE:
            for k in range(i - 1, -1, -1):
                if fresh[k] == 0:
                    store_.unpin(store, int(out[k]))
            return keys.shape[0] - 1 - i
        out[i] = slot
    return int(keys.shape[0])


@entry
def pin_leading(store: Store, keys: I64, out: I32, used: bool) -> int:
    """Pin the slots of the leading keys that are there, as a request's finds; return how many."""
    if used:
        store_.tell_request(store, store.eviction)
    count = 0
    for i in range(keys.shape[0]):
        slot = store_.find(store, keys[i])
        if slot == NONE:
            break
        if used:
            store_.tell_used(store, store.eviction, slot)
        store_.pin(store, slot)
        out[i] = slot
        count += 1
    return count


@entry
def unpin_each(store: Store, slots: I32) -> None:
    """Take a pin off each of `slots`, the last first."""
    for i in range(slots.shape[0] - 1, -1, -1):
        store_.unpin(store, int(slots[i]))


@entry
def shrink(store: Store, capacity: int) -> int:
    """Evict until `capacity` or fewer are held; return how many are, more when pins forbid it."""
    while store.info.used > capacity and store_.evict(store):
        pass
    return int(store.info.used)
