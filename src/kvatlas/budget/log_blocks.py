"""A log as blocks of whole lines, whatever it is: compressed, UTF-16, one endless line, a pipe.

Owns: bounded memory, what a line is. Leaves to others: opening compressed files
(`kvatlas.workload.readers.text`), what a line means (`startup_log`, `kvatlas.oom`).
"""

from __future__ import annotations

import codecs
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kvatlas.errors import InputError
from kvatlas.workload.readers.text import byte_pieces

__all__ = ["STDIN", "line_parts", "log_blocks"]

STDIN = "-"
_MOST_LINE = 16 << 10
_OVERLAP = 4 << 10
_MOST_CARRIED = 1 << 20


def log_blocks(
    path: str, on_bytes: Callable[[int], object] | None = None
) -> Iterator[tuple[int, bytes]]:
    """Yield (number of the first line, whole lines without the last end); O(bytes), O(1) memory.

    Args:
        path: a file, plain, gzip or zstd, or "-" for standard input.
        on_bytes: is told how many bytes have been read.

    Raises: InputError when it cannot be read.
    """
    if path != STDIN:
        _require_plain(Path(path))
    pieces = _standard_input() if path == STDIN else byte_pieces(Path(path))
    yield from _blocks(_decoded(_counted(pieces, on_bytes)))


def line_parts(line: bytes) -> Iterator[bytes]:
    """Yield a line, or overlapping parts of a long one; a progress bar's returns end lines, too."""
    if b"\r" in line:
        for part in line.split(b"\r"):
            yield from line_parts(part)
        return
    yield line[:_MOST_LINE]
    for start in range(_MOST_LINE - _OVERLAP, len(line) - _OVERLAP, _MOST_LINE - _OVERLAP):
        yield line[start : start + _MOST_LINE]


def _blocks(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (number of the first line, whole lines); one without an end is cut at a bound."""
    number, carried = 1, b""
    for piece in pieces:
        end = piece.rfind(b"\n")
        if end >= 0:
            block = carried + piece[:end]
            yield number, block
            number += block.count(b"\n") + 1
            carried = piece[end + 1 :]
            continue
        carried += piece
        if len(carried) > _MOST_CARRIED:
            yield number, carried[:-_OVERLAP]
            carried = carried[-_OVERLAP:]
    if carried:
        yield number, carried


def _counted(pieces: Iterable[bytes], on_bytes: Callable[[int], object] | None) -> Iterator[bytes]:
    done = 0
    for piece in pieces:
        yield piece
        done += len(piece)
        if on_bytes is not None:
            on_bytes(done)


def _decoded(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield UTF-8: Windows' shell redirects in UTF-16."""
    first = next(pieces, b"")
    if not first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield first
        yield from pieces
        return
    decoder = codecs.getincrementaldecoder("utf-16")("replace")
    yield decoder.decode(first).encode()
    for piece in pieces:
        yield decoder.decode(piece).encode()


def _standard_input() -> Iterator[bytes]:
    while piece := sys.stdin.buffer.read(64 << 10):
        yield piece


def _require_plain(path: Path) -> None:
    """Refuse what would wait for whoever writes into it, before it is opened."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _unreadable(path, error.strerror or "nothing") from None
    if not stat.S_ISREG(mode):
        raise _unreadable(path, "not a plain file")


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        "cannot read the log", file=path, value=why, remedy="name a log file, or - and pipe it in"
    )
