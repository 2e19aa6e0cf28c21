"""Who goes first: the key under which each policy puts an item into a heap.

Owns: `offer`, and the policies that are nothing but a key: LRU, FIFO, LFU, one-hit-first,
compute-aware and the optimum. Leaves to others: heaps (`_heap_kernel`), when an item can be evicted
(`_hooks_kernel`), and the policies that move items between queues (`_queues_kernel`).

A key is (priority, order), the smaller first. The order is the stamp of the last time the item was
given back; a request gives its deepest block back first.
"""

from __future__ import annotations

from kvatlas.eviction import _heap_kernel as heap_
from kvatlas.eviction._sessions_kernel import class_of
from kvatlas.eviction._state_kernel import (
    COMPUTE_AWARE,
    FIFO,
    LFU,
    MAIN,
    NONE,
    ONE_HIT_FIRST,
    OPTIMUM,
    RETURN_RATE,
    S3_FIFO,
    SESSION_AWARE,
    SIEVE,
    TWO_Q,
    Eviction,
)
from kvatlas.jit import inlined, kernel


@inlined
def heap_for(eviction: Eviction, item: int) -> int:
    """Return the heap that `item` belongs into."""
    code = eviction.info.code
    if code == TWO_Q or code == S3_FIFO:
        return int(eviction.items[item].heap)
    if code == SESSION_AWARE:
        return class_of(int(eviction.items[item].turn))
    if code == RETURN_RATE:
        return int(eviction.items[item].mark)
    return 0


@inlined
def priority_of(eviction: Eviction, item: int) -> float:
    """Return the first number of the item's key."""
    code, it = eviction.info.code, eviction.items[item]
    if code == LFU:
        return float(it.uses)
    if code == ONE_HIT_FIRST:
        return 1.0 if it.uses > 1 else 0.0
    if code == COMPUTE_AWARE:
        # GreedyDual: what recomputing a block costs in linear work, 1, and in attention, which
        # grows with its depth; the clock at its last use ages it.
        return float(it.weight + 1.0 + eviction.info.slope * it.depth)
    if code == OPTIMUM or code == SIEVE:
        return float(it.weight)
    return 0.0


@inlined
def order_of(eviction: Eviction, item: int) -> int:
    """Return the second number of the item's key."""
    code, it = eviction.info.code, eviction.items[item]
    if code == FIFO or code == SIEVE or code == S3_FIFO or (code == TWO_Q and it.heap != MAIN):
        return int(it.queued)
    return int(it.stamp)


@kernel
def offer(eviction: Eviction, item: int) -> None:
    """Let `item`, which is in no heap, be evicted from now on; O(log size)."""
    heap_.push(
        eviction,
        heap_for(eviction, item),
        item,
        priority_of(eviction, item),
        order_of(eviction, item),
    )


@kernel
def offer_again(eviction: Eviction, item: int) -> None:
    """Put `item` where its key, which may have changed, belongs; O(log size)."""
    if eviction.items[item].place == NONE:
        offer(eviction, item)
    elif eviction.items[item].heap == heap_for(eviction, item):
        heap_.change(eviction, item, priority_of(eviction, item), order_of(eviction, item))
    else:
        heap_.remove(eviction, item)
        offer(eviction, item)


@kernel
def offer_instead(eviction: Eviction, gone: int, item: int) -> None:
    """Let `item` be evicted from now on and `gone`, a heap's top, no longer; mostly O(1)."""
    heap = heap_for(eviction, item)
    if eviction.items[gone].heap == heap:
        heap_.replace_top(
            eviction, heap, item, priority_of(eviction, item), order_of(eviction, item)
        )
    else:
        heap_.remove(eviction, gone)
        offer(eviction, item)
