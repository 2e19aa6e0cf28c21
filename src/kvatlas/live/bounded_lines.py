"""A file of lines that never takes more than its bound of the disk.

Owns: rotation, lines that a full disk cuts. Leaves to others: what a line says (`monitor`).
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["BoundedLines"]

_MOST_FILE_BYTES = 4 << 20


class BoundedLines:
    """A file of lines with a bound: full, it becomes the older one, which is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._older = path.with_name(f"{path.stem}.older{path.suffix}")
        self._file = -1
        self._size = 0
        self._torn = False

    def begins_anew(self) -> bool:
        """Open the file, or a new one when it is full; say whether it did. Raises: OSError."""
        if self._file >= 0 and self._size < _MOST_FILE_BYTES:
            return False
        if self._file >= 0:
            self.close()
            self._path.replace(self._older)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._file).st_size
        self._torn = self._size > 0
        return True

    def append(self, line: bytes) -> None:
        """Write a line; a full disk may leave a piece, after which the next line begins anew."""
        if self._torn:
            line = b"\n" + line
        self._torn = True
        written = os.write(self._file, line)
        self._size += written
        if written < len(line):
            raise OSError(f"the disk took {written} of {len(line)} bytes")
        self._torn = False

    def close(self) -> None:
        """Give the file back. Raises: OSError."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)
