"""The compiled loop of `churn.py`: who touches which blocks in which window, and what per interval.

Owns: the records, windows that turn over, intervals that double. Leaves to others: rates and trends
(`churn`, `trends`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import schema
from kvatlas.events.schema import NONE
from kvatlas.jit import entry, inlined, kernel
from kvatlas.records import Record, Records, record_dtype

__all__ = ["Flow", "follow"]

I32 = NDArray[np.int32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
_LAST_WINDOW = 1 << 30
"""It never ends: 34 years of seconds, which only a damaged clock reaches."""

WINDOW = record_dtype(
    width_ms="f8",
    number="i8",  # of the window under way, from 0
    blocks="i8",  # distinct ones touched in it
    contents="i8",
    all_blocks="i8",  # the same summed over the windows that are over
    all_contents="i8",
    most_blocks="i8",
    most_contents="i8",
)
INTERVAL = record_dtype(
    allocated="f8",
    evicted="f8",
    freed="f8",
    arrivals="f8",
    failures="f8",
    preemptions="f8",
    hit_tokens="f8",
    queried_tokens="f8",
    used_block_ms="f8",
    used_slot_ms="f8",
    wasted_slot_ms="f8",
)
STATE = record_dtype(
    slot_groups="i8",  # in how many groups a computed token fills a slot
    started="i8",
    used_blocks="i8",
    used_slots="i8",
    most_used="i8",
    now_ms="f8",
    first_ms="f8",
    width_ms="f8",  # of an interval
    interval="i8",  # the one under way
)


class Flow(NamedTuple):
    """N blocks, T windows (each width a multiple of the one before), K intervals, G groups."""

    state: Record  # STATE
    windows: Records  # (T,) WINDOW
    last_window: I32  # (N, T) the window in which the block was last touched, NONE before
    intervals: Records  # (K,) INTERVAL
    columns: F64  # (K, C) the same memory
    block_slots: I64  # (G,)


@entry
def follow(flow: Flow, rows: Records, ids: I32) -> None:
    """Take in the rows of a resolved chunk; O(rows + touched and allocated ids)."""
    state = flow.state
    for at in range(rows.shape[0]):
        row = rows[at]
        event = row.event
        if state.started == 0:
            state.started = 1
            state.first_ms = state.now_ms = row.time_ms
        if event == schema.ARRIVED:
            # It may have come while the last step was under way.
            flow.intervals[_interval(flow, row.time_ms)].arrivals += 1
            continue
        if row.time_ms > state.now_ms:
            _advance(flow, row.time_ms, 0.0)
        interval = flow.intervals[state.interval]
        count = int(row.count)
        group = int(row.group) if 0 < row.group < flow.block_slots.shape[0] else 0
        if event == schema.STEP:
            # Within glided steps waste falls evenly; an interval gets the mean of them all.
            filled = row.tokens * state.slot_groups
            wasted = row.wasted_slots - 0.5 * filled * (count - 1)
            if state.used_blocks > state.most_used:
                state.most_used = state.used_blocks
            _advance(flow, state.now_ms + count * row.span_ms, wasted)
        elif event == schema.ALLOCATED:
            if row.cause != schema.BY_CHECKPOINT:
                interval.allocated += count
            state.used_blocks += count
            state.used_slots += count * flow.block_slots[group]
            for window in range(flow.windows.shape[0]):
                flow.windows[window].contents += count
            for i in range(row.blocks_at, row.blocks_at + count):
                _touch(flow, int(ids[i]), 0)
        elif event == schema.TOUCHED:
            if row.ref_count == 1:
                state.used_blocks += count
                state.used_slots += count * flow.block_slots[group]
            for i in range(row.blocks_at, row.blocks_at + count):
                _touch(flow, int(ids[i]), 1)
        elif event == schema.FREED:
            if row.ref_count == 0:
                interval.freed += count
                state.used_blocks -= count
                state.used_slots -= count * flow.block_slots[group]
        elif event == schema.EVICTED:
            interval.evicted += count
        elif event == schema.LOOKED_UP:
            if row.cause == schema.BY_NEW and row.computed_tokens != NONE:
                interval.hit_tokens += row.computed_tokens
                interval.queried_tokens += row.tokens
        elif event == schema.PREEMPTED:
            interval.preemptions += 1
        elif event == schema.ALLOCATION_FAILED:
            interval.failures += 1
        elif event == schema.MOVED:
            for i in range(count):
                for window in range(flow.windows.shape[0]):
                    stamp = flow.last_window[ids[row.blocks_at + i], window]
                    flow.last_window[row.to_block + i, window] = stamp


@inlined
def _touch(flow: Flow, block: int, content: int) -> None:
    """Count a block, and `content` with it, once per window."""
    for at in range(flow.windows.shape[0]):
        window = flow.windows[at]
        if flow.last_window[block, at] == window.number:
            break  # it was touched in this window, and so in the wider ones around it
        flow.last_window[block, at] = window.number
        window.blocks += 1
        window.contents += content


@kernel
def _advance(flow: Flow, end_ms: float, wasted: float) -> None:
    """Let time pass, sharing out its integrals among the intervals; close windows that are over."""
    state = flow.state
    last = _interval(flow, end_ms)
    at = _interval(flow, state.now_ms)
    while state.now_ms < end_ms:
        bound_ms = state.first_ms + (at + 1) * state.width_ms
        stop_ms = bound_ms if at < last and bound_ms < end_ms else end_ms
        span_ms = stop_ms - state.now_ms if stop_ms > state.now_ms else 0.0
        interval = flow.intervals[at]
        interval.used_block_ms += state.used_blocks * span_ms
        interval.used_slot_ms += state.used_slots * span_ms
        interval.wasted_slot_ms += wasted * span_ms
        state.now_ms = stop_ms
        at += 1
    state.interval = last
    _turn(flow)


@kernel
def _turn(flow: Flow) -> None:
    """Close the windows that are over."""
    since_ms = flow.state.now_ms - flow.state.first_ms
    for at in range(flow.windows.shape[0]):
        window = flow.windows[at]
        over = since_ms // window.width_ms
        number = int(over) if over < _LAST_WINDOW else _LAST_WINDOW
        if number <= window.number:
            return  # the wider ones are not over either
        window.all_blocks += window.blocks
        window.all_contents += window.contents
        if window.blocks > window.most_blocks:
            window.most_blocks = window.blocks
        if window.contents > window.most_contents:
            window.most_contents = window.contents
        window.number = number
        window.blocks = window.contents = 0


@kernel
def _interval(flow: Flow, time_ms: float) -> int:
    """Return the interval of a moment; all intervals double while it lies beyond the last one."""
    state = flow.state
    while time_ms - state.first_ms >= state.width_ms * flow.columns.shape[0]:
        _double(flow)
    # An arrival may be told late, so that it lies before the first event.
    return int((time_ms - state.first_ms) // state.width_ms) if time_ms > state.first_ms else 0


@kernel
def _double(flow: Flow) -> None:
    columns = flow.columns
    half = columns.shape[0] // 2
    for at in range(columns.shape[0]):
        for column in range(columns.shape[1]):
            if at < half:
                columns[at, column] = columns[2 * at, column] + columns[2 * at + 1, column]
            else:
                columns[at, column] = 0.0
    flow.state.width_ms = 2.0 * flow.state.width_ms
    flow.state.interval = flow.state.interval // 2
