"""A run as a trace for the Perfetto UI (https://ui.perfetto.dev) or chrome://tracing.

Owns: the Trace Event Format's JSON (legacy format: an object with `traceEvents`), what becomes a
counter, a slice or an instant, and their order. Leaves to others: writing and compressing the bytes
(`whole_files`), the events' meaning (`kvatlas.events.schema`).

Three processes: the KV pool (counters), the scheduler (counters and instants) and the requests, a
lifeline each: `request` from arrival to its end, in it `queued`, `prefill` and `decode`, again
after every preemption. Times are microseconds of the run's clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import numpy as np

from kvatlas.events import Chunk, Header, schema
from kvatlas.report.lifelines import Lifelines, Timed
from kvatlas.report.run_document import TimeSeries

__all__ = ["run_perfetto"]

POOL, SCHEDULER, REQUESTS = 1, 2, 3
_PROCESSES = {POOL: "KV pool", SCHEDULER: "Scheduler", REQUESTS: "Requests"}

_COLUMNS = (
    "event", "cause", "time_ms", "request", "session", "count", "tokens", "computed_tokens",
    "ref_count", "other", "blocks_needed", "free_blocks", "running", "waiting", "wasted_slots",
    "span_ms",
)  # fmt: skip
_SHOWN = (
    schema.ARRIVED, schema.ADMITTED, schema.SCHEDULED, schema.FREED, schema.PREEMPTED,
    schema.FINISHED, schema.ALLOCATION_FAILED, schema.RESET, schema.STEP, schema.ENDED,
)  # fmt: skip
_PART_BYTES = 1 << 18


def run_perfetto(
    header: Header,
    chunks: Iterable[Chunk],
    *,
    name_of: Callable[[int], str | None] = lambda request: None,
    series: TimeSeries | None = None,
) -> Iterator[bytes]:
    """Yield the trace piece by piece; together they are one JSON document.

    Args:
        header: of the recording.
        chunks: its raw events, in order.
        name_of: a request's own id, None where it has none; asked when the request's first event
            has been read.
        series: where evictable and empty blocks over time come from; left out without it.

    Events are sorted by time. Memory: O(requests in the system + events of one step).
    """
    timed = _Events(header, name_of).of(chunks)
    if series is not None:
        timed = heapq.merge(timed, _slow_counters(series), key=lambda each: each[0])
    parts = [
        b'{"displayTimeUnit":"ms","otherData":',
        msgspec.json.encode({"kvatlas": header.kvatlas, "engine": header.engine}),
        b',"traceEvents":[\n',
        b",\n".join(map(msgspec.json.encode, _metadata())),
    ]
    size = 0
    for ts, event in timed:
        encoded = msgspec.json.encode({**event, "ts": round(ts, 3)})
        parts += (b",\n", encoded)
        size += len(encoded)
        if size > _PART_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join((*parts, b"\n]}\n"))


def _metadata() -> Iterator[dict[str, Any]]:
    for pid, name in _PROCESSES.items():
        for kind, args in (
            ("process_name", {"name": name}),
            ("process_sort_index", {"sort_index": pid}),
        ):
            yield {"ph": "M", "name": kind, "pid": pid, "tid": 0, "ts": 0, "args": args}


def _slow_counters(series: TimeSeries) -> Iterator[Timed]:
    """Yield what the stream does not say event by event: means, from each interval's start."""
    for at, start_s in enumerate(series.start_s.tolist()):
        for name in ("evictable", "empty"):
            value = float(series.columns[name][at]) if name in series.columns else np.nan
            if np.isfinite(value):
                title = f"{name} blocks (mean of the interval)"
                yield 1e6 * start_s, _counter(POOL, title, round(value, 3))


def _counter(pid: int, name: str, value: float) -> dict[str, Any]:
    return {"ph": "C", "name": name, "pid": pid, "tid": pid, "args": {"value": value}}


