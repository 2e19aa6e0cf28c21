"""Contention: who waited for memory, who was thrown out for whom, and what that cost.

Owns: failed allocations, head-of-line blocking, stalls, preemption waste, queue times by request.
Leaves to others: the latency of answers (`latency`), waste of slots (`temporal`).

A refusal lasts for the steps in which it was repeated; a *stall* is an unbroken stretch of steps in
which the same request, at the head of the queue, was refused. The time of a stall is head-of-line
blocking as far as a later request would have fitted in it even without a prefix hit (one that would
have needed its hits is not seen, so this is a lower bound).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import CAUSES, Chunk, Header
from kvatlas.events.schema import NONE
from kvatlas.measure._contention_kernel import (
    ADMISSION,
    CAUSE,
    DECODE,
    FAILURE,
    PREFILL,
    REQUEST,
    STATE,
    Waits,
)
from kvatlas.measure.contention_result import ContentionResult, Failure, RequestWaits, Stall
from kvatlas.measure.feeding import writable
from kvatlas.measure.figures import Figures
from kvatlas.measure.latency import PERCENTILES
from kvatlas.records import Record, one_record, records

__all__ = ["Contention", "ContentionResult", "Failure", "RequestWaits", "Stall"]

F64 = NDArray[np.float64]

_TABLE = 50
_TOP = 20
_NO_TIME = "the clock stood still: a step takes 0 ms"
_NOTHING = "nothing was scheduled"
_BACKLOG = "requests wait in a backlog, not at times of their own: use --arrivals timed"


class Contention:
    """Follows a stream of resolved chunks. Memory: 100 bytes per request."""

    def __init__(self, header: Header) -> None:
        # A backlog is refilled as it empties: when a request joins it says nothing about it.
        self._timed = header.producer != "replay" or header.config.get("arrivals") == "timed"
        requests = records(max(1, header.num_requests), REQUEST)
        for name in ("arrived_ms", "admitted_ms"):
            requests[name] = np.nan
        requests["needy"] = NONE
        self._waits = Waits(
            state=one_record(STATE, head=NONE, other=NONE),
            requests=requests,
            causes=records(3, CAUSE),
            stalls=records(_TABLE + 1, FAILURE),
            failures=records(_TABLE + 1, FAILURE),
        )

    def feed(self, chunk: Chunk) -> None:
        """Take in a resolved (or raw) chunk; O(rows)."""
        from kvatlas.measure._contention_kernel import follow

        follow(self._waits, writable(chunk)[0])

    def result(
        self, largest_free_run: Callable[[int], int | None] | None = None
    ) -> ContentionResult:
        """Return what was found so far; the state stays. O(requests log requests).

        Args:
            largest_free_run: says for an event's number how long the longest run of consecutive
                free blocks was when it happened; asked for the rows of the two tables only.
        """
        waits = self._waits
        state, requests, causes = waits.state, waits.requests, waits.causes
        largest = largest_free_run or (lambda event: None)
        queued_ms = requests["admitted_ms"] - requests["arrived_ms"]
        return ContentionResult(
            span_ms=float(state.now_ms - state.first_ms),
            refused_ms=float(state.refused_ms),
            head_of_line_ms=float(state.head_of_line_ms),
            failed_admission=int(causes[ADMISSION].attempts),
            failed_prefill=int(causes[PREFILL].attempts),
            failed_decode=int(causes[DECODE].attempts),
            computed_tokens=int(state.computed_tokens),
            preemptions=int(state.preemptions),
            thrown_tokens=int(state.thrown_tokens),
            wasted_tokens=int(state.wasted_tokens),
            waiting_tokens=int(requests["lost"][requests["waits_again"] != 0].sum()),
            preempted_requests=int(np.count_nonzero(requests["preemptions"])),
            preempted_again=int(np.count_nonzero(requests["preemptions"] > 1)),
            most_preemptions=int(requests["preemptions"].max()),
            stalls=tuple(_stall(row, largest) for row in _costliest(waits.stalls)),
            failures=tuple(_failure(row, largest) for row in _costliest(waits.failures)),
            top_queued=self._top(queued_ms) if self._timed else (),
            top_wasted=self._top(requests["wasted_tokens"]),
            top_causes=self._top(requests["caused_tokens"]),
            top_held_up=self._top(requests["overtaking_ms"]),
            queued_ms=queued_ms,
            request_wasted_tokens=requests["wasted_tokens"].copy(),
            request_preemptions=requests["preemptions"].copy(),
        )

    def figures(self, sheet: Figures) -> None:
        """Put the figures of allocation failures, the queue's head, and preemption."""
        result = self.result()
        sheet.put("allocation.failed_admission", result.failed_admission)
        sheet.put("allocation.failed_prefill", result.failed_prefill)
        sheet.put("allocation.failed_decode", result.failed_decode)
        for name, span_ms in (
            ("queue.head_refused", result.refused_ms),
            ("queue.head_of_line", result.head_of_line_ms),
        ):
            if result.span_ms > 0:
                sheet.put(f"{name}_s", span_ms / 1e3)
            else:
                sheet.lack(_NO_TIME, f"{name}_s")
            sheet.ratio(f"{name}_share", span_ms, result.span_ms, _NO_TIME)
        if result.stalls:
            sheet.put("queue.longest_stall_s", result.stalls[0].refused_s)
        else:
            sheet.lack("the head of the queue was never refused", "queue.longest_stall_s")
        self._queue_time(sheet, result.queued_ms)
        sheet.put("preemption.thrown_tokens", result.thrown_tokens)
        sheet.put("preemption.wasted_tokens", result.wasted_tokens)
        sheet.ratio("preemption.waste", result.wasted_tokens, result.computed_tokens, _NOTHING)
        sheet.put("preemption.requests", result.preempted_requests)
        sheet.put("preemption.requests_again", result.preempted_again)
        sheet.put("preemption.most_of_one_request", result.most_preemptions)

    def _queue_time(self, sheet: Figures, queued_ms: F64) -> None:
        names = ("queue.time_mean_s", *(f"queue.time_p{share}_s" for share in PERCENTILES))
        known = queued_ms[~np.isnan(queued_ms)]
        if not self._timed:
            sheet.lack(_BACKLOG, *names)
        elif known.size == 0:
            sheet.lack("no request was admitted", *names)
        else:
            for name, value in zip(
                names, (known.mean(), *np.percentile(known, PERCENTILES)), strict=True
            ):
                sheet.put(name, float(value) / 1e3)

    def _top(self, worth: NDArray[np.generic]) -> tuple[RequestWaits, ...]:
        """Return the requests of most `worth`, none of those without any."""
        values = np.nan_to_num(np.asarray(worth, np.float64))
        order = np.argsort(-values, kind="stable")[:_TOP]
        return tuple(self._request(row) for row in order.tolist() if values[row] > 0)

    def _request(self, row: int) -> RequestWaits:
        request = self._waits.requests[row]
        queued_ms = float(request.admitted_ms - request.arrived_ms)
        return RequestWaits(
            request=row,
            queued_s=None if np.isnan(queued_ms) else queued_ms / 1e3,
            refused_s=float(request.refused_ms) / 1e3,
            held_up_s=float(request.overtaking_ms) / 1e3,
            preemptions=int(request.preemptions),
            waited_again_s=float(request.waited_again_ms) / 1e3,
            wasted_tokens=int(request.wasted_tokens),
            caused_preemptions=int(request.caused),
            caused_wasted_tokens=int(request.caused_tokens),
        )


