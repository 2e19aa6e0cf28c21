"""The compiled loop of `temporal.py`: what every event does to the memory that is held unused.

Owns: the pool's occupancy between events, its integrals over the clock, and the split by phase.
Leaves to others: a single request's slots (`_request_use_kernel`), names and shares (`temporal`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import schema
from kvatlas.events.schema import NONE
from kvatlas.jit import entry, kernel
from kvatlas.measure._request_use_kernel import (
    DECODE,
    PREFILL,
    Use,
    admit,
    end,
    grow,
    keep_tail,
    settle,
)
from kvatlas.records import Record, Records

__all__ = ["follow"]

I32 = NDArray[np.int32]


@entry
def follow(use: Use, rows: Records, ids: I32) -> None:
    """Take in the rows of a resolved chunk; O(rows + ids)."""
    state = use.state
    for at in range(rows.shape[0]):
        row = rows[at]
        event = row.event
        if state.started == 0:
            state.started = 1
            state.first_ms = state.now_ms = row.time_ms
        if event == schema.ARRIVED:
            # It came while the last step was under way: no moment of the pool's.
            use.requests[row.request].session = row.session
            continue
        if row.time_ms > state.now_ms:
            _pass(state, row.time_ms - state.now_ms)
            # The number that `area_ms` integrates stands still between steps.
            state.area_ms += state.steps * (row.time_ms - state.now_ms)
            state.now_ms = row.time_ms
        if event == schema.PREEMPTED or event == schema.FINISHED:
            end(use, int(row.request), int(row.computed_tokens))
        elif event == schema.STEP:
            _step(use, row)
        elif event == schema.SCHEDULED or event == schema.ALLOCATED:
            _anchor(use, row)
        elif event == schema.ADMITTED:
            admit(use, int(row.request), int(row.computed_tokens))
        elif event == schema.ALLOCATION_FAILED:
            _failure(use, row)
        elif event == schema.RESET:
            state.epoch += 1
            state.evictable_blocks = state.evictable_slots = 0
        if row.blocks_at != NONE:
            _on_blocks(use, row, ids)


@kernel
def _pass(state: Record, span_ms: float) -> None:
    """Let the pool stay as it is for `span_ms`."""
    state.used_slot_ms += state.used_slots * span_ms
    state.used_block_ms += state.used_blocks * span_ms
    state.evictable_slot_ms += state.evictable_slots * span_ms
    state.evictable_block_ms += state.evictable_blocks * span_ms


@kernel
def _step(use: Use, row: Record) -> None:
    """Let `count` steps pass, of which each fills some more empty slots than the one before."""
    state = use.state
    steps, span_ms = int(row.count), row.span_ms
    whole_ms = steps * span_ms
    filled = row.tokens * state.kinds
    wasted = span_ms * (steps * row.wasted_slots - filled * (steps * (steps - 1) // 2))
    if row.wasted_slots < 0:
        state.unknown_waste = 1
    held = whole_ms * state.table_slots
    use.phases[PREFILL].wasted_slot_ms += whole_ms * state.chunk_wasted
    use.phases[PREFILL].held_slot_ms += whole_ms * state.chunk_held
    use.phases[DECODE].wasted_slot_ms += wasted - whole_ms * state.chunk_wasted
    use.phases[DECODE].held_slot_ms += held - whole_ms * state.chunk_held
    decoding = steps if row.tokens > state.chunk_tokens else 0
    for at in range(state.chunks):
        use.requests[use.chunks[at]].at_step = state.steps + decoding
    state.chunk_wasted = state.chunk_held = state.chunk_tokens = state.chunks = 0
    state.wasted_slot_ms += wasted
    state.busy_ms += whole_ms
    _pass(state, whole_ms)
    state.area_ms += span_ms * (steps * state.steps + decoding * (decoding + 1) // 2)
    state.steps += decoding
    state.serial += steps
    state.now_ms += whole_ms


@kernel
def _failure(use: Use, row: Record) -> None:
    if row.cause == schema.BY_ADMISSION:
        use.phases[PREFILL].refusals += row.count
        return
    phase = use.phases[DECODE if row.cause == schema.BY_DECODE else PREFILL]
    phase.failures += row.count
    if row.other != NONE:
        phase.preemptions += row.count


@kernel
def _anchor(use: Use, row: Record) -> None:
    """Take in how many tokens a row says that its request has computed."""
    computed, tokens = int(row.computed_tokens), int(row.tokens)
    if row.event == schema.ALLOCATED:
        if row.cause != schema.BY_DECODE or row.request == NONE:
            return  # what a prompt chunk computes is said by its `scheduled` row
        tokens = 1
    settle(use, int(row.request), computed, computed - tokens)
    if row.event == schema.SCHEDULED:
        state, slots = use.state, use.requests[row.request].slots
        state.chunk_held += slots
        state.chunk_wasted += slots - state.kinds * computed
        state.chunk_tokens += tokens
        if state.chunks < use.chunks.shape[0]:
            use.chunks[state.chunks] = row.request
            state.chunks += 1


@kernel
def _on_blocks(use: Use, row: Record, ids: I32) -> None:
    state, event, count = use.state, row.event, int(row.count)
    group = int(row.group) if 0 < row.group < use.groups.shape[0] else 0
    gained = 0  # owned blocks
    if event == schema.ALLOCATED:
        gained = count
        if row.cause != schema.BY_CHECKPOINT:
            phase = use.phases[DECODE if row.cause == schema.BY_DECODE else PREFILL]
            phase.blocks += count
            phase.evictions += state.evicted
        state.evicted = 0
    elif event == schema.TOUCHED:
        gained = count if row.ref_count == 1 else 0
    elif event == schema.FREED:
        gained = -count if row.ref_count == 0 else 0
        if gained < 0 and row.request != NONE and row.cause != schema.BY_SKIPPED:
            keep_tail(use, row, ids, group)
    elif event == schema.EVICTED and row.cause == schema.BY_ALLOCATION:
        state.evicted += count
    state.used_blocks += gained
    state.used_slots += gained * use.groups[group].slots
    if (event == schema.ALLOCATED or event == schema.TOUCHED) and row.request != NONE:
        grow(use, int(row.request), group, int(row.position) + count)
    if event == schema.ALLOCATED:
        for at in range(row.blocks_at, row.blocks_at + count):
            block = use.blocks[ids[at]]
            block.since_ms = state.now_ms
            block.owned = 1
    elif gained != 0:
        _change_owners(use, row, ids, 1 if gained > 0 else 0)
    elif event == schema.CACHED or event == schema.EVICTED:
        _change_content(use, row, ids, group)
    elif event == schema.MOVED:
        for i in range(count):
            block, target = use.blocks[ids[row.blocks_at + i]], use.blocks[row.to_block + i]
            target.since_ms = block.since_ms
            target.epoch = block.epoch
            target.group = block.group
            target.owned = block.owned
            block.epoch = NONE
            block.owned = 0


@kernel
def _change_owners(use: Use, row: Record, ids: I32, owned: int) -> None:
    """Let the row's blocks have an owner, or none: cached ones can be evicted or no longer."""
    state = use.state
    epoch, blocks, slots = state.epoch, 0, 0
    for at in range(row.blocks_at, row.blocks_at + row.count):
        block = use.blocks[ids[at]]
        block.owned = owned
        if block.epoch == epoch:
            blocks += 1
            slots += use.groups[block.group].slots
    sign = -1 if owned != 0 else 1
    state.evictable_blocks += sign * blocks
    state.evictable_slots += sign * slots


@kernel
def _change_content(use: Use, row: Record, ids: I32, group: int) -> None:
    """Let the row's blocks be cached, or no longer; most have no owner when they lose it."""
    state = use.state
    caches = row.event == schema.CACHED
    epoch = state.epoch if caches else NONE
    blocks = slots = 0
    for at in range(row.blocks_at, row.blocks_at + row.count):
        block = use.blocks[ids[at]]
        if block.owned == 0:
            if block.epoch == state.epoch:
                blocks -= 1
                slots -= use.groups[block.group].slots
            if caches:
                blocks += 1
                slots += use.groups[group].slots
        block.epoch = epoch
        block.group = group
    state.evictable_blocks += blocks
    state.evictable_slots += slots