class _Events:
    """Turns rows into events and sorts them.

    Requests arrive between steps and are logged with the next one, so events wait in a heap until
    no earlier one can come: until the step after them begins.
    """

    def __init__(self, header: Header, name_of: Callable[[int], str | None]) -> None:
        self._usable, self._slot_groups = header.usable_blocks, header.slot_groups
        self._heap: list[tuple[float, int, dict[str, Any]]] = []
        self._number = 0
        self._said: dict[str, float] = {}
        self._used = self._running = 0
        self._last_us = 0.0
        self._lifelines = Lifelines(REQUESTS, name_of, self._put)

    def of(self, chunks: Iterable[Chunk]) -> Iterator[Timed]:
        """Yield time and event, sorted."""
        for chunk in chunks:
            rows = chunk.rows[np.isin(chunk.rows["event"], _SHOWN)]
            columns = [rows[name].tolist() for name in _COLUMNS]
            for values in zip(*columns, strict=True):
                row = dict(zip(_COLUMNS, values, strict=True))
                self._row(row, 1e3 * row["time_ms"])
                if row["event"] == schema.STEP:
                    yield from self._until(1e3 * row["time_ms"])
        self._lifelines.close(self._last_us)
        yield from self._until(float("inf"))

    def _until(self, ts: float) -> Iterator[Timed]:
        while self._heap and self._heap[0][0] <= ts:
            at, _, event = heapq.heappop(self._heap)
            yield at, event

    def _put(self, ts: float, event: dict[str, Any]) -> None:
        # The number keeps events of one moment in the order in which they happened.
        heapq.heappush(self._heap, (ts, self._number, event))
        self._number += 1
        self._last_us = max(self._last_us, ts)

    def _row(self, row: dict[str, Any], ts: float) -> None:
        event = row["event"]
        if event == schema.STEP:
            self._step(row, ts)
        elif event == schema.FREED:
            if row["ref_count"] == 0:
                self._used -= row["count"]
                self._count(ts, POOL, "used blocks", self._used)
        elif event == schema.ALLOCATION_FAILED:
            self._instant(ts, "allocation failed", row, "blocks_needed", "free_blocks", "count")
        elif event == schema.RESET:
            self._instant(ts, "cache reset", row, "count")
        elif event != schema.ENDED:
            self._lifelines.row(row, ts)
            if event == schema.PREEMPTED:
                self._instant(ts, "preempted", row, "other", "computed_tokens")
            elif event == schema.FINISHED:
                self._running = max(0, self._running - 1)
                self._count(ts, SCHEDULER, "running", self._running)
                if self._running == 0:
                    self._count(ts, POOL, "wasted slots", 0)

    def _step(self, row: dict[str, Any], ts: float) -> None:
        self._lifelines.step(ts, ts + 1e3 * row["span_ms"])
        self._used, self._running = self._usable - row["free_blocks"], row["running"]
        self._count(ts, POOL, "used blocks", self._used)
        self._count(ts, SCHEDULER, "running", self._running)
        self._count(ts, SCHEDULER, "waiting", row["waiting"])
        wasted, later = row["wasted_slots"], row["count"] - 1
        if wasted != schema.NONE:
            self._count(ts, POOL, "wasted slots", wasted)
            if later > 0:
                # Each of the steps fills as many slots as it computes tokens, in every group.
                last = ts + 1e3 * row["span_ms"] * later
                filled = later * row["tokens"] * self._slot_groups
                self._count(last, POOL, "wasted slots", wasted - filled)
        self._last_us = max(self._last_us, ts + 1e3 * row["span_ms"] * row["count"])

    def _count(self, ts: float, pid: int, name: str, value: int) -> None:
        if self._said.get(name) != value and value != schema.NONE:
            self._said[name] = value
            self._put(ts, _counter(pid, name, value))

    def _instant(self, ts: float, name: str, row: dict[str, Any], *columns: str) -> None:
        args = {column: row[column] for column in columns if row[column] != schema.NONE}
        if row["request"] != schema.NONE:
            args["request"] = row["request"]
        if row["cause"] != schema.NONE:
            args["cause"] = schema.CAUSES[row["cause"]]
        self._put(
            ts,
            {"ph": "i", "s": "p", "name": name, "pid": SCHEDULER, "tid": SCHEDULER, "args": args},
        )
