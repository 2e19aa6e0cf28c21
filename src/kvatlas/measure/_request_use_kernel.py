"""The state of `temporal.py`, and what one request holds and has filled of it.

Owns: the records, a request's allocated slots less its tokens over its life, and the tail that it
never fills. Leaves to others: the pool as a whole (`_temporal_kernel`).

A request's computed tokens are known at its anchors: rows that name them (`admitted`, `scheduled`,
`allocated` for decoding, `preempted`, `finished`). Between two anchors they rise evenly from one
decoding step (one that computes more than prompt chunks) to the next; a request that takes part in
each rises by exactly one. So the integral of its tokens needs only the number of decoding steps and
its integral over the clock, `area_ms`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.jit import kernel
from kvatlas.records import Record, Records, record_dtype

__all__ = ["DECODE", "PREFILL", "Use", "admit", "end", "grow", "keep_tail", "settle"]

I32 = NDArray[np.int32]

PREFILL, DECODE = 0, 1

BLOCK = record_dtype(
    since_ms="f8",  # when it was last allocated
    epoch="i4",  # cached since this reset of the cache, NONE without content
    group="i1",  # under which it is cached
    owned="i1",
)
GROUP = record_dtype(slots="i8")  # per block; 0 where blocks are not made of slots
REQUEST = record_dtype(
    slots="i8",  # in its tables, over all groups
    since_ms="f8",  # since when it has that many
    computed="i8",  # at the last anchor: tokens when the anchor's step is over
    before="i8",  # and before that step
    at_serial="i8",  # steps before the anchor's
    at_step="i8",  # decoding steps up to the anchor's, it included if it is one
    at_ms="f8",
    at_area="f8",
    admitted_ms="f8",
    wasted_slot_ms="f8",  # slots less tokens, up to the last anchor
    held_ms="f8",  # time with blocks, residencies that are over
    end_slots="i8",  # wasted when it ended, NONE until then
    session="i4",
    holds="i4",  # 1 while it runs
)
PHASE = record_dtype(
    blocks="i8",
    failures="i8",
    refusals="i8",
    preemptions="i8",
    evictions="i8",
    wasted_slot_ms="f8",
    held_slot_ms="f8",
)
TAIL = record_dtype(first_slot="i8", slots="i8", age_ms="f8")
STATE = record_dtype(
    started="i8",
    serial="i8",  # steps done
    steps="i8",  # decoding steps done
    kinds="i8",  # groups whose blocks are made of slots
    epoch="i8",
    used_blocks="i8",
    used_slots="i8",
    evictable_blocks="i8",
    evictable_slots="i8",
    table_slots="i8",  # of all running requests, shared blocks counted for each
    chunk_held="i8",  # slots of the requests that compute a prompt chunk in this step
    chunk_wasted="i8",
    chunk_tokens="i8",
    chunks="i8",
    evicted="i8",  # by the allocation to come
    tails="i8",
    tail_request="i8",
    unknown_waste="i8",
    first_ms="f8",
    now_ms="f8",
    area_ms="f8",  # decoding steps up to the one under way, it included, integrated over the clock
    busy_ms="f8",
    used_slot_ms="f8",
    used_block_ms="f8",
    evictable_slot_ms="f8",
    evictable_block_ms="f8",
    wasted_slot_ms="f8",
    never_slot_ms="f8",
)


class Use(NamedTuple):
    """N blocks, R requests, G groups; T tail places."""

    state: Record  # STATE
    blocks: Records  # (N,) BLOCK
    requests: Records  # (R,) REQUEST
    lengths: I32  # (R, G) blocks per table
    groups: Records  # (G,) GROUP
    phases: Records  # (2,) PHASE
    tails: Records  # (T,) TAIL
    chunks: I32  # (S,) the requests that compute a prompt chunk in this step


@kernel
def admit(use: Use, row: int, computed: int) -> None:
    """Let `row` run from now on, with `computed` tokens found in the cache."""
    request, state = use.requests[row], use.state
    request.holds = 1
    request.admitted_ms = request.at_ms = state.now_ms
    request.at_serial, request.at_step = state.serial, state.steps + 1
    request.at_area = state.area_ms
    request.computed = request.before = computed if computed > 0 else 0


@kernel
def grow(use: Use, row: int, group: int, length: int) -> None:
    """Let the block table of `row` be `length` long."""
    request, state = use.requests[row], use.state
    more = (length - int(use.lengths[row, group])) * use.groups[group].slots
    if more > 0:
        use.lengths[row, group] = length
        request.wasted_slot_ms += request.slots * (state.now_ms - request.since_ms)
        request.since_ms = state.now_ms
        request.slots += more
        state.table_slots += more


@kernel
def settle(use: Use, row: int, computed: int, before: int) -> None:
    """Set an anchor: `before` tokens up to this step, `computed` when it is over."""
    request, state = use.requests[row], use.state
    if request.at_serial != state.serial and request.holds != 0:
        span_ms, steps = state.now_ms - request.at_ms, state.steps - request.at_step
        token_ms = request.computed * span_ms
        if steps > 0:
            # Decoding steps since the anchor's, integrated: 0 in its own step, then 1, 2, ...
            risen = state.area_ms - request.at_area - request.at_step * span_ms
            token_ms += (before - request.computed) / steps * risen
        request.wasted_slot_ms -= state.kinds * token_ms
        # This step decodes, for its request does; `follow` knows better where it computes a chunk.
        request.at_serial, request.at_step = state.serial, state.steps + 1
        request.at_ms = state.now_ms
        request.at_area = state.area_ms
    request.computed = computed
    request.before = before


@kernel
def least_computed(use: Use, row: int) -> int:
    """Return tokens that `row` has surely computed by now."""
    request = use.requests[row]
    return int(request.before if request.at_serial == use.state.serial else request.computed)


@kernel
def keep_tail(use: Use, freed: Record, ids: I32, group: int) -> None:
    """Note which of the blocks just freed their request may have filled less than all.

    How much it has filled is said by the row that follows: `preempted` or `finished`.
    """
    state = use.state
    row, slots = int(freed.request), int(use.groups[group].slots)
    if state.tail_request != row:
        state.tails = 0  # never said how much its last one had computed: not counted
        state.tail_request = row
    filled = least_computed(use, row)
    for i in range(freed.count):
        first_slot = (freed.position - i) * slots
        if first_slot + slots <= filled:
            break
        age_ms = state.now_ms - use.blocks[ids[freed.blocks_at + i]].since_ms
        if age_ms > 0.0 and state.tails < use.tails.shape[0]:
            tail = use.tails[state.tails]
            tail.first_slot = first_slot
            tail.slots = slots
            tail.age_ms = age_ms
            state.tails += 1


@kernel
def drop_tail(use: Use, computed: int) -> None:
    """Count what lies behind `computed` tokens in the noted blocks as never used."""
    state = use.state
    for i in range(state.tails):
        tail = use.tails[i]
        filled = computed - tail.first_slot if computed > tail.first_slot else 0
        if filled < tail.slots:
            state.never_slot_ms += (tail.slots - filled) * tail.age_ms
    state.tails = 0


@kernel
def end(use: Use, row: int, computed: int) -> None:
    """Take everything from `row`, which computed that many tokens (or as many as are known)."""
    request, state = use.requests[row], use.state
    known = least_computed(use, row)
    if computed < known:
        computed = known
    if state.tail_request == row:
        drop_tail(use, computed)
    if request.holds == 0:
        return
    settle(use, row, computed, computed)
    request.wasted_slot_ms += request.slots * (state.now_ms - request.since_ms)
    request.end_slots = request.slots - state.kinds * computed
    request.held_ms += state.now_ms - request.admitted_ms
    state.table_slots -= request.slots
    request.slots = 0
    request.since_ms = state.now_ms
    request.holds = 0
    for group in range(use.lengths.shape[1]):
        use.lengths[row, group] = 0
