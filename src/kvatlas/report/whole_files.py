"""Files that come in pieces, written whole or not at all.

Owns: replacing a file in one step when its last piece is there, compression by suffix. Leaves to
others: the pieces; which error a user sees.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["gzipped", "write_folder", "write_parts"]

_GZIP = 16 + zlib.MAX_WBITS


def write_parts(target: Path, parts: Iterable[bytes]) -> None:
    """Write `parts` one after the other; a name that ends in .gz is compressed.

    A reader sees the old file or the new one; a link stays a link; a device or pipe is written to
    as it is. Raises: OSError.
    """
    if target.suffix == ".gz":
        parts = gzipped(parts)
    if target.exists() and not target.is_file():
        with target.open("wb") as out:
            out.writelines(parts)
        return
    target = target.resolve()
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("xb") as out:
            out.writelines(parts)
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_folder(folder: Path, files: Iterable[tuple[str, bytes]]) -> list[Path]:
    """Write each of `files` (name, content) whole into `folder`, made where it is missing.

    Returns the paths. Raises: OSError.
    """
    folder.mkdir(exist_ok=True)
    written = []
    for name, content in files:
        write_parts(folder / name, [content])
        written.append(folder / name)
    return written


def gzipped(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield `parts` compressed; equal parts give equal bytes, for no time is written down."""
    packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    for part in parts:
        yield packer.compress(part)
    yield packer.flush()
