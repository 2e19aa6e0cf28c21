"""Writing: a log of words in memory-mapped files of one size, the oldest dropped for the newest.

Owns: making room on the disk before memory is mapped onto it, the commit, the bound, what happens
when the disk is full. Leaves to others: what the words say.

A segment is a file of a head (`HEAD` numbers of 64 bits) and words. Its room is taken on the disk
when it is made, so that no write can fail later (a write into a hole of a full disk kills a
process), and it is mapped: a batch is one copy in memory, without a system call, and what has been
committed outlives the process. The commit is the last thing written: the number of valid words.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import time
from array import array
from collections.abc import Callable
from pathlib import Path

from kvatlas.wire.layout import FORMAT_VERSION

__all__ = ["HEAD_BYTES", "MAGIC", "SUFFIX", "SegmentLog", "segment_name"]

MAGIC = b"kvatlas\x01"
SUFFIX = ".kvseg"
HEAD_BYTES = 64
# Numbers of the head, 8 bytes each.
(
    _MAGIC,
    AT_VERSION,
    AT_WORDS,  # committed words
    AT_ROWS,  # requests that have had a number so far
    AT_LOST,  # records that found no room so far
    AT_FAULTS,  # errors of the recorder so far
    AT_DROPPED,  # segments dropped so far
    AT_CLOSED,  # 1: recording ended properly, 2: it goes on in the next segment
) = range(8)

_WORD_BYTES = 4
_RETRY_S = 1.0
_PACKED = {count: struct.Struct(f"{count}i") for count in range(1, 1024)}
"""The module's own cache holds a hundred."""


def segment_name(number: int) -> str:
    """Return the file name of a segment."""
    return f"{number:06d}{SUFFIX}"


class SegmentLog:
    """Appends batches of words to the newest segment of a folder.

    Args:
        folder: exists and is the writer's own.
        segment_bytes: of a segment; a larger batch gets a larger one.
        most_bytes: of all segments together; at least two are kept.
        clock: seconds, for trying again after the disk was full.

    Attributes:
        fresh: the newest segment has no checkpoint yet; the caller writes one and clears it.
        dropped: segments dropped for newer ones.
        full: why the last segment could not be made, empty while all is well. Its words, not the
            error: that would hold the frames of the engine that led here, and so the engine.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int,
        most_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.segment_bytes, self.most_bytes = segment_bytes, most_bytes
        self.fresh = False
        self.dropped = 0
        self.full = ""
        self._clock, self._retry_at = clock, 0.0
        self._sizes: dict[int, int] = {}
        self._number = -1
        self._map: mmap.mmap | None = None
        self._head = memoryview(bytearray(HEAD_BYTES)).cast("q")
        self._bytes = memoryview(b"")
        self._used = self._room = 0

    def append(self, words: list[int]) -> bool:
        """Commit a batch of words; False without room on the disk. O(words)."""
        count = len(words)
        end = self._used + count
        if end > self._room:
            if not self._next(count):
                return False
            end = self._used + count
        # Three times as fast as by way of an array.
        packed = _PACKED.get(count) or struct.Struct(f"{count}i")
        packed.pack_into(self._bytes, HEAD_BYTES + 4 * self._used, *words)
        self._used = end
        self._head[AT_WORDS] = end
        return True

    def append_bytes(self, batch: bytes) -> bool:
        """Commit a batch of words given as their bytes; False without room on the disk."""
        count = len(batch) // _WORD_BYTES
        if self._used + count > self._room and not self._next(count):
            return False
        start = HEAD_BYTES + self._used * _WORD_BYTES
        self._bytes[start : start + len(batch)] = batch
        self._used += count
        self._head[AT_WORDS] = self._used
        return True

    def put(self, at: int, value: int) -> None:
        """Write a number of the head, such as `AT_ROWS`."""
        self._head[at] = value

    @property
    def tries(self) -> bool:
        """Whether a batch without room is worth making: not for a while after the disk was full."""
        return not self.full or self._clock() >= self._retry_at

    def try_now(self) -> None:
        """Let the next batch look for room, however lately there was none: it is the last one."""
        self._retry_at = 0.0

    @property
    def bytes_on_disk(self) -> int:
        """Bytes of all segments."""
        return sum(self._sizes.values())

    def close(self) -> None:
        """End the recording: the last segment shrinks to what it holds."""
        if self._map is None:
            return
        self._head[AT_CLOSED] = 1
        used = HEAD_BYTES + self._used * _WORD_BYTES
        path = self.folder / segment_name(self._number)
        self._unmap()
        # Somebody may have taken the folder away; what ends here is the engine, not our business.
        with contextlib.suppress(OSError):
            os.truncate(path, used)

    def _next(self, words: int) -> bool:
        """Go on in a new segment with room for `words` and as many again."""
        if not self.tries:
            return False
        size = max(self.segment_bytes, HEAD_BYTES + 2 * words * _WORD_BYTES)
        number = self._number + 1
        try:
            mapped = _make(self.folder / segment_name(number), size)
        except OSError as error:
            # What is there stays: a full disk is no reason to throw a recording away.
            self.full, self._retry_at = str(error), self._clock() + _RETRY_S
            return False
        kept = list(self._head)
        if self._map is not None:
            self._head[AT_CLOSED] = 2
            self._unmap()
        self.full = ""
        self._number, self._map = number, mapped
        self._head = memoryview(mapped)[:HEAD_BYTES].cast("q")
        self._bytes = memoryview(mapped)
        self._used, self._room = 0, (size - HEAD_BYTES) // _WORD_BYTES
        self._head[AT_ROWS : AT_DROPPED + 1] = memoryview(array("q", kept[AT_ROWS:AT_CLOSED]))
        self._sizes[number] = size
        self._drop()
        self._head[AT_DROPPED] = self.dropped
        self._head[_MAGIC] = struct.unpack("<q", MAGIC)[0]
        self._head[AT_VERSION] = FORMAT_VERSION
        self.fresh = True
        return True

    def _drop(self) -> None:
        while len(self._sizes) > 2 and self.bytes_on_disk > self.most_bytes:
            oldest = min(self._sizes)
            # Readers that have it open keep what they read.
            (self.folder / segment_name(oldest)).unlink(missing_ok=True)
            del self._sizes[oldest]
            self.dropped += 1

    def _unmap(self) -> None:
        mapped, self._map = self._map, None
        numbers = array("q", self._head)
        self._head.release()
        self._bytes.release()
        self._head = memoryview(numbers)
        self._bytes = memoryview(b"")
        self._used = self._room = 0
        if mapped is not None:
            mapped.close()


def _make(path: Path, size: int) -> mmap.mmap:
    """Return a new file of `size` bytes, all of them there, mapped. Raises: OSError."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(file, 0, size)
        return mmap.mmap(file, size)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