def _costliest(table: NDArray[np.void]) -> list[Record]:
    """Return the failures of a table, the one under way among them, costliest first."""
    used = table[table["used"] != 0]
    order = np.lexsort((used["event"], -used["cost"]))
    return [used[at] for at in order[:_TABLE].tolist()]


def _known(value: int) -> int | None:
    return None if value == NONE else int(value)


def _stall(row: Record, largest: Callable[[int], int | None]) -> Stall:
    return Stall(
        event=int(row.event),
        step=int(row.step),
        time_s=float(row.time_ms) / 1e3,
        request=int(row.request),
        needed=_known(row.needed),
        free=_known(row.free),
        largest_free_run=largest(int(row.event)),
        overtaking=_known(row.other),
        steps=int(row.steps),
        refused_s=float(row.cost) / 1e3,
        head_of_line_s=float(row.head_of_line_ms) / 1e3,
    )


def _failure(row: Record, largest: Callable[[int], int | None]) -> Failure:
    return Failure(
        event=int(row.event),
        step=int(row.step),
        time_s=float(row.time_ms) / 1e3,
        request=int(row.request),
        cause=CAUSES[row.cause],
        needed=_known(row.needed),
        free=_known(row.free),
        largest_free_run=largest(int(row.event)),
        preempted=_known(row.other),
        thrown_tokens=int(row.cost),
    )
