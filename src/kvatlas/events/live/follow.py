"""Following a recording while it is written: events as they come, and how the recorder fares.

Owns: reading on, room for requests to come, telling a quiet engine from one that is gone. Leaves to
others: decoding (`decode`), showing (`kvatlas.watch`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from kvatlas.events.chunk import Chunk
from kvatlas.events.header import MOST_REQUESTS, Header
from kvatlas.events.live.decode import Decoder
from kvatlas.events.live.first_row import first_row, most_requests
from kvatlas.events.live.folders import read_facts
from kvatlas.events.live.word_records import WordRecords
from kvatlas.wire.segment_reader import SegmentReader, segment_numbers

__all__ = ["Follower"]

_ROOM = 1 << 14
_WORDS = 1 << 16


class Follower:
    """An engine's events, read on with every `poll`; never waits for the engine, nor it for us.

    Attributes:
        header: with room for the requests to come.
        generation: raised when there are more requests than room: then the events begin anew.
        names: requests' own ids, by their numbers.
        ended: the recording was closed properly.
        last_event_ms: the engine's clock at the last event read.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = folder
        self.facts = read_facts(folder)
        self.generation = 0
        self._clock = clock
        self._begin(_ROOM)

    @property
    def names(self) -> dict[int, str]:
        """Requests' own ids, by their numbers."""
        return self._decoder.names

    @property
    def ended(self) -> bool:
        """Whether the recording was closed properly and everything is read."""
        return self._decoder.ended

    @property
    def lost_segments(self) -> int:
        """Segments that were dropped before they were read."""
        skipped = self._segments.skipped_segments
        return skipped + (self._first if self._first > 0 else 0)

    @property
    def lost_events(self) -> int:
        """Records that found no room on the disk, or were given up after an error."""
        return max(self._segments.counters.lost_records, self._decoder.lost_records)

    @property
    def gaps(self) -> int:
        """Stretches of which nothing is known."""
        return self._decoder.gaps

    @property
    def errors(self) -> int:
        """Errors inside the recorder."""
        return max(self._segments.counters.faults, self._decoder.faults)

    @property
    def last_error(self) -> str:
        """The text of the last of them."""
        return self._decoder.last_fault

    @property
    def disagreements(self) -> int:
        """Checkpoints that contradict the records before them."""
        return self._decoder.disagreements

    @property
    def behind_bytes(self) -> int:
        """Bytes written but not read yet."""
        return self._segments.behind_bytes()

    @property
    def read_bytes(self) -> int:
        """Bytes read so far, of this generation."""
        return self._records.read_words * 4

    @property
    def bytes_on_disk(self) -> int:
        """Bytes of the segments."""
        total = 0
        for number in segment_numbers(self.folder):
            try:
                total += (self.folder / f"{number:06d}.kvseg").stat().st_size
            except OSError:
                continue
        return total

    @property
    def bytes_bound(self) -> int | None:
        """What the segments may take together, None when the recording does not say."""
        bound = self.facts.live.get("most_bytes")
        return bound if isinstance(bound, int) else None

    @property
    def age_s(self) -> float:
        """Seconds of our clock since something new was read."""
        return self._clock() - self._news_at

    def poll(self, most_words: int = _WORDS) -> list[Chunk]:
        """Return new events, [] when there are none. O(words). Raises: InputError for damage."""
        for record in self._records.read(most_words):
            self._news_at = self._clock()
            if record is None:
                self._decoder.missing()
                continue
            self._decoder.feed(record)
        rows = self._segments.counters.rows - self._first_row
        if rows > self.header.num_requests:
            rows = min(rows, most_requests(self._segments))
        if rows > self.header.num_requests:
            self.generation += 1
            self._begin(2 * rows)
            return []
        if not len(self._decoder.rows):
            return []
        chunk = self._decoder.take()
        self.last_event_ms = float(chunk.rows["time_ms"][-1])
        return [chunk]

    def _begin(self, room: int) -> None:
        self.header: Header = msgspec.structs.replace(
            self.facts.header, num_requests=min(room, MOST_REQUESTS)
        )
        numbers = segment_numbers(self.folder)
        self._first = numbers[0] if numbers else 0
        self._segments = SegmentReader(self.folder)
        self._records = WordRecords(self._segments)
        self._first_row = first_row(self.folder)
        self._decoder = Decoder(self.header, str(self.folder), self.facts.statuses, self._first_row)
        self._news_at = self._clock()
        self.last_event_ms = 0.0
