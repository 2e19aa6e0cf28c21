"""The roster: who waits, who runs, how far they are.

Owns: a request's state and counts. Leaves to others: blocks (`_tally_blocks_kernel`).
"""

from __future__ import annotations

from kvatlas.events import schema
from kvatlas.events.schema import NONE
from kvatlas.jit import kernel
from kvatlas.records import Record
from kvatlas.watch._tally_state_kernel import GONE, PREEMPTED, RUNNING, UNSEEN, WAITING, Tally

__all__ = ["arrive", "follow_request"]


@kernel
def arrive(tally: Tally, row: Record) -> None:
    request = tally.requests[row.request]
    if row.cause != schema.BY_CHECKPOINT:
        tally.sums.arrived += 1
    _enter(tally, request, WAITING)
    request.since_ms = row.time_ms
    request.tokens = row.tokens


@kernel
def follow_request(tally: Tally, row: Record) -> None:
    """Let the roster follow an event on a request, if it is one."""
    sums, event = tally.sums, row.event
    if row.request == NONE:
        return
    request = tally.requests[row.request]
    if event == schema.ADMITTED:
        if row.cause == schema.BY_NEW:
            sums.admitted += 1
            if request.state == UNSEEN:
                request.tokens = row.tokens
        elif row.cause == schema.BY_RESUMED:
            sums.resumed += 1
        _enter(tally, request, RUNNING)
        if row.cause == schema.BY_CHECKPOINT:
            return
        request.hits = request.computed = max(0, int(row.computed_tokens))
    elif event == schema.SCHEDULED or (event == schema.ALLOCATED and row.cause == schema.BY_DECODE):
        if row.computed_tokens > request.computed:
            request.computed = row.computed_tokens
    elif event == schema.PREEMPTED:
        sums.preemptions += 1
        request.preemptions += 1
        request.computed = 0
        _enter(tally, request, PREEMPTED)
    elif event == schema.FINISHED:
        if row.cause != schema.BY_CHECKPOINT:
            sums.finished += 1
        if row.cause == schema.BY_ABORTED:
            sums.aborted += 1
        elif row.cause == schema.BY_SET_ASIDE:
            sums.set_aside += 1
        _enter(tally, request, GONE)


@kernel
def _enter(tally: Tally, request: Record, state: int) -> None:
    """Let a request be in `state` from now on."""
    now = tally.now
    if request.state == RUNNING:
        now.running -= 1
    elif request.state == WAITING or request.state == PREEMPTED:
        now.waiting -= 1
    if state == RUNNING:
        now.running += 1
    elif state == WAITING or state == PREEMPTED:
        now.waiting += 1
    # A recording may begin in the middle, with requests that it never saw arrive.
    now.running = max(0, now.running)
    now.waiting = max(0, now.waiting)
    request.state = state
    request.since_ms = tally.sums.time_ms
