"""A recording as a load to replay: who came when, with which prefix, and how much was answered.

Owns: from events to a `Workload`, and what cannot be known of it. Leaves to others: the steps'
times (`step_fit`), holding a replay against it (`kvatlas.measure.prediction`).

A recording has no prompts, only which blocks a request hit and which it cached, by their keys. Two
equal keys mean two equal prefixes, so that is all that reuse depends on. What lies behind the last
block that was ever full, or was never computed, is taken as nobody else's.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError, InvariantError
from kvatlas.events import AnyRecording, Chunk, Header, schema
from kvatlas.events.schema import NONE
from kvatlas.measure.course import Course, CourseResult
from kvatlas.measure.feeding import reference_group
from kvatlas.workload import Workload
from kvatlas.workload.model import id_counts

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["RecordedLoad", "recorded_load"]

F64 = NDArray[np.float64]
_MS_PER_S = 1e3


@dataclass(frozen=True, slots=True, eq=False)
class RecordedLoad:
    """A recorded run's load, and the run itself to hold a prediction against.

    Attributes:
        header: the recording's.
        workload: requests that were given slots, in the order of their arrival.
        first_ms: the recording's clock at the first arrival.
        end_ms: and at its end.
        step_began_ms, step_span_ms, step_tokens: (S,) the steps: when, how long, scheduled tokens.
        course: what really happened over the clock.
    """

    header: Header
    workload: Workload
    first_ms: float
    end_ms: float
    step_began_ms: F64
    step_span_ms: F64
    step_tokens: F64
    course: CourseResult


def recorded_load(recording: AnyRecording) -> RecordedLoad:
    """Read the load of a recording. O(events + blocks named); some 60 bytes per block of a prompt.

    Raises: InputError for a damaged recording, or one in which nobody was served.
    """
    reader = _Reader(recording.header)
    course = Course(recording.header)
    for chunk in recording.resolved():
        _refuse_gaps(chunk.rows, recording.path)
        course.feed(chunk)
        reader.feed(chunk)
    workload = reader.workload(recording, _priorities(recording))
    return RecordedLoad(
        header=recording.header,
        workload=workload,
        first_ms=reader.first_ms,
        end_ms=reader.end_ms,
        step_began_ms=np.concatenate([*reader.began_ms, np.empty(0)]),
        step_span_ms=np.concatenate([*reader.span_ms, np.empty(0)]),
        step_tokens=np.concatenate([*reader.tokens, np.empty(0)]),
        course=course.result(),
    )


def _refuse_gaps(rows: NDArray[np.void], path: str) -> None:
    """What happened in a gap is not known: neither who came nor how long the answers were."""
    told = rows["event"][rows["cause"] == schema.BY_CHECKPOINT]
    if np.isin(told, (schema.RESET, schema.FINISHED)).any():
        raise InputError(
            "parts of its middle are missing, so its load is not known", file=path,
            remedy="record all steps (--sample 1), on a disk with room",
        )  # fmt: skip


@dataclass(slots=True)
class _Request:
    """What is known of a request so far; `keys` of its leading blocks, without a gap."""

    arrival_ms: float
    prompt: int
    session: int
    keys: array[int] = field(default_factory=lambda: array("q"))
    computed: int = 0
    tokens: int = NONE
    cause: int = NONE

    def learn(self, position: int, keys: Iterable[int]) -> None:
        """Note the keys of the blocks from `position` on; behind a gap nothing can be said."""
        known = len(self.keys)
        if position <= known:
            self.keys.extend(list(keys)[known - position :])


_COLUMNS = (
    "event", "request", "group", "count", "position", "key", "key_stride", "blocks_at", "tokens",
    "computed_tokens", "cause", "session", "time_ms",
)  # fmt: skip
_SEEN = (
    schema.ARRIVED, schema.TOUCHED, schema.EVICTED, schema.ALLOCATED, schema.CACHED,
    schema.SCHEDULED, schema.FINISHED, schema.RESET,
)  # fmt: skip


class _Reader:
    """Collects requests and steps from resolved chunks."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.group = reference_group(header) if header.caching else None
        self.requests: dict[int, _Request] = {}
        self.began_ms: list[F64] = []
        self.span_ms: list[F64] = []
        self.tokens: list[F64] = []
        self.first_ms, self.end_ms = float("inf"), 0.0
        self._content = np.full(header.num_blocks, NONE, np.int64)

    def feed(self, chunk: Chunk) -> None:
        """Add a resolved chunk."""
        rows = chunk.rows
        self._steps(rows[rows["event"] == schema.STEP])
        told = rows[np.isin(rows["event"], _SEEN)]
        columns = (told[name].tolist() for name in _COLUMNS)
        for event, row, group, count, position, key, stride, at, tokens, computed, cause, session, \
                time_ms in zip(*columns, strict=True):  # fmt: skip
            request = self.requests.get(row)
            if event == schema.ARRIVED:
                self.first_ms = min(self.first_ms, time_ms)
                self.requests.setdefault(row, _Request(time_ms, tokens, session))
            elif event == schema.FINISHED:
                if request is not None:
                    request.tokens, request.cause = tokens, cause
            elif event == schema.SCHEDULED:
                if request is not None:
                    request.computed = max(request.computed, computed)
            elif event == schema.RESET:
                self._content[:] = NONE
            else:
                if event == schema.ALLOCATED and request is not None:
                    request.computed = max(request.computed, computed)
                if group == self.group and at != NONE:
                    ids = chunk.ids[at : at + count]
                    self._blocks(event, request, position, ids, key, stride)

    def _blocks(
        self,
        event: int,
        request: _Request | None,
        position: int,
        ids: NDArray[np.int32],
        key: int,
        stride: int,
    ) -> None:
        """Follow what the blocks of full attention hold."""
        if event == schema.CACHED:
            keys = key + stride * np.arange(ids.size, dtype=np.int64)
            self._content[ids] = keys
            if request is not None:
                request.learn(position, keys.tolist())
        elif event == schema.TOUCHED:
            held = self._content[ids]
            if request is not None and (held != NONE).all():
                request.learn(position, held.tolist())
        elif event == schema.EVICTED:
            self._content[ids] = NONE

    def _steps(self, rows: NDArray[np.void]) -> None:
        if not len(rows):
            return
        counts = np.maximum(rows["count"], 1)
        self.began_ms.append(np.repeat(rows["time_ms"], counts))
        self.span_ms.append(np.repeat(rows["span_ms"], counts))
        self.tokens.append(np.repeat(rows["tokens"], counts).astype(np.float64))
        ends_ms = rows["time_ms"] + rows["span_ms"] * counts
        self.end_ms = max(self.end_ms, float(ends_ms.max()))

    def workload(self, recording: AnyRecording, priorities: dict[int, int]) -> Workload:
        """Return those who were given slots as columns. Raises: InputError."""
        rows = [
            row
            for row in sorted(self.requests)
            if self.requests[row].computed > 0 and self.requests[row].prompt > 0
        ]
        served = [self.requests[row] for row in rows]
        if not served:
            raise InputError(
                "nobody was served in this recording", file=recording.path,
                remedy="record a server under load",
            )  # fmt: skip
        count = len(served)
        prompt = np.array([request.prompt for request in served], np.int32)
        output = np.array([_output(request) for request in served], np.int32)
        arrival_s = np.array([request.arrival_ms - self.first_ms for request in served]) / _MS_PER_S
        span = 1 if self.group is None else self.header.groups[self.group].block_size
        ids, offsets, num_ids = self._identities(served, prompt, output, span)
        none = np.full(count, -1, np.int32)
        session = np.array([request.session for request in served], np.int32)
        workload = Workload(
            name="recorded load",
            source=recording.path,
            # A recorder's clock never goes back, a damaged file's may.
            arrival_s=np.maximum.accumulate(arrival_s),
            prompt_tokens=prompt,
            output_tokens=output,
            tokens_per_id=span,
            ids=ids,
            id_offsets=offsets,
            num_ids=num_ids,
            prefix_known=self.group is not None,
            outputs_identified=self.group is not None,
            session=_dense(session),
            parent=none,
            priority=_ranks([priorities.get(row, 0) for row in rows] if priorities else none),
            salt=np.zeros(count, np.int32),
            notes=tuple(self._notes(served, recording.partial)),
        )
        try:
            workload.check()
        except InvariantError as error:
            raise InputError(
                f"its requests contradict each other: {error}", file=recording.path,
                remedy="the recording is damaged",
            ) from error  # fmt: skip
        return workload

    def _identities(
        self,
        served: list[_Request],
        prompt: NDArray[np.int32],
        output: NDArray[np.int32],
        span: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """Return ids, offsets and their number: keys renumbered, new ones where none is known."""
        if self.group is None:
            return np.empty(0, np.int64), np.zeros(len(served) + 1, np.int64), 0
        total = prompt.astype(np.int64) + output
        counts = id_counts(total, span)
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        keys = np.full(int(offsets[-1]), NONE, np.int64)
        for at, request in enumerate(served):
            known = min(len(request.keys), int(total[at]) // span)
            keys[offsets[at] : offsets[at] + known] = request.keys[:known]
        known = keys != NONE
        names, keys[known] = np.unique(keys[known], return_inverse=True)
        fresh = int((~known).sum())
        keys[~known] = names.size + np.arange(fresh)
        return keys, offsets, names.size + fresh

    def _notes(self, served: list[_Request], partial: str) -> list[str]:
        """Say what the recording does not tell."""
        notes = []
        cut = sum(request.tokens == NONE for request in served)
        aborted = sum(request.cause == schema.BY_ABORTED for request in served)
        waiting = len(self.requests) - len(served)
        if cut:
            notes.append(f"{cut:,} requests still ran at the recording's end: answered up to there")
        if aborted:
            notes.append(f"{aborted:,} were aborted: taken as answered up to there")
        if waiting:
            notes.append(f"{waiting:,} never got slots: left out, their answers are not known")
        if self.group is None:
            notes.append("which prompts share a prefix is unknown: replayed as if none did")
        if partial:
            notes.append(f"the recording is partial: {partial}")
        return notes


def _priorities(recording: AnyRecording) -> dict[int, int]:
    """Return the priority of each request, where a live recording says it and it mattered."""
    header = recording.header
    if header.producer != "live" or header.config.get("policy") != "priority":
        return {}
    from kvatlas.events.live.call_reader import Calls
    from kvatlas.events.live.calls import Arrived
    from kvatlas.events.live.first_row import first_row
    from kvatlas.events.live.folders import engine_folder

    folder = engine_folder(recording.path)
    first = first_row(folder)
    return {call.row - first: call.priority for call in Calls(folder) if isinstance(call, Arrived)}


def _ranks(priorities: list[int] | NDArray[np.int32]) -> NDArray[np.int32]:
    """Return priorities as small numbers in their order, 1 and on; 0 where none is known.

    A workload of zeros has no priorities, a server's requests of equal priority have.
    """
    if isinstance(priorities, np.ndarray):
        return np.zeros(priorities.size, np.int32)
    return (np.unique(priorities, return_inverse=True)[1] + 1).astype(np.int32)


def _output(request: _Request) -> int:
    """Tokens answered; a request that still runs has sampled one beyond what is computed."""
    tokens = request.tokens if request.tokens != NONE else request.computed + 1
    return max(1, tokens - request.prompt)


def _dense(numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    """Renumber what is not negative from 0 on."""
    known = numbers >= 0
    dense = np.full_like(numbers, -1)
    dense[known] = np.unique(numbers[known], return_inverse=True)[1]
    return dense
