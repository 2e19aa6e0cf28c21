"""Arrays for a policy: sizes them, fills in the first state.

Owns: the first state of every array. Leaves to others: all later changes (`_hooks_kernel`).
"""

from __future__ import annotations

import numpy as np

from kvatlas.eviction import _rates_kernel as rates
from kvatlas.eviction import _sessions_kernel as sessions
from kvatlas.eviction._state_kernel import (
    ENTRY,
    INFO,
    ITEM,
    KNOWN,
    LEARNT,
    LFU,
    MEMORY,
    NONE,
    ONE_HIT_FIRST,
    PAST,
    RETURN_RATE,
    S3_FIFO,
    SESSION_AWARE,
    TAIL,
    TWO_Q,
    Eviction,
)
from kvatlas.eviction.registry import EvictionPolicy
from kvatlas.records import one_record, records

__all__ = ["make_eviction"]

_MOST_TAILS = 1 << 17
_SLOTS_PER_ITEM = 4
_KNOWN_SLOTS_PER_ITEM = 16


def make_eviction(
    policy: EvictionPolicy,
    *,
    num_items: int,
    capacity: int,
    block_size: int,
    num_contents: int | None = None,
    num_requests: int | None = None,
    tail_span: int = 1,
    linked: tuple[bool, ...] = (True,),
) -> Eviction:
    """Return the fresh state of `policy`.

    Args:
        policy: whose; its knobs are read here.
        num_items: items are numbered below this.
        capacity: contents that the cache may hold, which sizes queues and ghosts.
        block_size: tokens per item, for the policies that weigh depth.
        num_contents: contents are numbers below this; None when they may be any.
        num_requests: how many requests will come at most, None when nobody knows.
        tail_span: blocks that the next turn of a conversation shares at a time.
        linked: per group of the engine, whether its blocks hang from each other.

    Memory: 64 bytes per item, 24 per item that can be evicted; 24 per content ever evicted (2Q,
    S3-FIFO, LFU, one-hit-first) or per end of a request (session-aware); 40 per content
    (return-rate).
    """
    knobs = policy.knobs
    code = policy.code
    num_heaps, memory, mask, tails = 1, 1, NONE, 1
    first_target = memory_size = 0
    if code == TWO_Q:
        num_heaps = 2
        first_target = int(knobs["first_share"] * capacity)
        memory_size = max(1, int(knobs["ghost_share"] * capacity))
    elif code == S3_FIFO:
        num_heaps = 2
        first_target = max(1, int(knobs["first_share"] * capacity))
        memory_size = max(1, capacity - first_target)
    most = _MOST_TAILS if num_requests is None else min(_MOST_TAILS, num_requests + 1)
    known, past, kinds, buckets = 1, 1, 1, 1
    if code == SESSION_AWARE:
        num_heaps, kinds, buckets = sessions.NUM_CLASSES, sessions.NUM_CLASSES, sessions.NUM_BUCKETS
        tails = _power_of_two(most)
    elif code == RETURN_RATE:
        num_heaps, kinds, buckets = rates.NUM_KINDS, rates.NUM_KINDS, rates.NUM_AGES
        past = _power_of_two(most)
    remembers = memory_size > 0 or code in (SESSION_AWARE, LFU, ONE_HIT_FIRST)
    if remembers and num_contents is not None:
        memory = max(1, num_contents)
    elif remembers:
        memory = _power_of_two(_SLOTS_PER_ITEM * max(64, capacity))
    elif code == RETURN_RATE and num_contents is not None:
        known = max(1, num_contents)
    elif code == RETURN_RATE:
        known = _power_of_two(_KNOWN_SLOTS_PER_ITEM * max(64, capacity))
    if num_contents is None:
        mask = max(memory, known) - 1
    items = records(num_items, ITEM)
    items["place"][:] = NONE
    items["parent"][:] = NONE
    info = one_record(
        INFO,
        code=code,
        by_leaf=int(policy.by_leaf),
        capacity=capacity,
        first_target=first_target,
        memory_size=memory_size,
        memory_mask=mask,
        tail_span=tail_span,
    )
    info.lead_decay = 0.5 ** (2.0 / capacity)
    info.slope = block_size / knobs.get("crossover_tokens", float("inf"))
    return Eviction(
        items=items,
        heaps=records((num_heaps, num_items), ENTRY),
        sizes=np.zeros(num_heaps, np.int64),
        members=np.zeros(num_heaps, np.int64),
        memory=records(memory, MEMORY),
        tails=records(tails, TAIL),
        crossed=np.zeros(sessions.NUM_BUCKETS, np.int64),
        learnt=records((kinds, buckets), LEARNT),
        contents=np.zeros(num_items, np.int64),
        known=records(known, KNOWN),
        past=records(past, PAST),
        alive=np.zeros((past, rates.NUM_KINDS), np.int32),
        pooled=np.zeros(rates.NUM_AGES),
        linked=np.array(linked, np.int64),
        info=info,
    )


def _power_of_two(least: int) -> int:
    return 1 << max(0, least - 1).bit_length()
