"""Reading: the words of a folder of segments, while they are written or afterwards, never trusted.

Owns: following the segments, telling a complete record from a cut one, what was dropped meanwhile.
Leaves to others: what the words mean (`kvatlas.events.live`).
"""

from __future__ import annotations

import os
import stat
import struct
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kvatlas.errors import InputError
from kvatlas.wire.layout import FORMAT_VERSION
from kvatlas.wire.segment_log import (
    AT_CLOSED,
    AT_DROPPED,
    AT_FAULTS,
    AT_LOST,
    AT_ROWS,
    AT_VERSION,
    AT_WORDS,
    HEAD_BYTES,
    MAGIC,
    SUFFIX,
    segment_name,
)

__all__ = ["Counters", "SegmentReader", "Words", "segment_numbers"]

_MOST_WORDS = 1 << 20


@dataclass(frozen=True, slots=True)
class Counters:
    """What the newest segment says of the whole recording.

    Attributes:
        rows: requests so far.
        lost_records: found no room on the disk.
        faults: errors of the recorder.
        dropped_segments: dropped for newer ones.
        closed: the recording ended properly.
    """

    rows: int = 0
    lost_records: int = 0
    faults: int = 0
    dropped_segments: int = 0
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """Words that follow each other; `fresh` when something before them is missing."""

    words: array[int]
    fresh: bool


def segment_numbers(folder: Path) -> list[int]:
    """Return the segments there are, oldest first."""
    try:
        names = [entry.name for entry in folder.iterdir() if entry.name.endswith(SUFFIX)]
    except OSError:
        return []
    stems = [name.removesuffix(SUFFIX) for name in names]
    return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit())


class SegmentReader:
    """Reads on from where it was; a writer never waits for it.

    Attributes:
        skipped_segments: dropped by the writer before they were read.
        counters: of the newest head that was read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.skipped_segments = 0
        self.counters = Counters()
        self._number = -1
        self._at = 0
        self._fresh = True

    def read(self, most_words: int = _MOST_WORDS) -> Words | None:
        """Return the next committed words, at most `most_words`; None when there are none yet.

        Batches are committed whole, and a record may be longer than `most_words`: the caller keeps
        what is left of an unfinished record for the next call. Raises: InputError.
        """
        while True:
            if self._number < 0 and not self._go_on():
                return None
            head = self._head()
            if head is None:  # dropped while we were in it
                if not self._skip():
                    return None
                continue
            committed = head[AT_WORDS]
            if self._at < committed:
                count = min(most_words, committed - self._at)
                words = self._words(self._at, count)
                if words is None:
                    if not self._skip():
                        return None
                    continue
                self._at += len(words)
                fresh, self._fresh = self._fresh, False
                return Words(words, fresh)
            if head[AT_CLOSED] != 2:
                return None
            # The head is not read in one instant: more may have come before it was closed.
            again = self._head()
            if (again is None or again[AT_WORDS] <= self._at) and not self._go_on():
                return None

    def behind_bytes(self) -> int:
        """Bytes committed in the current segment and in newer ones that were not read yet."""
        numbers = [n for n in segment_numbers(self.folder) if n >= self._number]
        total = 0
        for number in numbers:
            head = self._head(number)
            if head is not None:
                read = self._at if number == self._number else 0
                total += max(0, head[AT_WORDS] - read)
        return total * 4

    def most_rows(self) -> int:
        """Return how many requests the heads of all segments tell of; reads no words."""
        heads = [self._head(number) for number in segment_numbers(self.folder)]
        return max((head[AT_ROWS] for head in heads if head is not None), default=0)

    def _skip(self) -> bool:
        """Go on after a segment that was dropped before it was read to its end."""
        if not self._go_on():
            return False
        self.skipped_segments += 1
        self._fresh = True
        return True

    def committed_words(self) -> int:
        """Return the words committed in all segments, by their heads."""
        heads = [self._head(number) for number in segment_numbers(self.folder)]
        return sum(head[AT_WORDS] for head in heads if head is not None)

    def _go_on(self) -> bool:
        """Turn to the oldest segment after the current one; False when there is none."""
        newer = [number for number in segment_numbers(self.folder) if number > self._number]
        if not newer:
            return False
        if newer[0] != self._number + 1:
            if self._number >= 0:
                self.skipped_segments += newer[0] - self._number - 1
            self._fresh = True
        self._number, self._at = newer[0], 0
        return True

    def _head(self, number: int | None = None) -> tuple[int, ...] | None:
        path = self.folder / segment_name(self._number if number is None else number)
        try:
            with _opened(path) as file:
                data = file.read(HEAD_BYTES)
                size = file.seek(0, 2)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"{error.strerror}", file=str(path)) from error
        if len(data) < HEAD_BYTES:
            raise _damaged(path, "its head is cut off")
        head = struct.unpack("<8q", data)
        if head[AT_VERSION] == 0 and head[AT_WORDS] == 0:
            return head  # made a moment ago
        if data[:8] != MAGIC:
            raise _damaged(path, "not a segment of kvatlas")
        if head[AT_VERSION] != FORMAT_VERSION:
            raise InputError(
                "written by another version of kvatlas",
                file=str(path),
                field="version",
                value=head[AT_VERSION],
                remedy=f"this one reads version {FORMAT_VERSION}",
            )
        if head[AT_CLOSED] not in (0, 1, 2) or min(head[AT_WORDS:AT_CLOSED]) < 0:
            raise _damaged(path, "its head contradicts itself")
        if head[AT_WORDS] > (size - HEAD_BYTES) // 4:
            # Cut afterwards: what is there can be read.
            head = (*head[:AT_WORDS], (size - HEAD_BYTES) // 4, *head[AT_WORDS + 1 :])
        if number is None:
            self.counters = Counters(
                rows=head[AT_ROWS],
                lost_records=head[AT_LOST],
                faults=head[AT_FAULTS],
                dropped_segments=head[AT_DROPPED],
                closed=head[AT_CLOSED] == 1,
            )
        return head

    def _words(self, start: int, count: int) -> array[int] | None:
        path = self.folder / segment_name(self._number)
        try:
            with _opened(path) as file:
                file.seek(HEAD_BYTES + 4 * start)
                data = file.read(4 * count)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"{error.strerror}", file=str(path)) from error
        words = array("i")
        words.frombytes(data[: len(data) // 4 * 4])
        return words


def _opened(path: Path) -> BinaryIO:
    """Open a segment. Not blocking: a pipe of this name must not hold the reader up.

    Raises: OSError, and InputError when it is no file.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _damaged(path, "not a file")
    return os.fdopen(file, "rb")


def _damaged(path: Path, what: str) -> InputError:
    return InputError(what, file=str(path), remedy="the recording is damaged")
