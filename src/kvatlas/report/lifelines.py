"""Requests' lifelines as nested asynchronous slices of the Trace Event Format.

Owns: which phase a request is in, and the matching begins and ends. Leaves to others: sorting,
counters, the file (`run_perfetto`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kvatlas.events import schema

__all__ = ["Lifelines", "Timed"]

Timed = tuple[float, dict[str, Any]]
"""Microseconds, and an event without its `ts`."""

_CATEGORY = "request"


@dataclass(slots=True)
class _Line:
    """A request in the system: its open phase, the tokens at which its prefill is over, and when
    that was."""

    phase: str = ""
    tokens: int = schema.NONE
    prefilled_us: float | None = None


class Lifelines:
    """Follows requests row by row. Memory: O(requests in the system)."""

    def __init__(
        self,
        pid: int,
        name_of: Callable[[int], str | None],
        put: Callable[[float, dict[str, Any]], None],
    ) -> None:
        self._pid, self._name_of, self._put = pid, name_of, put
        self._lines: dict[int, _Line] = {}
        self._ending: list[int] = []  # whose last chunk of prefill is in this step
        self._prefilled: list[int] = []  # whose was in the last one

    def row(self, row: Mapping[str, Any], ts: float) -> None:
        """Follow one event on a request."""
        request, event = row["request"], row["event"]
        if event == schema.ARRIVED:
            self._open(request, ts, prompt_tokens=row["tokens"], session=row["session"])
            self._begin(request, "queued", ts)
            return
        if request not in self._lines:  # it arrived before the recording began
            self._open(request, ts)
        line = self._lines[request]
        if event == schema.ADMITTED:
            self._end_phase(request, ts)
            line.tokens = row["tokens"]
            self._begin(request, "prefill", ts, tokens=row["tokens"], cached=row["computed_tokens"])
        elif event == schema.SCHEDULED:
            if line.phase == "prefill" and row["computed_tokens"] >= line.tokens >= 0:
                self._ending.append(request)
        elif event == schema.PREEMPTED:
            self._end_phase(request, ts)
            self._event("n", request, "preempted", ts, tokens_lost=row["computed_tokens"])
            self._begin(request, "queued", ts)
        elif event == schema.FINISHED:
            self._end_phase(request, ts)
            cause = row["cause"]
            said = {} if cause == schema.NONE else {"cause": schema.CAUSES[cause]}
            self._event("e", request, "request", ts, tokens=row["tokens"], **said)
            del self._lines[request]

    def step(self, start_us: float, end_us: float) -> None:
        """Follow a step: who was prefilled in the step before it decodes from there on."""
        for request in self._prefilled:
            line = self._lines.get(request)
            if line is not None and line.prefilled_us is not None:
                since = line.prefilled_us
                self._end_phase(request, since)
                self._begin(request, "decode", since)
        for request in self._ending:
            line = self._lines.get(request)
            if line is not None and line.phase == "prefill":
                line.prefilled_us = end_us
        self._prefilled, self._ending = self._ending, []

    def close(self, ts: float) -> None:
        """End what is still open when the recording is over."""
        for request in list(self._lines):
            self._end_phase(request, ts)
            self._event("e", request, "request", ts, cause="still open at the end")
            del self._lines[request]

    def _open(self, request: int, ts: float, **said: Any) -> None:
        if request in self._lines:
            return
        self._lines[request] = _Line()
        name = self._name_of(request)
        given = {} if name is None else {"id": name}
        self._event("b", request, "request", ts, request=request, **given, **said)

    def _begin(self, request: int, phase: str, ts: float, **said: Any) -> None:
        self._lines[request].phase = phase
        self._event("b", request, phase, ts, **said)

    def _end_phase(self, request: int, ts: float) -> None:
        line = self._lines[request]
        if line.phase:
            # A prefill that was over before this moment ends there, at the end of its step.
            over = ts if line.prefilled_us is None else min(ts, line.prefilled_us)
            self._event("e", request, line.phase, over)
        line.phase, line.prefilled_us = "", None

    def _event(self, kind: str, request: int, name: str, ts: float, /, **said: Any) -> None:
        event: dict[str, Any] = {
            "ph": kind,
            "cat": _CATEGORY,
            "id": f"0x{request:x}",
            "name": name,
            "pid": self._pid,
            "tid": self._pid,
        }
        args = {key: value for key, value in said.items() if value != schema.NONE}
        if args:
            event["args"] = args
        self._put(ts, event)
