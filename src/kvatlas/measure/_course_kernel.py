"""Running sums over the events, looked at step after step.

Owns: what is summed, and thinning the looks. Leaves to others: what differences mean (`course`).
"""

from __future__ import annotations

from typing import NamedTuple

from kvatlas.events import schema
from kvatlas.jit import entry, kernel
from kvatlas.records import Record, Records, record_dtype

SUMS = record_dtype(
    clock_ms="f8",
    used_block_ms="f8",
    wasted_slot_ms="f8",
    running_ms="f8",
    waiting_ms="f8",
    busy_ms="f8",
    tokens="f8",
    hits="f8",
    queries="f8",
    preemptions="f8",
    failures="f8",
    evictions="f8",
)
COURSE = record_dtype(
    looks="i8",
    steps="i8",
    stride="i8",  # steps between two looks
    usable="i8",
    slot_groups="i8",
    peak_used="i8",
    used_steps="i8",  # used blocks, summed over the steps
    allocations="i8",
)


class Course(NamedTuple):
    """Looks at the running sums."""

    looks: Records  # (L,) SUMS
    sums: Record  # SUMS
    info: Record  # COURSE


@entry
def follow_course(course: Course, rows: Records) -> None:
    """Add up `rows` and look at the sums every so many steps; O(rows)."""
    sums, info = course.sums, course.info
    for at in range(rows.shape[0]):
        row = rows[at]
        event = row.event
        if event == schema.STEP:
            _add_step(course, row)
        elif event == schema.EVICTED:
            sums.evictions += row.count
        elif event == schema.ALLOCATED:
            if row.cause != schema.BY_CHECKPOINT:
                info.allocations += row.count
        elif event == schema.LOOKED_UP:
            if row.cause == schema.BY_NEW and row.computed_tokens >= 0:
                sums.queries += row.tokens
                sums.hits += row.computed_tokens
        elif event == schema.PREEMPTED:
            sums.preemptions += 1
        elif event == schema.ALLOCATION_FAILED:
            sums.failures += row.count
    if info.looks == 0:
        _look(course)


@kernel
def _add_step(course: Course, row: Record) -> None:
    sums, info = course.sums, course.info
    if info.looks == 0:
        # The first look is where the first step begins.
        sums.clock_ms = row.time_ms
        _look(course)
    steps = row.count
    span_ms = row.span_ms * steps
    sums.clock_ms = row.time_ms + span_ms
    sums.busy_ms += span_ms
    used = info.usable - row.free_blocks
    info.peak_used = max(info.peak_used, used)
    info.used_steps += used * steps
    sums.used_block_ms += used * span_ms
    # The waste falls by what is filled, from one of the steps to the next.
    filled = row.tokens * info.slot_groups
    wasted = row.wasted_slots * steps - filled * (steps * (steps - 1) // 2)
    sums.wasted_slot_ms += wasted * row.span_ms
    sums.running_ms += row.running * span_ms
    sums.waiting_ms += row.waiting * span_ms
    sums.tokens += row.tokens * steps
    info.steps += steps
    if info.steps >= info.stride * info.looks:
        _look(course)


@kernel
def _look(course: Course) -> None:
    looks, info = course.looks, course.info
    if info.looks == looks.shape[0]:
        kept = (looks.shape[0] + 1) // 2
        for at in range(1, kept):
            _copy(looks[2 * at], looks[at])
        info.looks = kept
        info.stride *= 2
    _copy(course.sums, looks[info.looks])
    info.looks += 1


@kernel
def _copy(source: Record, target: Record) -> None:
    target.clock_ms = source.clock_ms
    target.used_block_ms = source.used_block_ms
    target.wasted_slot_ms = source.wasted_slot_ms
    target.running_ms = source.running_ms
    target.waiting_ms = source.waiting_ms
    target.busy_ms = source.busy_ms
    target.tokens = source.tokens
    target.hits = source.hits
    target.queries = source.queries
    target.preemptions = source.preemptions
    target.failures = source.failures
    target.evictions = source.evictions
