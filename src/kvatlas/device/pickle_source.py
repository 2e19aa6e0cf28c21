"""Bytes of a pickle, read forwards through a window: what a length claims is looked at first.

Owns: the file, the window, the limits on single values. Leaves to others: what the bytes mean
(`pickle_machine`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from kvatlas.errors import InputError

__all__ = ["Source"]

_WINDOW_BYTES = 1 << 20
_LONGEST_TEXT_BYTES = 1 << 20
"""Of one string or line. Names of C++ templates are long, but not that long."""
_NEAR_END_BYTES = 1 << 14
"""The window is refilled when less is left, so that short operands lie in it whole."""


class Source:
    """A file and the part of it that is in memory: a megabyte, or one long string more.

    Attributes:
        window: bytes; at: the next one's place in them.
    """

    __slots__ = ("_file", "_left", "_on_read", "_size", "at", "window")

    def __init__(
        self, file: BinaryIO, nbytes: int, on_read: Callable[[int], None] | None = None
    ) -> None:
        """Read `nbytes` of a file; `on_read` hears how many, each time that the window moves."""
        self._file, self._size, self._left = file, nbytes, nbytes
        self._on_read = on_read
        self.window, self.at = b"", 0
        self.refill()

    @property
    def offset(self) -> int:
        """How many bytes have been read."""
        return self._size - self._left - (len(self.window) - self.at)

    @property
    def remaining(self) -> int:
        """How many bytes are still to be read."""
        return self._left + len(self.window) - self.at

    @property
    def limit(self) -> int:
        """The place in the window from which on it must be refilled first."""
        return len(self.window) - (_NEAR_END_BYTES if self._left else 0)

    def refill(self, needed_bytes: int = 0) -> None:
        """Move the window on, so that at least `needed_bytes` are in it if the file has them."""
        wanted = max(_WINDOW_BYTES, needed_bytes)
        more = self._file.read(min(wanted, self._left))
        # A file that shrinks while it is read ends early.
        self._left = self._left - len(more) if more else 0
        self.window = self.window[self.at :] + more
        self.at = 0
        if self._on_read is not None:
            self._on_read(self._size - self._left)

    def take(self, nbytes: int, what: str) -> bytes:
        """Return the next bytes. Raises: InputError when there are fewer, or very many."""
        if nbytes > self.remaining:
            raise InputError(
                f"{what} claims more bytes than the file has left ({self.remaining})",
                value=nbytes,
                remedy="the file is cut short or damaged: record it again",
            )
        if nbytes > _LONGEST_TEXT_BYTES:
            raise InputError(f"{what} is longer than any in a memory snapshot", value=nbytes)
        if nbytes > len(self.window) - self.at:
            self.refill(nbytes)
            if nbytes > len(self.window):
                raise InputError(f"the file ends within {what}")
        start = self.at
        self.at = start + nbytes
        return self.window[start : self.at]

    def line(self, what: str, longest: int = _LONGEST_TEXT_BYTES) -> bytes:
        """Return the bytes up to the next newline, which is skipped. Raises: InputError."""
        end = self.window.find(b"\n", self.at, self.at + longest + 1)
        if end < 0 and len(self.window) - self.at <= longest:
            self.refill(longest)
            end = self.window.find(b"\n", self.at, self.at + longest + 1)
        if end < 0:
            raise InputError(f"{what} has no end within {longest} bytes")
        text = self.window[self.at : end]
        self.at = end + 1
        return text
