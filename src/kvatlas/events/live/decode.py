"""A server's records as events of the schema, exactly as a replay would give them.

Owns: which events a record becomes, in which order, at which time. Leaves to others: the state
behind them (`books`), rows (`event_rows`), where records come from (`word_records`).

What a call of the scheduler did is written when it is over, so a step's records are read as a unit:
who made whom wait is known only at its end. A step's row comes when its outputs are in; it lasts
until then, and what they bring (blocks freed, requests finished) has the time of its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvatlas.events import schema
from kvatlas.events.chunk import Chunk
from kvatlas.events.header import Header
from kvatlas.events.live.books import NONE, Books
from kvatlas.events.live.counted_rows import CountedRows
from kvatlas.events.live.event_rows import EventRows
from kvatlas.events.live.restart import check_checkpoint, restart
from kvatlas.events.live.word_records import MOST_UNIT_RECORDS, WordRecord, asker_of, time_ms
from kvatlas.wire import layout
from kvatlas.wire.layout import long_number, words_to_bytes

__all__ = ["Decoder"]


@dataclass(slots=True)
class _Step:
    """A scheduled step whose outputs are not in yet."""

    number: int
    began_ms: float
    tokens: int
    running: int
    waiting: int
    free_blocks: int
    wasted_slots: int


@dataclass(slots=True)
class _Admission:
    row: int
    tokens: int
    hit: int


class Decoder:
    """Records in, events out.

    Attributes:
        names: requests' own ids, by their numbers.
        ended: the recording was closed properly.
        gaps: stretches in which nothing was recorded: losses, errors, windows of sampling.
        lost_records: records that found no room on the disk.
        faults, last_fault: errors of the recorder.
        disagreements: checkpoints that contradict what was recorded before them.
    """

    def __init__(
        self, header: Header, source: str, statuses: dict[str, int], first_row: int = 0
    ) -> None:
        self.header = header
        self.books = Books(header, source)
        self.rows = EventRows(first_row)
        self._first_row = first_row
        self.names: dict[int, str] = {}
        self.ended = False
        self.gaps = self.lost_records = self.faults = self.disagreements = 0
        self.last_fault = ""
        self._aborted = {
            statuses.get("FINISHED_ABORTED", NONE),
            statuses.get("FINISHED_ERROR", NONE),
        }
        self._valid = False
        self._unit: list[WordRecord] = []
        self._unit_end = NONE
        self._pending: _Step | None = None
        self._scheduled, self._sampled = CountedRows(self.books), CountedRows(self.books)
        self._in_flight: dict[int, list[int]] = {}
        self._leaving: dict[int, int] = {}
        self._admission: _Admission | None = None
        self._planned: dict[int, int] = {}
        self._preempting = self._preempted_by = NONE
        self._later: list[WordRecord] = []

    def take(self) -> Chunk:
        """Return the events so far."""
        try:
            return self.rows.take()
        except OverflowError as error:
            raise self.books.damaged(f"a number that no event can hold: {error}", None) from error

    def missing(self) -> None:
        """Records are missing here: what comes next begins with a checkpoint."""
        if self._valid:
            self.gaps += 1
        self._valid = False
        self._unit, self._unit_end = [], NONE

    def feed(self, record: WordRecord) -> None:
        """Take in a record. Raises: InputError when it contradicts the ones before."""
        code = record.code
        if self._unit_end != NONE:
            self._unit.append(record)
            if len(self._unit) > MOST_UNIT_RECORDS:
                raise self.books.damaged("a call of the scheduler that never ends", None)
            if code == self._unit_end:
                unit, self._unit, self._unit_end = self._unit, [], NONE
                self._close_unit(unit)
            elif code in _STARTS or code in (layout.GAP, layout.LOST, layout.CLOSED):
                # The call ended in an error of its own: what it did before is there.
                unit, self._unit, self._unit_end = self._unit[:-1], [], NONE
                self._broken_unit(unit)
                self.feed(record)
            return
        if code in _STARTS and (self._valid or code == layout.CHECKPOINT):
            self._unit, self._unit_end = [record], _STARTS[code]
        elif code in (layout.GAP, layout.LOST, layout.FAULT, layout.CLOSED):
            self._say_end(record)
        elif self._valid:
            self._between(record)

    # Units

    def _close_unit(self, unit: list[WordRecord]) -> None:
        match unit[0].code:
            case layout.CHECKPOINT:
                self._checkpoint(unit)
            case layout.STEP_BEGAN:
                self._step(unit)
            case layout.OUTPUTS_BEGAN:
                self._outputs(unit)

    def _broken_unit(self, unit: list[WordRecord]) -> None:
        for record in unit[1:]:
            if unit[0].code != layout.CHECKPOINT:
                self._apply(record)

    def _checkpoint(self, unit: list[WordRecord]) -> None:
        if self._valid:
            self.disagreements += not check_checkpoint(self.books, unit)
            return
        self._pending = None
        self._in_flight.clear()
        self._leaving.clear()
        self._preempting = NONE
        self._later.clear()
        restart(self.books, self.rows, unit, self.names, self._first_row)
        self._valid = True

    def _step(self, unit: list[WordRecord]) -> None:
        """Read a step from its begin to the end of `schedule`."""
        began_ms = time_ms(unit[0].words, 0)
        self._end_step(began_ms)
        end = unit[-1].words
        number = long_number(end[0], end[1])
        self.rows.step, self.rows.time_ms = number, began_ms
        rows, tokens = self._scheduled.read(end[7:])
        self._planned = dict(zip(rows, tokens, strict=True))
        for at in range(1, len(unit) - 1):
            preempts = unit[at].code == layout.PREEMPTED
            self._apply(unit[at], asker_of(unit, at) if preempts else NONE)
        self._close_preemption(NONE)
        self._close_admission()
        self._chunks(rows, tokens)
        if end[2]:
            self._in_flight[number] = rows
            self._pending = _Step(
                number, began_ms, end[2], end[3], end[4], end[5], self.books.wasted_slots()
            )

    def _chunks(self, rows: list[int], tokens: list[int]) -> None:
        """Let everybody's tokens be computed; add rows for chunks of prefills."""
        requests = self.books.requests
        for row, new in zip(rows, tokens, strict=True):
            held = requests.get(row)
            if held is None:
                continue
            prefills = held.computed < held.target
            held.computed += new
            if prefills:
                self.rows.put(
                    schema.SCHEDULED, schema.BY_PREFILL, request=row, tokens=new,
                    computed_tokens=held.computed,
                )  # fmt: skip

    def _outputs(self, unit: list[WordRecord]) -> None:
        """Read `update_from_output`: the step's end, and what it brings."""
        end = unit[-1].words
        end_ms = time_ms(end, 2)
        self._end_step(end_ms)
        self.rows.time_ms = end_ms
        scheduled = self._in_flight.pop(long_number(end[0], end[1]), [])
        rows, counts = self._sampled.read(end[4:], scheduled)
        for row, new in zip(rows, counts, strict=True):
            held = self.books.requests.get(row)
            if held is not None:
                held.tokens += new
        for record in unit[1:-1]:
            self._apply(record)

    def _end_step(self, end_ms: float) -> None:
        """Write the row of the step that is under way, and who came meanwhile."""
        step, self._pending = self._pending, None
        if step is not None:
            number, self.rows.step = self.rows.step, step.number
            self.rows.time_ms = step.began_ms
            self.rows.put(
                schema.STEP, count=1, tokens=step.tokens, running=step.running,
                waiting=step.waiting, free_blocks=step.free_blocks,
                wasted_slots=step.wasted_slots, span_ms=max(0.0, end_ms - step.began_ms),
            )  # fmt: skip
            self.rows.step = number
        later, self._later = self._later, []
        for record in later:
            self._show_arrival(record)

    def _between(self, record: WordRecord) -> None:
        """Read what happens outside of a step: arrivals, requests aborted, the cache reset."""
        if record.code == layout.ARRIVED:
            name, _ = self.books.arrival(record.words)
            self.names[record.words[0] - self._first_row] = name
            if self._pending is None:
                self._show_arrival(record)
            else:
                # Its row has a later time than the step's, which is not written yet.
                self._later.append(record)
            return
        self._apply(record)

    def _show_arrival(self, record: WordRecord) -> None:
        words = record.words
        before, self.rows.time_ms = self.rows.time_ms, max(self.rows.time_ms, time_ms(words, 1))
        self.rows.put(schema.ARRIVED, request=words[0], tokens=words[3])
        self.rows.time_ms = max(before, self.rows.time_ms)

    def _say_end(self, record: WordRecord) -> None:
        words = record.words
        match record.code:
            case layout.GAP | layout.CLOSED:
                if self._valid:
                    self._end_step(time_ms(words, 0))
                self.rows.time_ms = max(self.rows.time_ms, time_ms(words, 0))
                if record.code == layout.GAP:
                    self.missing()
                else:
                    self.ended = True
                    self.rows.put(schema.ENDED, schema.BY_COMPLETE)
            case layout.LOST:
                self.lost_records = long_number(words[0], words[1])
                self.missing()
            case layout.FAULT:
                self.faults = words[0]
                said = words_to_bytes(words[1:], 4 * (len(words) - 1)).rstrip(b"\0")
                self.last_fault = said.decode(errors="replace")
                self.missing()

    # Records inside a unit

    def _apply(self, record: WordRecord, asker: int = NONE) -> None:
        words, books = record.words, self.books
        frees = record.code in (layout.FREED_ALL, layout.FREED, layout.POPPED)
        self._close_preemption(words[0] if frees else NONE)
        match record.code:
            case layout.ALLOCATED:
                row, group = words[0], words[1]
                ids = words[3:]
                position, lost = books.allocate(row, group, words[2], ids)
                held = books.requests.get(row)
                place = max(0, position)
                self.rows.evicted(schema.BY_ALLOCATION, row, place, lost)
                computed, cause = NONE, schema.BY_PREFILL
                if held is not None:
                    planned = self._planned.get(row)
                    computed = NONE if planned is None else held.computed + planned
                    if held.computed >= held.target:
                        cause = schema.BY_DECODE
                shown = row if position != NONE else NONE
                self.rows.allocated(cause, shown, group, place, ids, computed)
            case layout.TOUCHED:
                ids = words[3:]
                position = books.touch(words[0], words[1], words[2], ids)
                owners = [books.owners[block] if block else 0 for block in ids]
                shown = words[0] if position != NONE else NONE
                self.rows.touched(shown, words[1], max(0, position), ids, owners)
            case layout.CACHED:
                mask = words[5:] if words[4] else None
                if mask is not None and len(mask) != words[3] - words[2]:
                    raise books.damaged("a mask is cut off", words[0])
                cached = books.cache(words[0], words[1], words[2], words[3], mask)
                self.rows.cached(words[0], words[1], cached)
            case layout.FREED_ALL | layout.FREED:
                self._free(record)
            case layout.HASHED:
                self._hashed(words)
            case layout.LOOKED_UP:
                self._close_admission()
                self._look_up(words)
            case layout.PREEMPTED:
                self._preempted(words, asker)
            case layout.LEAVES:
                self._leaving[words[0]] = words[1]
            case layout.FINISHED:
                self._finished(words)
            case layout.POPPED:
                # Freed later, by their ids.
                held = books.requests.get(words[0])
                if held is not None:
                    held.tables = [[] for _ in self.header.groups]
            case layout.RESET:
                if words[0]:
                    self.rows.put(schema.RESET, count=books.reset())
            case layout.DROPPED:
                for block in words:
                    dropped = books.drop_content(block)
                    if dropped is not None:
                        self.rows.listed(
                            schema.EVICTED, schema.BY_EXPLICIT, [block], key=dropped[0],
                            group=dropped[1],
                        )  # fmt: skip
            case layout.EMPTY_STEPS:
                self.rows.step += long_number(words[0], words[1])
            case layout.ARRIVED:
                self._between(record)

    def _hashed(self, words: Sequence[int]) -> None:
        digests = self.books.hashes_in(words[4:], words[2], words[3])
        self.books.learns(words[0], words[1], digests)

    def _look_up(self, words: Sequence[int]) -> None:
        """The head of the queue asks to be admitted: refused unless this step schedules it."""
        row, tokens, hit = words[0], words[1], words[2]
        held = self.books.request(row)
        if row not in self._planned:
            self.rows.put(
                schema.ALLOCATION_FAILED, schema.BY_ADMISSION, request=row, count=1, tokens=tokens,
                free_blocks=self.books.free_count,
            )  # fmt: skip
            return
        held.computed, held.target = max(0, hit), tokens
        self.rows.put(
            schema.LOOKED_UP, schema.BY_RESUMED if held.preemptions else schema.BY_NEW,
            request=row, tokens=tokens, computed_tokens=hit,
        )  # fmt: skip
        self._admission = _Admission(row, tokens, max(0, hit))

    def _close_admission(self) -> None:
        admission, self._admission = self._admission, None
        if admission is None:
            return
        held = self.books.request(admission.row)
        self.rows.put(
            schema.ADMITTED, schema.BY_RESUMED if held.preemptions else schema.BY_NEW,
            request=admission.row, tokens=admission.tokens, computed_tokens=admission.hit,
        )  # fmt: skip

    def _preempted(self, words: Sequence[int], asker: int) -> None:
        row = words[0]
        held = self.books.request(row)
        needy = self.books.requests.get(asker)
        if needy is not None:
            decodes = needy.computed >= needy.target
            self.rows.put(
                schema.ALLOCATION_FAILED, schema.BY_DECODE if decodes else schema.BY_PREFILL,
                request=asker, count=1, tokens=needy.tokens, other=row,
                free_blocks=self.books.free_count,
            )  # fmt: skip
        held.preemptions += 1
        # Its blocks are freed next; the row that says so comes after them.
        self._preempting, self._preempted_by = row, NONE if needy is None else asker

    def _free(self, record: WordRecord) -> None:
        words, books = record.words, self.books
        row, group = words[0], words[1]
        cause = schema.BY_SKIPPED
        if row != NONE and row == self._preempting:
            cause = schema.BY_PREEMPTED
        elif row in self._leaving:
            aborted = self._leaving[row] in self._aborted
            cause = schema.BY_ABORTED if aborted else schema.BY_FINISHED
        elif record.code == layout.FREED_ALL or row == NONE:
            cause = schema.BY_RELEASED
        if record.code == layout.FREED_ALL:
            freed = books.free_table(row, group, words[2])
        else:
            freed = books.free(row, group, words[2:])
        self.rows.freed(cause, row, group, freed, [books.owners[block] for _, block in freed])

    def _close_preemption(self, row: int) -> None:
        """A preempted request has given all its blocks back, unless these are more of `row`'s."""
        preempted = self._preempting
        if preempted in (NONE, row):
            return
        self._preempting = NONE
        held = self.books.request(preempted)
        self.rows.put(
            schema.PREEMPTED, request=preempted, other=self._preempted_by,
            computed_tokens=held.computed,
        )  # fmt: skip
        held.computed = 0
        held.target = held.tokens
        held.tables = [[] for _ in self.header.groups]

    def _finished(self, words: Sequence[int]) -> None:
        row = words[0]
        self._leaving.pop(row, None)
        if row == NONE or row not in self.books.requests:
            return
        aborted = words[1] in self._aborted
        self.rows.put(
            schema.FINISHED, schema.BY_ABORTED if aborted else schema.BY_LENGTH, request=row,
            tokens=words[2], computed_tokens=words[3],
        )  # fmt: skip
        del self.books.requests[row]


_STARTS = {
    layout.STEP_BEGAN: layout.STEP_ENDED,
    layout.OUTPUTS_BEGAN: layout.OUTPUTS_ENDED,
    layout.CHECKPOINT: layout.CHECKPOINT_ENDED,
}
