"""From words to records: where one ends and the next begins, and units that belong together.

Owns: cutting and checking lengths, holding back what is not complete, finding the first checkpoint.
Leaves to others: words in files (`kvatlas.wire`), what records do (`books`).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kvatlas.errors import InputError
from kvatlas.wire import layout
from kvatlas.wire.layout import long_number
from kvatlas.wire.segment_reader import SegmentReader

__all__ = ["LEAST_WORDS", "MOST_UNIT_RECORDS", "WordRecord", "WordRecords", "asker_of", "time_ms"]

LEAST_WORDS: dict[int, int] = {
    layout.STEP_BEGAN: 2,
    layout.STEP_ENDED: 9,
    layout.OUTPUTS_BEGAN: 0,
    layout.OUTPUTS_ENDED: 6,
    layout.ARRIVED: 10,
    layout.HASHED: 4,
    layout.LOOKED_UP: 3,
    layout.ALLOCATED: 3,
    layout.TOUCHED: 3,
    layout.FREED_ALL: 3,
    layout.FREED: 2,
    layout.CACHED: 5,
    layout.PREEMPTED: 3,
    layout.LEAVES: 2,
    layout.FINISHED: 4,
    layout.POPPED: 1,
    layout.RESET: 1,
    layout.DROPPED: 0,
    layout.COPIED: 5,
    layout.PART_CACHED: 4,
    layout.HASH_MOVED: 2,
    layout.UNPINNED: 0,
    layout.EMPTY_STEPS: 4,
    layout.FAULT: 1,
    layout.GAP: 2,
    layout.LOST: 2,
    layout.CHECKPOINT: 5,
    layout.HELD: 13,
    layout.CONTENT: 2,
    layout.CHECKPOINT_ENDED: 2,
    layout.CLOSED: 2,
}
"""Words behind the first that a record has at least."""


MOST_UNIT_RECORDS = 1 << 20
"""Of one call of the scheduler, or one checkpoint: what readers keep in memory at once."""


class WordRecord(NamedTuple):
    """A record: its code and the words behind the first."""

    code: int
    words: array[int]


def time_ms(words: Sequence[int], at: int) -> float:
    """Return the time in the two words at `at`: milliseconds since the engine's start."""
    return long_number(words[at], words[at + 1]) / 1e3


def asker_of(unit: Sequence[WordRecord], at: int) -> int:
    """Return for whom `unit[at]` preempts: who gets blocks next, or the last one preempted."""
    asker = unit[at].words[0]
    for record in unit[at + 1 :]:
        if record.code == layout.ALLOCATED:
            return record.words[0]
        if record.code == layout.PREEMPTED:
            asker = record.words[0]
    return asker


class WordRecords:
    """The records of an engine's folder, read on from call to call.

    Attributes:
        segments: the words' source, with its counters.
        read_words: words read so far, of records that were passed over, too.
    """

    def __init__(self, segments: SegmentReader) -> None:
        self.segments = segments
        self.read_words = 0
        self._left: array[int] = array("i")
        self._lost = True

    def read(self, most_words: int) -> Iterator[WordRecord | None]:
        """Yield the complete records among the next `most_words` words; None where some miss.

        Where some miss nothing is yielded up to the next checkpoint. Raises: InputError for words
        that are no record.
        """
        words = self.segments.read(most_words)
        if words is None:
            return
        if words.fresh:
            self._left = array("i")
            self._lost = True
            yield None
        self.read_words += len(words.words)
        left = self._left
        left.extend(words.words)
        at = 0
        while at < len(left):
            head = left[at]
            code, length = head & 255, head >> 8
            if code not in LEAST_WORDS or length <= LEAST_WORDS[code]:
                raise self._damaged("it has words that are no record")
            if at + length > len(left):
                break
            if code == layout.CHECKPOINT:
                self._lost = False
            if not self._lost:
                yield WordRecord(code, left[at + 1 : at + length])
            at += length
        del left[:at]

    def _damaged(self, what: str) -> InputError:
        return InputError(
            what, file=str(self.segments.folder), remedy="the recording is damaged"
        )  # fmt: skip
