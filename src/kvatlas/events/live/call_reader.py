"""The manager's calls, one by one, out of a server's recording.

Owns: putting the calls together: those of running requests, which are written once per step, stand
where they were made. Leaves to others: records (`word_records`), state (`books`), the calls' shapes
(`calls`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from kvatlas.events.header import Header
from kvatlas.events.live.books import NONE, Books
from kvatlas.events.live.calls import (
    Allocated,
    Arrived,
    Cached,
    Call,
    Effect,
    EffectKind,
    Evicted,
    Finished,
    Freed,
    FreedLater,
    Hashed,
    LookedUp,
    PoppedForFree,
    Preempted,
    Reset,
    Sampled,
    StepBegan,
    StepEnded,
)
from kvatlas.events.live.counted_rows import CountedRows
from kvatlas.events.live.folders import EngineFacts, read_facts
from kvatlas.events.live.word_records import (
    MOST_UNIT_RECORDS,
    WordRecord,
    WordRecords,
    asker_of,
    time_ms,
)
from kvatlas.wire import layout
from kvatlas.wire.layout import long_number
from kvatlas.wire.segment_reader import SegmentReader, segment_numbers

__all__ = ["Calls"]

_WORDS = 1 << 19
_EFFECTS = (layout.ALLOCATED, layout.TOUCHED, layout.CACHED, layout.FREED)


@dataclass(slots=True)
class _Open:
    """A call of `allocate_slots` whose effects are being read."""

    row: int
    new_tokens: int
    hit_tokens: int
    must_fit: bool
    has_scheduled: bool
    lookahead: int
    effects: list[Effect] = field(default_factory=list)

    def closed(self, served: bool) -> Allocated:
        return Allocated(
            self.row, self.new_tokens, self.hit_tokens, served, self.must_fit,
            self.has_scheduled, self.lookahead, tuple(self.effects),
        )  # fmt: skip


class Calls:
    """The calls of an engine's folder, in true order; iterate once.

    Attributes:
        facts: the header, and what of the engine the twin does not model.
        whole: the recording begins with the engine, without a gap so far.
        ended: it was closed properly.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts: EngineFacts = read_facts(folder)
        self.header: Header = msgspec.structs.replace(self.facts.header, num_requests=1 << 26)
        self.whole = (segment_numbers(folder) or [0])[0] == 0
        self.ended = False
        self.unmodelled: set[str] = set()
        self._books = Books(self.header, str(folder))
        self._names = {number: name for name, number in self.facts.statuses.items()}
        self._unit: list[WordRecord] = []
        self._sent: dict[int, list[int]] = {}
        self._checkpoints = 0
        self._scheduled, self._sampled = CountedRows(self._books), CountedRows(self._books)
        # Chunks that must end at a block's end may leave nothing to ask slots for.
        said = self.header.config.get("kv_cache_groups")
        groups = (
            [group for group in said if isinstance(group, dict)] if isinstance(said, list) else []
        )
        self._stops_early = any(group.get("mamba_cache_mode") == "align" for group in groups)

    def __iter__(self) -> Iterator[Call]:
        """Yield the calls up to the first gap, or the end. Raises: InputError for damage."""
        records = WordRecords(SegmentReader(self.folder))
        inside = False
        while True:
            empty = True
            for record in records.read(_WORDS):
                if record is None:
                    if not empty or self._checkpoints:
                        self.whole = False
                        return
                    continue
                empty = False
                code = record.code
                if code in (layout.GAP, layout.LOST, layout.FAULT):
                    self.whole = False
                    return
                if code == layout.CLOSED:
                    self.ended = True
                elif code in (layout.CHECKPOINT, layout.HELD, layout.CONTENT):
                    self.whole = self.whole and (self._checkpoints > 0 or code == layout.CHECKPOINT)
                elif code == layout.CHECKPOINT_ENDED:
                    self._checkpoints += 1
                elif inside or code in (layout.STEP_BEGAN, layout.OUTPUTS_BEGAN):
                    inside = True
                    self._unit.append(record)
                    if len(self._unit) > MOST_UNIT_RECORDS:
                        raise self._books.damaged("a call of the scheduler that never ends", None)
                    if code in (layout.STEP_ENDED, layout.OUTPUTS_ENDED):
                        inside = False
                        unit, self._unit = self._unit, []
                        if (unit[0].code == layout.STEP_BEGAN) != (code == layout.STEP_ENDED):
                            raise self._books.damaged("a step and its outputs overlap", code)
                        if unit[0].code == layout.STEP_BEGAN:
                            yield from self._step(unit)
                        else:
                            yield from self._outputs(unit)
                else:
                    yield from self._outside([record])
            if empty:
                return

    # Units

    def _step(self, unit: list[WordRecord]) -> Iterator[Call]:
        end = unit[-1].words
        step = long_number(end[0], end[1])
        yield StepBegan(step, time_ms(unit[0].words, 0))
        rows, tokens = self._scheduled.read(end[7:])
        asked = {record.words[0] for record in unit if record.code == layout.LOOKED_UP}
        admitted = {row: new for row, new in zip(rows, tokens, strict=True) if row in asked}
        running = [(row, new) for row, new in zip(rows, tokens, strict=True) if row not in asked]
        yield from self._calls(unit[1:-1], running, admitted)
        if end[2]:
            self._sent[step] = rows
        yield StepEnded(step, end[2], end[3], end[4], end[5], end[6], tuple(rows), tuple(tokens))

    def _calls(
        self, unit: list[WordRecord], running: list[tuple[int, int]], admitted: dict[int, int]
    ) -> Iterator[Call]:
        """Yield a step's calls: running requests in scheduled order, then admissions.

        A running request's call that had no effect left no record; it stands before the first
        record of a later one. Who was preempted in this step may have had a call before: known only
        where it had an effect.
        """
        waiting = list(running)
        waiting.reverse()
        order = {row: at for at, (row, _) in enumerate(running)}
        earlier = [new for _, new in running]  # tokens of who was scheduled before
        current: _Open | None = None
        at = 0
        while at < len(unit):
            record = unit[at]
            code, words = record.code, record.words
            if code == layout.LOOKED_UP:
                # Admissions come after all running requests.
                if current is not None:
                    yield current.closed(True)
                while waiting:
                    row, new = waiting.pop()
                    yield _running(row, new).closed(True)
                yield LookedUp(words[0], words[1], words[2])
                new_tokens = admitted.get(words[0])
                current = self._admission(words, earlier, new_tokens)
                if new_tokens is not None:
                    earlier.append(new_tokens)
                elif self._stops_early:
                    current = None  # nobody says whether slots were asked for
                else:
                    yield current.closed(False)
                    current = None
            elif code == layout.PREEMPTED:
                if current is not None:
                    yield current.closed(True)
                    current = None
                asker = asker_of(unit, at)
                while waiting and asker in order and order[waiting[-1][0]] < order[asker]:
                    row, new = waiting.pop()
                    yield _running(row, new).closed(True)
                yield self._refused(asker, dict(running))
                freed = [record]
                while at + 1 < len(unit) and unit[at + 1].code in (
                    layout.FREED_ALL, layout.FREED, layout.POPPED
                ) and unit[at + 1].words[0] in (words[0], NONE):  # fmt: skip
                    at += 1
                    freed.append(unit[at])
                yield from self._outside(freed)
            elif code in _EFFECTS or code == layout.HASHED:
                row = words[0]
                if code == layout.HASHED:
                    yield from self._outside([record])
                    at += 1
                    continue
                if current is None or current.row != row:
                    if current is not None:
                        yield current.closed(True)
                    current = _running(row, NONE)
                    while waiting and order[waiting[-1][0]] <= order.get(row, -1):
                        early, new = waiting.pop()
                        if early == row:
                            current = _running(row, new)
                        else:
                            yield _running(early, new).closed(True)
                current.effects.extend(self._effects(record))
            else:
                if current is not None:
                    yield current.closed(True)
                    current = None
                yield from self._outside([record])
            at += 1
        if current is not None:
            yield current.closed(True)
        while waiting:
            row, new = waiting.pop()
            yield _running(row, new).closed(True)

    def _admission(self, words: Sequence[int], earlier: list[int], new_tokens: int | None) -> _Open:
        """Return the call for the head of the queue; of a refused one nobody wrote the tokens."""
        row, tokens, hit = words[0], words[1], max(0, words[2])
        config = self.header.config
        if new_tokens is None:
            budget = int(config.get("max_num_batched_tokens", tokens)) - sum(earlier)
            threshold = int(config.get("long_prefill_token_threshold", 0)) or tokens
            new_tokens = max(1, min(tokens - hit, threshold, budget))
        must_fit = bool(config.get("reserve_full_isl", True))
        return _Open(row, new_tokens, hit, must_fit, bool(earlier), 0)

    def _refused(self, asker: int, running: dict[int, int]) -> Allocated:
        held = self._books.request(asker)
        # One that is preempted itself was asked for tokens that nobody wrote down.
        return _running(asker, running.get(asker, max(1, held.tokens - held.computed))).closed(
            False
        )

    def _outputs(self, unit: list[WordRecord]) -> Iterator[Call]:
        end = unit[-1].words
        step = long_number(end[0], end[1])
        rows, counts = self._sampled.read(end[4:], self._sent.pop(step, []))
        yield Sampled(step, time_ms(end, 2), tuple(rows), tuple(counts))
        yield from self._outside(unit[1:-1])

    def _outside(self, records: list[WordRecord]) -> Iterator[Call]:
        """Yield calls outside of `allocate_slots`."""
        books = self._books
        leaving: list[Effect] = []
        owner = NONE
        for record in records:
            words = record.words
            if record.code in (layout.FREED_ALL, layout.FREED) and words[0] != NONE:
                if owner not in (NONE, words[0]) and leaving:
                    yield Freed(owner, tuple(leaving))
                    leaving = []
                owner = words[0]
                leaving.extend(self._effects(record))
                continue
            if leaving:
                yield Freed(owner, tuple(leaving))
                leaving = []
            match record.code:
                case layout.ARRIVED:
                    yield self._arrived(words)
                case layout.HASHED:
                    digests = books.hashes_in(words[4:], words[2], words[3])
                    known = books.learns(words[0], words[1], digests)
                    if digests[known:]:
                        yield Hashed(words[0], words[1] + known, tuple(digests[known:]))
                case layout.CACHED:
                    yield Cached(words[0], self._effects(record))
                case layout.PREEMPTED:
                    books.request(words[0]).preemptions += 1
                    yield Preempted(words[0])
                case layout.FREED:
                    yield FreedLater(self._effects(record))
                case layout.POPPED:
                    yield PoppedForFree(words[0])
                case layout.FINISHED:
                    yield Finished(words[0], self._names.get(words[1], str(words[1])), words[2])
                    books.requests.pop(words[0], None)
                case layout.RESET:
                    if words[0]:
                        books.reset()
                    yield Reset(bool(words[0]))
                case layout.DROPPED:
                    yield Evicted(tuple(self._dropped(words)))
                case layout.COPIED | layout.PART_CACHED | layout.HASH_MOVED | layout.UNPINNED:
                    self.unmodelled.add(layout.NAMES[record.code])
                case layout.ALLOCATED | layout.TOUCHED:
                    self.unmodelled.add("blocks taken outside of a step")
                    self._effects(record)
        if leaving:
            yield Freed(owner, tuple(leaving))

    def _arrived(self, words: Sequence[int]) -> Arrived:
        name, digests = self._books.arrival(words)
        priority = long_number(words[5], words[6])
        if priority >= 1 << 61:
            priority -= 1 << 62
        return Arrived(
            words[0], name, time_ms(words, 1), words[3], words[4], priority, tuple(digests)
        )

    # Effects

    def _effects(self, record: WordRecord) -> tuple[Effect, ...]:
        words, books = record.words, self._books
        match record.code:
            case layout.ALLOCATED:
                ids = words[3:]
                _, lost = books.allocate(words[0], words[1], words[2], ids)
                effects = []
                for group in sorted({group for _, _, group in lost}):
                    gone = [(index, key) for index, key, of in lost if of == group]
                    blocks, keys = [ids[index] for index, _ in gone], [key for _, key in gone]
                    effects.append(self._effect("evicted", group, blocks, keys))
                return (*effects, self._effect("allocated", words[1], ids))
            case layout.TOUCHED:
                books.touch(words[0], words[1], words[2], words[3:])
                touched = [block for block in words[3:] if block]
                return (self._effect("touched", words[1], touched),) if touched else ()
            case layout.CACHED:
                mask = words[5:] if words[4] else None
                if mask is not None and len(mask) != words[3] - words[2]:
                    raise books.damaged("a mask is cut off", words[0])
                cached = books.cache(words[0], words[1], words[2], words[3], mask)
                if not cached:
                    return ()
                blocks, keys = [block for _, block, _ in cached], [key for _, _, key in cached]
                return (self._effect("cached", words[1], blocks, keys),)
            case layout.FREED_ALL:
                freed = books.free_table(words[0], words[1], words[2])
            case _:
                freed = books.free(words[0], words[1], words[2:])
        blocks = [block for _, block in freed]
        return (self._effect("freed", words[1], blocks),) if blocks else ()

    def _dropped(self, ids: Sequence[int]) -> Iterator[Effect]:
        for block in ids:
            dropped = self._books.drop_content(block)
            if dropped is not None:
                yield self._effect("evicted", dropped[1], [block], [dropped[0]])

    def _effect(
        self, kind: EffectKind, group: int, blocks: Sequence[int], keys: Sequence[int] | None = None
    ) -> Effect:
        hashes = self._books.hashes
        named = None if keys is None else tuple(hashes[key] for key in keys)
        return Effect(kind, group, tuple(blocks), named)


def _running(row: int, new_tokens: int) -> _Open:
    """Return the call for a running request, as vLLM's scheduler makes it."""
    return _Open(row, new_tokens, 0, False, True, 0)
