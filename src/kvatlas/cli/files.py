"""Files that a command writes: whole or not at all.

Owns: checking a path before the work begins, and the one line when it cannot be written. Leaves to
others: replacing a file in one step (`kvatlas.report.whole_files`), what is in it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kvatlas.errors import InputError

__all__ = ["STDOUT", "require_writable", "write_output"]

STDOUT = "-"


def require_writable(path: str, flag: str, source: str | None = None) -> None:
    """Check before a long run that `path` can be written after it, and is not its `source`.

    Raises: InputError.
    """
    if path == STDOUT:
        return
    target = Path(path)
    both_exist = source is not None and target.exists() and Path(source).exists()
    if both_exist and target.samefile(str(source)):
        raise InputError("would overwrite the trace", field=flag, remedy="name another file")
    if not path or target.is_dir():
        raise InputError("not a file's path", field=flag, value=path, remedy="name a file")
    folder = target.parent
    if source is not None and _is_inside(folder, Path(source)):
        raise InputError(
            "would write into the recording", file=path, field=flag, remedy="name another folder"
        )
    if not folder.is_dir():
        raise InputError("no such directory", file=str(folder), field=flag, remedy="make it first")
    if not os.access(target if _is_special(target) else folder, os.W_OK):
        raise InputError("permission denied", file=path, field=flag, remedy="choose another path")


def write_output(path: str, content: bytes, flag: str) -> None:
    """Write to the file `path`, or to standard output for "-". Raises: InputError."""
    from kvatlas.report.whole_files import write_parts

    if path == STDOUT:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    try:
        write_parts(Path(path), [content])
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror or error}",
            file=path,
            field=flag,
            remedy="choose another path",
        ) from error


def _is_inside(folder: Path, recording: Path) -> bool:
    """Say whether `folder` is an engine's, of a recording that is a folder."""
    engines = [recording, *recording.glob("*/")] if recording.is_dir() else []
    there = folder.resolve()
    return any(there == each.resolve() and (each / "header.json").is_file() for each in engines)


def _is_special(target: Path) -> bool:
    return target.exists() and not target.is_file()
