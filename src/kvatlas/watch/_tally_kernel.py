"""What a live view counts, event by event: the loop over rows.

Owns: which part follows which event, steps. Leaves to others: the parts (`_tally_state_kernel`,
`_tally_requests_kernel`, `_tally_blocks_kernel`), rates, shares and names (`tally`, `history`).

The analysers of `kvatlas.measure` know more, but their results cost O(requests) or O(keys) to read
out; a view that ticks reads these in O(1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import schema
from kvatlas.events.schema import NONE
from kvatlas.jit import entry, kernel
from kvatlas.records import Record, Records
from kvatlas.watch._tally_blocks_kernel import follow_blocks, forget_content
from kvatlas.watch._tally_requests_kernel import arrive, follow_request
from kvatlas.watch._tally_state_kernel import Tally, pass_time, take_sample

__all__ = ["follow"]

I32 = NDArray[np.int32]


@entry
def follow(tally: Tally, rows: Records, ids: I32, spacing_ms: float) -> None:
    """Take in the rows of a resolved chunk, sampling every `spacing_ms`; O(rows + ids)."""
    sums, now = tally.sums, tally.now
    for at in range(rows.shape[0]):
        row = rows[at]
        event = row.event
        if now.started == 0:
            now.started = 1
            now.first_ms = sums.time_ms = row.time_ms
            take_sample(tally, spacing_ms)
        now.events += 1
        if row.step > now.step:
            now.step = row.step
        if event == schema.ARRIVED:
            # It may be told late: no moment of the pool's.
            arrive(tally, row)
            continue
        if row.time_ms > sums.time_ms:
            pass_time(tally, row.time_ms, now.wasted if now.wasted < now.held else now.held)
            if sums.time_ms >= now.sample_ms:
                take_sample(tally, spacing_ms)
        if event == schema.STEP:
            _step(tally, row)
            if sums.time_ms >= now.sample_ms:
                take_sample(tally, spacing_ms)
        elif event == schema.LOOKED_UP:
            if row.computed_tokens >= 0:
                if row.cause == schema.BY_NEW:
                    sums.queries += row.tokens
                    sums.hits += row.computed_tokens
                else:
                    sums.resumed_queries += row.tokens
                    sums.resumed_hits += row.computed_tokens
        elif event == schema.ALLOCATION_FAILED:
            if row.cause == schema.BY_ADMISSION:
                sums.failed_admission += row.count
            elif row.cause == schema.BY_DECODE:
                sums.failed_decode += row.count
            else:
                sums.failed_prefill += row.count
        elif event == schema.RESET:
            forget_content(tally, row.cause != schema.BY_CHECKPOINT)
        else:
            follow_request(tally, row)
        if row.blocks_at != NONE:
            follow_blocks(tally, row, ids)


@kernel
def _step(tally: Tally, row: Record) -> None:
    """Let `count` steps pass, of which each fills some more empty slots than the one before."""
    sums, now = tally.sums, tally.now
    filled = row.tokens * tally.kinds
    steps = int(row.count)
    if row.running >= 0:
        now.running = row.running
    if row.waiting >= 0:
        now.waiting = row.waiting
    if row.wasted_slots < 0:
        pass_time(tally, sums.time_ms + steps * row.span_ms, -1.0)
        now.wasted = NONE
    else:
        mean = row.wasted_slots - 0.5 * filled * (steps - 1)
        pass_time(tally, sums.time_ms + steps * row.span_ms, mean if mean > 0.0 else 0.0)
        now.wasted = max(0, int(row.wasted_slots - filled * (steps - 1)))
    now.step_held = now.held
    now.step = max(now.step, int(row.step) + steps - 1)
    sums.steps += steps
    sums.tokens += row.tokens * steps
