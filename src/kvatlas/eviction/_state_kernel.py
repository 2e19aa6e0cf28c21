"""The state of an eviction policy: arrays of records in one NamedTuple.

Owns: the names, shapes and dtypes of everything that a policy changes. Leaves to others: the rules
that change it (`_hooks_kernel` and the files it calls) and its first state (`build`).

An *item* is what can be evicted: a block id in the engine, a place of the cache in the prefix-only
driver. A *content* is what an item holds, a number that names a whole prefix.

Sizes: N items, H heaps, M contents (or a power of two) that are remembered after their eviction, T
last blocks of requests that are remembered, C turn classes, B buckets of idle time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.records import Record, Records, record_dtype

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

NONE = -1
"""No item, no place, no content."""

# Policies, by the integer that compiled code branches on.
LRU, FIFO, LFU, TWO_Q, S3_FIFO, SIEVE = range(6)
ONE_HIT_FIRST, COMPUTE_AWARE, SESSION_AWARE, RETURN_RATE, OPTIMUM = range(6, 11)

# Heaps of the policies that keep two queues.
FIRST, MAIN = range(2)

ITEM = record_dtype(
    stamp="i8",  # when it was last given back: of one request the deepest block first
    queued="i8",  # its position in a queue: the stamp of when it entered
    weight="f8",  # the policy's own number, made at a use
    born="i4",  # the number of the insertion that filled it: tells contents apart
    parent_born="i4",  # that of its parent when the two were linked
    parent="i4",  # the item that it hangs from, NONE for none
    children="i4",  # evictable items that hang from it
    depth="i4",  # its position in its path
    uses="i4",  # requests that used it since it was inserted
    used_at="i4",  # the request that used it last, by number
    place="i4",  # its position in its heap, NONE in none
    turn="i2",  # session-aware: the turn that used it last; return-rate: if that request knew it
    heap="i1",
    cached="i1",  # 1 while it holds a content
    held="i1",  # 1 while a running request holds it
    mark="i1",  # SIEVE: visited; S3-FIFO: how often it was hit, at most 3; return-rate: kind
)
ENTRY = record_dtype(priority="f8", order="i8", which="i4")  # which: the item
MEMORY = record_dtype(
    content="i8",  # 1 + the content remembered here, 0 for none
    evicted="i8",  # 1 + how many had been forgotten to memory before it, 0 for never
    tail="i4",  # 1 + the number of the request's end at this content, 0 for none
    count="i4",  # LFU, one-hit-first: its uses; session-aware: turns that ended there
)
TAIL = record_dtype(ended="i8", turn="i4", over="i4")  # over: 1 once its conversation went on
KNOWN = record_dtype(
    content="i8",  # 1 + the content, 0 for none
    above="i8",  # 1 + the content before it in its path, 0 for none
    last="i4",  # the request that used it last, 0 for never
    uses="i4",
    forks="i4",  # ways that went on below it
    holder="i4",  # 1 + the item that holds it, 0 for none
    kind="i1",
)
PAST = record_dtype(
    end="i8",  # 1 + the deepest content of a request
    length="i4",  # contents that it used
    total="i4",  # of these, contents that nobody has used since
)
LEARNT = record_dtype(returned="f8", exposed="f8", chance="f8")
INFO = record_dtype(
    code="i8",
    by_leaf="i8",  # 1: only items that nothing cached hangs from can be evicted
    requests="i8",  # begun so far: the policies' clock
    stamp="i8",
    born="i8",
    evictions="i8",
    capacity="i8",  # items that can hold a content
    first_target="i8",  # 2Q, S3-FIFO: items of the first queue
    memory_size="i8",  # evicted contents that are remembered
    memory_mask="i8",  # hash mask of `memory`, NONE when contents are its positions
    forgotten="i8",  # evicted contents put into memory so far
    hand_round="i8",  # SIEVE: how often the hand has gone around
    hand_at="i8",  # SIEVE: queue position of the last eviction
    tails="i8",  # ends of requests so far
    tail_span="i8",  # blocks that a conversation's next turn shares at a time
    refresh_at="i8",  # when the learnt chances are computed again: requests, or accesses
    refreshed="i8",  # the request at which they were last
    accesses="i8",  # contents used
    horizon="i8",  # the oldest request whose contents are remembered
    listed="i8",  # contents last used at `horizon` or later
    edge="i8",  # the newest request that an LRU cache would not hold whole
    edge_depth="i8",  # of that request it would hold the blocks below this depth
    above="i8",  # contents last used after `edge`
    busy="i8",  # contents that running requests use: they take room from LRU, too
    as_lru="i8",  # 1 while the guard lets LRU decide
    long_answer="i8",  # of the request that gives its blocks back
    deepest="i8",  # 1: the next block given back is a request's deepest
    lead="f8",  # hits ahead of LRU, fading
    lead_decay="f8",
    clock="f8",  # GreedyDual: the priority of the last victim
    slope="f8",  # compute-aware: attention work per block of depth, in linear work per block
)


class Eviction(NamedTuple):
    """Everything that one policy owns: 64 bytes per item and 24 per item and heap.

    Heaps are lazily paged: only the part that was ever filled takes memory.
    """

    items: Records  # (N,) ITEM
    heaps: Records  # (H, N) ENTRY: binary heaps, what goes first on top
    sizes: I64  # (H,) entries of each heap
    members: I64  # (H,) cached items that belong to each heap, held ones included
    memory: Records  # (M,) MEMORY
    tails: Records  # (T,) TAIL: a ring
    crossed: I64  # (B,) ends of requests that are older than each bucket's start
    learnt: Records  # (C, B) LEARNT
    contents: I64  # (N,) what each item holds or held
    known: Records  # (M,) KNOWN: where `memory` would remember it
    past: Records  # (T,) PAST: a ring of requests
    alive: I32  # (T, kinds) of PAST.total, how many of each kind
    pooled: F64  # (B,) working space
    linked: I64  # (G,) per group of the engine, 1 where its blocks hang from each other
    info: Record  # INFO
