"""Streams a text file, plain or compressed, as chunks of whole lines; the only code that opens one.

Owns: opening, gzip and zstd, line numbers, UTF-8, and the limits that keep memory bounded whatever
the file says. Leaves to others: what a line means. Every failure is one `InputError`.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from kvatlas.errors import InputError

__all__ = [
    "MAX_LINE_BYTES",
    "Chunk",
    "byte_pieces",
    "line_chunks",
    "read_document",
    "read_head",
    "require_readable",
]

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is refused: it is a damaged or hostile file, and a line is held whole."""

# Decoded rows cost about ten times their text in Python objects and small pieces stay in the CPU's
# cache: 64 KiB decodes the conversation trace in 12 ms, 4 MiB needs 17 ms.
_PIECE_BYTES = 64 * 1024
# A zstd block of 4 bytes can stand for 128 KiB, so the input is fed in small bites: one bite
# yields at most 32 MiB.
_ZSTD_BITE_BYTES = 1024

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines of one file: `data`, of which the first is line `first_line` (from 1)."""

    file: Path
    data: bytes
    first_line: int

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield `(line number, line)` of the lines that are not blank."""
        for number, line in enumerate(self.data.split(b"\n"), self.first_line):
            stripped = line.strip()
            if stripped:
                yield number, stripped

    def head(self, rows: int) -> Chunk:
        """Return the chunk cut after its first `rows` lines that are not blank."""
        for position, (number, _) in enumerate(self.lines()):
            if position == rows:
                kept = self.data.split(b"\n")[: number - self.first_line]
                return Chunk(self.file, b"\n".join(kept) + b"\n", self.first_line)
        return self

    def line_number(self, row: int) -> int:
        """Return the line number of the chunk's `row`-th line (from 0) that is not blank."""
        for position, (number, _) in enumerate(self.lines()):
            if position == row:
                return number
        return self.first_line


def require_readable(path: str | os.PathLike[str]) -> Path:
    """Return `path` if it is a readable file or directory. Raises: InputError otherwise."""
    file = Path(path)
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        raise InputError("no such file", file=str(file), remedy="check the path") from None
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(
            "not a regular file", file=str(file), remedy="write the stream to a file first"
        )
    if not os.access(file, os.R_OK):
        raise InputError(
            "permission denied", file=str(file), remedy="make the file readable for this user"
        )
    return file


def read_head(file: Path, size: int) -> bytes:
    """Return up to `size` decompressed bytes from the beginning of `file`."""
    head = b""
    for piece in byte_pieces(file):
        head += piece
        if len(head) >= size:
            break
    return head[:size].removeprefix(b"\xef\xbb\xbf")


def read_document(file: Path, max_bytes: int) -> bytes:
    """Return the whole decompressed file. Raises: InputError beyond `max_bytes`."""
    parts: list[bytes] = []
    size = 0
    for piece in byte_pieces(file):
        size += len(piece)
        if size > max_bytes:
            raise InputError(
                f"the document is larger than {max_bytes >> 20} MiB",
                file=str(file),
                remedy="split it, or check that it is the file you meant",
            )
        parts.append(piece)
    document = b"".join(parts).removeprefix(b"\xef\xbb\xbf")
    _require_utf8(Chunk(file, document, 1))
    return document


def line_chunks(file: Path) -> Iterator[Chunk]:
    """Yield the file as chunks of whole lines, about 64 KiB each, decompressed.

    Holds one chunk, or one line where a line is longer. Raises: InputError for a file that cannot
    be read or decompressed, invalid UTF-8, or a line beyond `MAX_LINE_BYTES`.
    """
    carried: list[bytes] = []
    carried_bytes = 0
    line = 1
    start = True
    for piece in byte_pieces(file):
        if start:
            piece, start = piece.removeprefix(b"\xef\xbb\xbf"), False
        cut = piece.rfind(b"\n") + 1
        if cut:
            chunk = Chunk(file, b"".join([*carried, piece[:cut]]), line)
            _require_utf8(chunk)
            yield chunk
            line += chunk.data.count(b"\n")
            carried, carried_bytes, piece = [], 0, piece[cut:]
        carried.append(piece)
        carried_bytes += len(piece)
        if carried_bytes > MAX_LINE_BYTES:
            raise InputError(
                f"the line is longer than {MAX_LINE_BYTES >> 20} MiB",
                file=str(file),
                line=line,
                remedy="write one request per line",
            )
    if carried_bytes:
        last = Chunk(file, b"".join(carried), line)
        _require_utf8(last)
        yield last


def byte_pieces(file: Path) -> Iterator[bytes]:
    """Yield the decompressed content; the magic bytes decide, not the file's suffix."""
    import gzip

    try:
        with file.open("rb") as raw:
            magic = raw.read(4)
            raw.seek(0)
            if magic.startswith(_GZIP_MAGIC):
                with gzip.GzipFile(fileobj=raw) as unzipped:
                    yield from _read_all(unzipped)
            elif magic == _ZSTD_MAGIC:
                yield from _unzstd(raw, file)
            else:
                yield from _read_all(raw)
    except EOFError:
        raise InputError(
            "the gzip file ends too early", file=str(file), remedy="fetch or copy it again"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"the gzip file is damaged: {error}", file=str(file), remedy="fetch or copy it again"
        ) from None
    except OSError as error:
        raise _unreadable(file, error) from None


def _read_all(source: _Source) -> Iterator[bytes]:
    while piece := source.read(_PIECE_BYTES):
        yield piece


def _unzstd(raw: IO[bytes], file: Path) -> Iterator[bytes]:
    # The package's stream reader ends quietly on a truncated file; a frame object knows better.
    import zstandard

    frame = zstandard.ZstdDecompressor().decompressobj()
    inside = False
    try:
        while bite := raw.read(_ZSTD_BITE_BYTES):
            while bite:
                inside = True
                piece = frame.decompress(bite)
                if piece:
                    yield piece
                bite = b""
                if frame.eof:
                    bite = frame.unused_data
                    frame = zstandard.ZstdDecompressor().decompressobj()
                    inside = False
    except zstandard.ZstdError as error:
        raise InputError(
            f"the zstd file is damaged: {error}", file=str(file), remedy="fetch or copy it again"
        ) from None
    if inside:
        raise InputError(
            "the zstd file ends too early", file=str(file), remedy="fetch or copy it again"
        )


def _require_utf8(chunk: Chunk) -> None:
    if chunk.data.isascii():
        return
    try:
        chunk.data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            "not valid UTF-8 text",
            file=str(chunk.file),
            line=chunk.first_line + chunk.data.count(b"\n", 0, error.start),
            value=chunk.data[error.start : error.start + 8],
            remedy="re-encode the file as UTF-8, or check that it is a trace",
        ) from None


def _unreadable(file: Path, error: Exception) -> InputError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InputError(f"cannot be read: {reason}", file=str(file), remedy="check the path")
