"""The compiled loop of `contention.py`: refusals, preemptions and waiting, row by row.

Owns: the records, and which steps a refusal covers. Leaves to others: names, shares and tables
(`contention`).

A row of `allocation_failed` at admission says how many consecutive steps it covers, and comes
before the `step` rows of these steps, which may themselves stand for many steps. So it is kept as
an interval of steps and cut with those of the `step` rows as they come.
"""

from __future__ import annotations

from typing import NamedTuple

from kvatlas.events import schema
from kvatlas.events.schema import NONE
from kvatlas.jit import entry, kernel
from kvatlas.records import Record, Records, record_dtype

__all__ = ["ADMISSION", "DECODE", "PREFILL", "Waits", "follow"]

ADMISSION, PREFILL, DECODE = range(3)

REQUEST = record_dtype(
    arrived_ms="f8",  # NaN until then
    admitted_ms="f8",  # for the first time, NaN until then
    preempted_ms="f8",  # last
    waited_again_ms="f8",  # from preemptions to the admissions after them
    refused_ms="f8",  # at the head of the queue
    overtaking_ms="f8",  # while it would have fitted, but another was at the head
    thrown_tokens="i8",  # by all of its preemptions
    wasted_tokens="i8",  # of them, not found again
    caused_tokens="i8",  # wasted by others, who were preempted for it
    lost="i8",  # by the last preemption
    preemptions="i4",
    caused="i4",  # preemptions of others for it
    needy="i4",  # for whom it was last preempted
    waits_again="i4",  # 1 from a preemption to the next admission
)
FAILURE = record_dtype(
    event="i8",
    step="i8",
    time_ms="f8",
    cost="f8",  # refused milliseconds, or tokens thrown away
    head_of_line_ms="f8",
    steps="i8",
    request="i4",
    cause="i4",
    needed="i4",
    free="i4",
    other="i4",
    used="i4",
)
CAUSE = record_dtype(episodes="i8", attempts="i8")
STATE = record_dtype(
    started="i8",
    events="i8",
    computed_tokens="i8",
    thrown_tokens="i8",
    wasted_tokens="i8",
    preemptions="i8",
    first_step="i8",  # the steps that the last refusal covers
    end_step="i8",
    head="i8",  # who was refused in them
    other="i8",  # who would have fitted
    first_ms="f8",
    now_ms="f8",
    refused_ms="f8",
    head_of_line_ms="f8",
)


class Waits(NamedTuple):
    """R requests, T places in each of two tables of failures."""

    state: Record  # STATE
    requests: Records  # (R,) REQUEST
    causes: Records  # (3,) CAUSE
    stalls: Records  # (T + 1,) FAILURE: the costliest refusals of one head; last, the one under way
    failures: Records  # (T + 1,) FAILURE: the costliest preemptions; last, the one under way


@entry
def follow(waits: Waits, rows: Records) -> None:
    """Take in the rows of a resolved chunk; O(rows)."""
    state, requests = waits.state, waits.requests
    for at in range(rows.shape[0]):
        row = rows[at]
        event = row.event
        if state.started == 0:
            state.started = 1
            state.first_ms = state.now_ms = row.time_ms
        if event == schema.STEP:
            _step(waits, row)
        elif event == schema.ARRIVED:
            requests[row.request].arrived_ms = row.time_ms
        elif event == schema.ADMITTED:
            _admitted(waits, row)
        elif event == schema.PREEMPTED:
            _preempted(waits, row)
        elif event == schema.ALLOCATION_FAILED:
            _failed(waits, row)
        state.events += 1


@kernel
def _step(waits: Waits, row: Record) -> None:
    state = waits.state
    state.computed_tokens += row.tokens * row.count
    state.now_ms = max(state.now_ms, row.time_ms + row.count * row.span_ms)
    first = max(int(row.step), state.first_step)
    end = min(int(row.step) + int(row.count), state.end_step)
    if end <= first or state.head == NONE:
        return
    refused_ms = (end - first) * row.span_ms
    state.refused_ms += refused_ms
    waits.requests[state.head].refused_ms += refused_ms
    stall = waits.stalls[waits.stalls.shape[0] - 1]
    stall.cost += refused_ms
    stall.steps += end - first
    if state.other != NONE:
        state.head_of_line_ms += refused_ms
        stall.head_of_line_ms += refused_ms
        waits.requests[state.other].overtaking_ms += refused_ms


