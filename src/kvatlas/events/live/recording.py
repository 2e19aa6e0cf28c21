"""A server's recording as the same thing that a replay's is: a header and chunks of events.

Owns: `LiveRecording`. Leaves to others: decoding (`decode`), files (`kvatlas.wire`).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from kvatlas.events.chunk import Chunk
from kvatlas.events.header import Header
from kvatlas.events.live.decode import Decoder
from kvatlas.events.live.first_row import count_rows, first_row
from kvatlas.events.live.folders import engine_folder, read_facts
from kvatlas.events.live.word_records import WordRecords
from kvatlas.events.resolve import Resolver
from kvatlas.wire.segment_reader import SegmentReader, segment_numbers

__all__ = ["LiveRecording"]

_WORDS = 1 << 19
_CHUNK_ROWS = 1 << 16


class LiveRecording:
    """An engine's folder as a recording; every pass over it reads the segments again.

    Attributes:
        path: what was opened.
        folder: the engine's.
        facts: what is known of the engine beside the header.
        header, names, partial, events: as of `kvatlas.events.Recording`.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.folder = engine_folder(path)
        self.facts = read_facts(self.folder)
        self.names: dict[int, str] = {}
        self.partial = ""
        self.events = 0
        self._first_row = first_row(self.folder)
        self.header: Header = msgspec.structs.replace(
            self.facts.header, num_requests=count_rows(self.folder, self._first_row)
        )

    def chunks(self) -> Iterator[Chunk]:
        """Yield the events in order. Raises: InputError."""
        first = (segment_numbers(self.folder) or [0])[0]
        segments = SegmentReader(self.folder)
        records = WordRecords(segments)
        decoder = Decoder(self.header, self.path, self.facts.statuses, self._first_row)
        self.names, self.events = decoder.names, 0
        self.partial = "the recording is not finished: everything so far is shown"
        while True:
            empty = True
            for record in records.read(_WORDS):
                empty = False
                if record is None:
                    decoder.missing()
                    continue
                decoder.feed(record)
                if len(decoder.rows) >= _CHUNK_ROWS:
                    yield self._taken(decoder)
            if len(decoder.rows):
                yield self._taken(decoder)
            if empty:
                break
        self.partial = self._said(decoder, first)

    def resolved(self) -> Iterator[Chunk]:
        """Yield the events with the ids of all blocks, in pieces of bounded size."""
        resolver = Resolver(self.header, self.path)
        for chunk in self.chunks():
            yield from resolver.pieces(chunk)

    def _taken(self, decoder: Decoder) -> Chunk:
        chunk = decoder.take()
        self.events += len(chunk.rows)
        return chunk

    def _said(self, decoder: Decoder, first: int) -> str:
        """Say what is missing, nothing when it is whole."""
        lacks = []
        if first:
            lacks.append(f"its first {first} segments were dropped to keep it bounded")
        if self.facts.sample < 1:
            lacks.append(f"{self.facts.sample:.2%} of the steps were recorded, in windows")
        elif decoder.gaps:
            lacks.append(f"{decoder.gaps} stretches are missing")
        if decoder.lost_records:
            lacks.append(f"{decoder.lost_records:,} records found no room on the disk")
        if decoder.faults:
            lacks.append(f"{decoder.faults} errors in the recorder ({decoder.last_fault})")
        if not decoder.ended:
            lacks.append("it has no end: the server still runs, or was stopped at once")
        return "; ".join(lacks)
