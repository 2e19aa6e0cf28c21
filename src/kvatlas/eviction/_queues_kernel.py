"""FIFO, 2Q, S3-FIFO and SIEVE as published: queues, without regard to what hangs from what.

Owns: which queue an item enters, and how the two-queue policies and SIEVE choose. Leaves to others:
the heaps that stand for the queues, in which a held item is simply absent (`_heap_kernel`).

Sources: 2Q (Johnson and Shasha, VLDB 1994, the full version: Kin 25%, Kout 50% of the capacity);
S3-FIFO (Yang et al., SOSP 2023: small queue 10%, ghosts as many as the main queue holds, two bits
of frequency); SIEVE (Zhang et al., NSDI 2024).
"""

from __future__ import annotations

from kvatlas.eviction import _heap_kernel as heap_
from kvatlas.eviction import _memory_kernel as memory_
from kvatlas.eviction._keys_kernel import offer
from kvatlas.eviction._state_kernel import FIRST, MAIN, NONE, S3_FIFO, SIEVE, TWO_Q, Eviction
from kvatlas.jit import inlined, kernel

_MOST_HITS = 3


@kernel
def enters(eviction: Eviction, item: int, content: int) -> None:
    """Choose the queue of a new item: a ghost goes to the main queue at once."""
    code = eviction.info.code
    heap = FIRST
    if (code == TWO_Q or code == S3_FIFO) and memory_.recall(eviction, content):
        heap = MAIN
    eviction.items[item].heap = heap
    eviction.members[heap] += 1


@inlined
def hit(eviction: Eviction, item: int) -> None:
    """Note a hit; nothing moves until its turn to be evicted comes."""
    code, it = eviction.info.code, eviction.items[item]
    if code == SIEVE:
        it.mark = 1
    elif code == S3_FIFO and it.mark < _MOST_HITS:
        it.mark += 1


@inlined
def returns(eviction: Eviction, item: int) -> None:
    """Ready the key of an item that nobody holds any more."""
    it = eviction.items[item]
    if it.queued == 0:
        it.queued = it.stamp
        it.weight = eviction.info.hand_round
    elif eviction.info.code == SIEVE and it.weight <= eviction.info.hand_round:
        # The hand may have passed by while a request held it: then its turn is the next round's.
        passed = 1 if it.queued <= eviction.info.hand_at else 0
        it.weight = eviction.info.hand_round + passed


@kernel
def victim_heap(eviction: Eviction) -> int:
    """Return the heap whose top is to be evicted, NONE when all are empty; O(log) amortised."""
    code = eviction.info.code
    if code == SIEVE:
        return _sieve(eviction)
    if code == S3_FIFO:
        return _s3_fifo(eviction)
    if code == TWO_Q and eviction.sizes[MAIN] > 0:
        full = eviction.members[FIRST] > eviction.info.first_target
        return FIRST if full and eviction.sizes[FIRST] > 0 else MAIN
    return FIRST if eviction.sizes[FIRST] > 0 else NONE


@kernel
def _sieve(eviction: Eviction) -> int:
    """Move the hand from old to new over what was visited; the round after, it comes back."""
    if eviction.sizes[0] == 0:
        return NONE
    while True:
        item = int(eviction.heaps[0, 0].which)
        it = eviction.items[item]
        eviction.info.hand_round = int(it.weight)
        eviction.info.hand_at = it.queued
        if it.mark == 0:
            return 0
        it.mark = 0
        it.weight += 1.0
        heap_.change(eviction, item, float(it.weight), int(it.queued))


@kernel
def _s3_fifo(eviction: Eviction) -> int:
    """Small queue first while it is over its share; what was hit there twice moves to main."""
    while True:
        full = eviction.members[FIRST] >= eviction.info.first_target
        if eviction.sizes[FIRST] > 0 and (full or eviction.sizes[MAIN] == 0):
            item = int(eviction.heaps[FIRST, 0].which)
            it = eviction.items[item]
            if it.mark <= 1:
                return FIRST
            heap_.remove(eviction, item)
            it.heap = MAIN
            it.mark = 0
            eviction.members[FIRST] -= 1
            eviction.members[MAIN] += 1
        elif eviction.sizes[MAIN] > 0:
            item = int(eviction.heaps[MAIN, 0].which)
            it = eviction.items[item]
            if it.mark == 0:
                return MAIN
            heap_.remove(eviction, item)
            it.mark -= 1
        else:
            return NONE
        eviction.info.stamp += 1
        it.queued = eviction.info.stamp
        offer(eviction, item)


@inlined
def leaves(eviction: Eviction, item: int, content: int, evicted: bool) -> None:
    """Take `item` off its queue's count; what the first queue evicts becomes a ghost."""
    code, heap = eviction.info.code, eviction.items[item].heap
    eviction.members[heap] -= 1
    if evicted and heap == FIRST and (code == TWO_Q or code == S3_FIFO):
        memory_.forget_to_memory(eviction, content)
    if evicted and code == SIEVE:
        nobody_ahead = eviction.sizes[0] == 0 or (
            eviction.heaps[0, 0].priority > eviction.info.hand_round
        )
        if nobody_ahead:
            # It was the newest: the hand starts again from the oldest, before what enters now.
            eviction.info.hand_round += 1
            eviction.info.hand_at = 0
