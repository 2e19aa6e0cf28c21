"""Which requests a recording can tell of: those that its first checkpoint knows, and later ones.

Owns: the first request's number, and how many there can be. Leaves to others: everything else that
a checkpoint says (`restart`).
"""

from __future__ import annotations

from pathlib import Path

from kvatlas.errors import InputError
from kvatlas.events.header import MOST_REQUESTS
from kvatlas.events.live.word_records import WordRecords
from kvatlas.wire import layout
from kvatlas.wire.segment_reader import SegmentReader

__all__ = ["count_rows", "first_row", "most_requests"]

_WORDS = 1 << 19
_LEAST_WORDS = 11  # of an arrival
_MOST_LOST = 1 << 20  # while there was no room on the disk


def first_row(folder: Path) -> int:
    """Return the number of the oldest request that the recording tells of; 0 before there is one.

    A server's requests are numbered from its start, and what was dropped to keep a recording
    bounded may be most of them. O(words up to the end of the first checkpoint). Raises: InputError.
    """
    records = WordRecords(SegmentReader(folder))
    rows: list[int] = []
    while True:
        read = 0
        for record in records.read(_WORDS):
            read += 1
            if record is None:
                continue
            if record.code == layout.CHECKPOINT:
                rows = [record.words[4]]
            elif record.code == layout.HELD:
                rows.append(record.words[0])
            elif record.code == layout.CHECKPOINT_ENDED and rows:
                return max(0, min(rows))
        if not read:
            return 0


def count_rows(folder: Path, first: int) -> int:
    """Return how many requests there are from `first` on, by the segments' heads.

    Raises: InputError for more than can be read.
    """
    segments = SegmentReader(folder)
    count = max(0, segments.most_rows() - first)
    if count > most_requests(segments):
        raise InputError(
            "its segments claim more requests than they can tell of", file=folder, value=count,
            remedy="the recording is damaged",
        )  # fmt: skip
    return count


def most_requests(segments: SegmentReader) -> int:
    """Return how many requests so many words can tell of, a million lost ones allowed for."""
    told = segments.committed_words() // _LEAST_WORDS
    return min(MOST_REQUESTS, told + _MOST_LOST)