@kernel
def _failed(waits: Waits, row: Record) -> None:
    state = waits.state
    if row.cause != schema.BY_ADMISSION:
        cause = waits.causes[DECODE if row.cause == schema.BY_DECODE else PREFILL]
        cause.episodes += 1
        cause.attempts += row.count
        _keep(waits.failures)
        _begin(waits.failures, row, int(state.events))
        if row.other == NONE:
            _keep(waits.failures)
        return
    waits.causes[ADMISSION].episodes += 1
    waits.causes[ADMISSION].attempts += row.count
    stall = waits.stalls[waits.stalls.shape[0] - 1]
    goes_on = stall.used != 0 and stall.request == row.request and state.end_step == row.step
    if not goes_on:
        _keep(waits.stalls)
        _begin(waits.stalls, row, int(state.events))
    elif stall.other == NONE:
        stall.other = row.other
    state.first_step = row.step
    state.end_step = row.step + row.count
    state.head = row.request
    state.other = row.other


@kernel
def _preempted(waits: Waits, row: Record) -> None:
    state, request = waits.state, waits.requests[row.request]
    lost = max(0, int(row.computed_tokens))
    state.preemptions += 1
    state.thrown_tokens += lost
    request.preemptions += 1
    request.thrown_tokens += lost
    request.lost = lost
    request.preempted_ms = row.time_ms
    request.waits_again = 1
    request.needy = row.other
    if row.other != NONE and row.other != row.request:
        waits.requests[row.other].caused += 1
    failure = waits.failures[waits.failures.shape[0] - 1]
    if failure.used != 0 and failure.other == row.request:
        failure.cost = lost
        _keep(waits.failures)


@kernel
def _admitted(waits: Waits, row: Record) -> None:
    request = waits.requests[row.request]
    if request.admitted_ms != request.admitted_ms:
        request.admitted_ms = row.time_ms
    if request.waits_again == 0:
        return
    request.waits_again = 0
    request.waited_again_ms += row.time_ms - request.preempted_ms
    wasted = max(0, int(request.lost) - max(0, int(row.computed_tokens)))
    waits.state.wasted_tokens += wasted
    request.wasted_tokens += wasted
    if request.needy != NONE and request.needy != row.request:
        waits.requests[request.needy].caused_tokens += wasted


@kernel
def _begin(table: Records, row: Record, event: int) -> None:
    """Start the last place of `table` with a failure; what was under way there is replaced."""
    failure = table[table.shape[0] - 1]
    failure.event = event
    failure.step = row.step
    failure.time_ms = row.time_ms
    failure.cost = 0.0
    failure.head_of_line_ms = 0.0
    failure.steps = 0
    failure.request = row.request
    failure.cause = row.cause
    failure.needed = row.blocks_needed
    failure.free = row.free_blocks
    failure.other = row.other
    failure.used = 1


@kernel
def _keep(table: Records) -> None:
    """Move the failure under way into the table if it costs more than the cheapest there; O(T)."""
    last = table.shape[0] - 1
    ended = table[last]
    if ended.used == 0:
        return
    ended.used = 0
    cheapest = 0
    for at in range(last):
        place = table[at]
        if place.used == 0:
            cheapest = at
            break
        if place.cost < table[cheapest].cost:
            cheapest = at
    place = table[cheapest]
    if place.used != 0 and ended.cost <= place.cost:
        return
    place.event = ended.event
    place.step = ended.step
    place.time_ms = ended.time_ms
    place.cost = ended.cost
    place.head_of_line_ms = ended.head_of_line_ms
    place.steps = ended.steps
    place.request = ended.request
    place.cause = ended.cause
    place.needed = ended.needed
    place.free = ended.free
    place.other = ended.other
    place.used = 1
