"""Rows in, integrals and samples out: the compiled loop of `FragmentationTracker`.

Owns: the clock, what is integrated over it, and when to sample. Leaves to others: what an event
does (`_pool_kernel`, `_tables_kernel`), thinning samples (`tracker`), what the numbers mean
(`result`).

What is None among the arguments is left out when Numba compiles: a sampling tracker has no `Exact`,
and nothing rare is compiled before it happens. That halves the time to compile.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import schema
from kvatlas.events.schema import NONE
from kvatlas.jit import entry, inlined, kernel
from kvatlas.measure.fragmentation._pool_kernel import (
    Exact,
    change_pool,
    change_rarely,
    is_rare,
)
from kvatlas.measure.fragmentation._states_kernel import measure_runs
from kvatlas.measure.fragmentation._tables_kernel import (
    enter_table,
    leave_partly,
    leave_table,
    move_cells,
)
from kvatlas.measure.fragmentation._tracker_arrays_kernel import Tracker
from kvatlas.records import Records
from kvatlas.runs._run_index_kernel import note_largest
from kvatlas.runs._words_kernel import ORDERS

I32 = NDArray[np.int32]

FREE_LOOKS = 32
"""Looks that are taken whatever they cost, so that a short run has a course too."""

LONG = 1 / 64
"""The share of the time so far after which one looks sooner, that nothing stale weighs much."""


@entry
def track(
    tracker: Tracker,
    exact: Exact | None,
    moved_to: I32 | None,
    rows: Records,
    ids: I32,
    start: int,
    closing: int,
) -> int:
    """Let resolved rows from `start` on happen; return where it stopped.

    That is before a row that needs `moved_to`, (N,) zeros, when that is None; behind a row that
    filled the samples up; else behind the last row. With `closing` (and no rows) it brings every
    integral up to the end of the last step. O(rows + ids); exact: O(log64 N) per block that
    becomes free, used or empty.
    """
    clock, tables = tracker.clock, tracker.tables
    for at in range(start, rows.shape[0]):
        row = rows[at]
        event = row.event
        if event == schema.ARRIVED:
            # Requests arrive between steps, at times of their own.
            tables.requests[row.request].session = row.session
            continue
        rare = is_rare(row)
        partly = event == schema.FREED and (
            row.cause == schema.BY_SKIPPED or row.cause == schema.BY_RELEASED
        )
        if moved_to is None and (rare or partly):
            return at
        if row.time_ms > clock.now_ms:
            _advance(tracker, exact, row.time_ms)
        if row.blocks_at != NONE and not rare:
            change_pool(tracker.pool, exact, row, ids)
            if event == schema.ALLOCATED or event == schema.TOUCHED:
                enter_table(tables, row, ids)
            elif event == schema.FREED and not partly:
                leave_table(tables, int(row.request), False)
        elif event == schema.STEP:
            clock.steps += row.count
            clock.end_ms = max(clock.end_ms, row.time_ms + row.count * row.span_ms)
            if clock.steps >= clock.sample_at and _affordable(tracker, exact):
                _sample(tracker, exact)
                if clock.samples == tracker.samples.shape[0]:
                    return at + 1
        elif event == schema.PREEMPTED or event == schema.FINISHED:
            leave_table(tables, int(row.request), True)
        if moved_to is not None:
            if partly:
                leave_partly(tables, row)
            if rare:
                change_rarely(tracker.pool, exact, row, ids)
            if event == schema.MOVED:
                move_cells(tables, moved_to, row, ids)
    if closing != 0:
        if clock.end_ms > clock.now_ms:
            _advance(tracker, exact, clock.end_ms)
        _sample(tracker, exact)
    return int(rows.shape[0])


@kernel
def _advance(tracker: Tracker, exact: Exact | None, time_ms: float) -> None:
    """Let what is the case now be the case until `time_ms`."""
    clock, counts, sums = tracker.clock, tracker.pool.counts, tracker.sums
    span_ms = time_ms - clock.now_ms
    clock.now_ms = time_ms
    clock.end_ms = max(clock.end_ms, time_ms)
    if clock.started == 0:
        clock.started = 1
        clock.start_ms = time_ms
        clock.held_ms = time_ms
        return
    sums.span_ms += span_ms
    sums.used_ms += span_ms * counts.used
    sums.empty_ms += span_ms * counts.empty
    sums.free_runs_ms += span_ms * counts.free_runs
    sums.empty_runs_ms += span_ms * counts.empty_runs
    totals = tracker.tables.totals
    sums.table_runs_ms += span_ms * totals.runs
    sums.table_blocks_ms += span_ms * totals.blocks
    sums.holders_ms += span_ms * totals.holders
    if exact is not None:
        note_largest(exact.free)
        note_largest(exact.empty)
        _weigh(tracker, span_ms)


@kernel
def _weigh(tracker: Tracker, span_ms: float) -> None:
    """Integrate the lengths of the runs over `span_ms`; O(ORDERS)."""
    for which in range(2):
        lengths = tracker.empty if which == 1 else tracker.free
        members = lengths.runs.members
        if members == 0:
            continue
        sums = tracker.shapes[which]
        sums.members_ms += span_ms
        sums.largest_ms += span_ms * lengths.runs.largest
        sums.efi_ms += span_ms * (1.0 - lengths.runs.largest / members)
        served = 0  # blocks that requests of 2**order blocks can have
        for order in range(ORDERS - 1, -1, -1):
            served += lengths.with_bit[order] << order
            tracker.ufsi_ms[which, order] += span_ms * (1.0 - served / members)
            tracker.order_ms[which, order] += span_ms * lengths.by_order[order]


@inlined
def _affordable(tracker: Tracker, exact: Exact | None) -> bool:
    """Say whether enough has changed since the last look to pay for another one.

    Measured in what an event takes per block, a look takes 1/2 per eight blocks and 1/2 per run. It
    waits for eight times its price, twice after a long time, so that looking takes about an eighth
    of what the events take and never more than half, whatever the pool's size.
    """
    clock, counts = tracker.clock, tracker.pool.counts
    if exact is not None or clock.looks < FREE_LOOKS:
        return True
    price = (tracker.pool.words.shape[0] + counts.free_runs + counts.empty_runs) // 2
    times = 8
    if clock.now_ms - clock.held_ms > (clock.now_ms - clock.start_ms) * LONG:
        times = 2
    return bool(counts.changed - clock.looked_at >= times * price)


@kernel
def _sample(tracker: Tracker, exact: Exact | None) -> None:
    """Measure the lengths of the runs and write a sample down.

    What the last look saw was the case until now.
    """
    clock, pool = tracker.clock, tracker.pool
    counts, totals = pool.counts, tracker.tables.totals
    if exact is not None:
        note_largest(exact.free)
        note_largest(exact.empty)
    else:
        _weigh(tracker, clock.now_ms - clock.held_ms)
        clock.held_ms = clock.now_ms
        if counts.changed != clock.looked_at:
            clock.looked_at = counts.changed
            clock.looks += 1
            for which in range(2):
                lengths = tracker.empty if which == 1 else tracker.free
                if which == 0 or counts.empty + lengths.runs.members > 0:
                    measure_runs(lengths, pool.words, which)
    clock.sample_at = clock.steps + clock.spacing
    sample = tracker.samples[clock.samples]
    clock.samples += 1
    sample.time_ms = clock.now_ms
    sample.used_ms = tracker.sums.used_ms
    sample.empty_ms = tracker.sums.empty_ms
    sample.used = counts.used
    sample.empty = counts.empty
    sample.free_runs = counts.free_runs
    sample.empty_runs = counts.empty_runs
    sample.largest_free = tracker.free.runs.largest
    sample.largest_empty = tracker.empty.runs.largest
    sample.table_runs = totals.runs
    sample.table_blocks = totals.blocks
    sample.holders = totals.holders
