"""Session-aware: how likely the next turn is, by turn number and idle time, learnt on the way.

Owns: conversations inferred by content, what is counted of them and the chances made of it. Leaves
to others: heaps, one per class of turn numbers with the longest idle on top (`_heap_kernel`).

A request whose deepest hit is the end of an earlier request continues that conversation. Time is
counted in requests, so that it runs alike in replays, embedded engines and without arrival times.
An end of class c that is still open after 2**b requests is *exposed* in bucket b; one that goes on
in [2**b, 2**(b + 1)) *returned* in it. The chance of any next turn from bucket b on is
1 - product over b' >= b of (1 - returned / exposed), the Kaplan-Meier estimate; where little has
been seen, all classes together speak for each.
"""

from __future__ import annotations

from kvatlas.eviction import _memory_kernel as memory_
from kvatlas.eviction._state_kernel import NONE, Eviction
from kvatlas.jit import inlined, kernel

NUM_CLASSES = 8
NUM_BUCKETS = 20
_MOST_TURNS = 1 << 14
_WEIGHT_OF_ALL = 16.0
"""Ends of requests that the estimate of all classes together counts as in each class."""
_FIRST_CHANCE, _FIRST_WEIGHT = 0.02, 8.0
"""What a bucket is believed before anything has been seen, and how firmly."""
_REFRESH_LEAST, _REFRESH_SHARE = 16, 64


@inlined
def class_of(turn: int) -> int:
    """Return the class of a turn number: 1 to 7 on their own, then all longer conversations."""
    return min(turn, NUM_CLASSES) - 1


@inlined
def bucket_of(idle: int) -> int:
    """Return the bucket of an idle time in requests: its binary logarithm."""
    bucket = 0
    while idle > 1 and bucket < NUM_BUCKETS - 1:
        idle >>= 1
        bucket += 1
    return bucket


@kernel
def request_begins(eviction: Eviction) -> None:
    """Count the ends of requests that come of age now; O(buckets), amortised."""
    now, tails = eviction.info.requests, eviction.tails
    mask = tails.shape[0] - 1
    for bucket in range(NUM_BUCKETS):
        at = max(eviction.crossed[bucket], eviction.info.tails - tails.shape[0])
        while at < eviction.info.tails and tails[at & mask].ended + (1 << bucket) <= now:
            if tails[at & mask].over == 0:
                eviction.learnt[class_of(int(tails[at & mask].turn)), bucket].exposed += 1.0
            at += 1
        eviction.crossed[bucket] = at
    if now >= eviction.info.refresh_at:
        eviction.info.refresh_at = now + max(_REFRESH_LEAST, now // _REFRESH_SHARE)
        _refresh(eviction)


@kernel
def _refresh(eviction: Eviction) -> None:
    """Make the chances of all classes and buckets again; O(classes * buckets)."""
    learnt = eviction.learnt
    for kind in range(NUM_CLASSES):
        ends = 1.0  # chance that no bucket from here on brings the next turn
        for bucket in range(NUM_BUCKETS - 1, -1, -1):
            returned, exposed = _FIRST_CHANCE * _FIRST_WEIGHT, _FIRST_WEIGHT
            for other in range(NUM_CLASSES):
                returned += learnt[other, bucket].returned
                exposed += learnt[other, bucket].exposed
            mine = learnt[kind, bucket].returned + _WEIGHT_OF_ALL * returned / exposed
            ends *= 1.0 - min(1.0, mine / (learnt[kind, bucket].exposed + _WEIGHT_OF_ALL))
            learnt[kind, bucket].chance = 1.0 - ends


@kernel
def found(eviction: Eviction, item: int, content: int) -> None:
    """Give `item`, the deepest hit of the request that begins, the number of its turn; O(1)."""
    turn = _next_turn(eviction, content)
    eviction.items[item].turn = turn if turn > 0 else 1


@kernel
def inserted(eviction: Eviction, item: int, content: int, parent: int) -> None:
    """Give a new item the turn of what it hangs from, unless a conversation once ended there."""
    turn = _next_turn(eviction, content)
    if turn == 0:
        turn = 1 if parent == NONE else int(eviction.items[parent].turn)
    eviction.items[item].turn = turn


@inlined
def _next_turn(eviction: Eviction, content: int) -> int:
    """Return the turn that follows an end at `content`, 0 for no end, and learn from it."""
    record = eviction.memory[memory_.position(eviction, content)]
    if record.content != content + 1 or record.count == 0:
        return 0
    if record.tail > 0:
        number = record.tail - 1
        record.tail = 0
        if number >= eviction.info.tails - eviction.tails.shape[0]:
            tail = eviction.tails[number & (eviction.tails.shape[0] - 1)]
            tail.over = 1
            bucket = bucket_of(int(eviction.info.requests - tail.ended))
            eviction.learnt[class_of(int(tail.turn)), bucket].returned += 1.0
    return int(min(record.count + 1, _MOST_TURNS))


@kernel
def request_ends(eviction: Eviction, item: int, content: int) -> None:
    """Remember that a conversation stands at `item`; O(1)."""
    number = int(eviction.info.tails)
    eviction.info.tails = number + 1
    tail = eviction.tails[number & (eviction.tails.shape[0] - 1)]
    tail.ended = eviction.info.requests
    tail.turn = eviction.items[item].turn
    tail.over = 0
    record = eviction.memory[memory_.claim(eviction, content)]
    record.tail = number + 1
    record.count = eviction.items[item].turn


@kernel
def least_likely(eviction: Eviction) -> int:
    """Return the heap whose top is least likely to be continued, NONE when all are empty."""
    best, best_chance, best_order = NONE, 2.0, 0
    for heap in range(eviction.heaps.shape[0]):
        if eviction.sizes[heap] == 0:
            continue
        top = eviction.heaps[heap, 0]
        idle = int(eviction.info.requests - eviction.items[top.which].used_at)
        chance = eviction.learnt[heap, bucket_of(idle)].chance
        if chance < best_chance or (chance == best_chance and top.order < best_order):
            best, best_chance, best_order = heap, float(chance), int(top.order)
    return best
