"""The registry of trace formats: which reader takes a file, and `load`, the one way in.

A new format is one module under `readers/` that exposes `READER`, and one line in `_MODULES`.
Readers promise a valid `Workload` or one `InputError`; this module finds the reader and opens
nothing but the first bytes of the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from kvatlas.errors import InputError
from kvatlas.workload.model import Workload

__all__ = ["HEAD_BYTES", "Reader", "detect", "format_names", "load", "reader_for", "trace_name"]

HEAD_BYTES = 256 * 1024
"""How much of a file's decompressed beginning the sniffers see."""

_PACKAGE = "kvatlas.workload.readers."
_MODULES: dict[str, str] = {  # in the order in which they are asked; the plain ones come last
    "parquet": "parquet:READER",
    "lcs": "lcs:READER",
    "claude-code": "claude_code:READER",
    "bailian": "bailian:READER",
    "mooncake": "mooncake:READER",
    "token-ids": "token_ids:READER",
    "azure-2024": "azure:READER_2024",
    "azure-2023": "azure:READER_2023",
    "burstgpt": "burstgpt:READER",
    "plain-jsonl": "plain_jsonl:READER",
    "plain-csv": "plain_csv:READER",
}
_LFS_POINTER = b"version https://git-lfs.github.com/spec"
_SUFFIXES = (".gz", ".zst", ".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".pq", ".lcs")


@dataclass(frozen=True, slots=True)
class Reader:
    """One trace format.

    `sniff(head, path)` says whether the file's first decompressed bytes look like it; it must not
    read the file. `read(path, limit, **options)` reads at most `limit` requests, in file order.
    `options` maps each option that `read` takes to one line of help.
    """

    name: str
    summary: str
    sniff: Callable[[bytes, Path], bool]
    read: Callable[..., Workload]
    options: Mapping[str, str] = field(default_factory=dict)


def format_names() -> tuple[str, ...]:
    """Return the names of all formats, as `--format` takes them."""
    return tuple(sorted(_MODULES))


def reader_for(name: str) -> Reader:
    """Return the reader called `name`. Raises: InputError listing the names."""
    if name not in _MODULES:
        raise InputError(
            "unknown trace format",
            field="format",
            value=name,
            remedy=f"use one of {', '.join(format_names())}",
        )
    module, attribute = _MODULES[name].split(":")
    reader: Reader = getattr(import_module(_PACKAGE + module), attribute)
    return reader


def detect(path: str | os.PathLike[str]) -> Reader:
    """Return the reader for `path` by its content; the file's name breaks a tie.

    A directory is a set of coding-agent sessions. Reads at most `HEAD_BYTES` decompressed bytes.
    Raises: InputError when the file cannot be opened, is empty, or looks like no known format.
    """
    from kvatlas.workload.readers.text import read_head, require_readable

    file = require_readable(path)
    if file.is_dir():
        return reader_for("claude-code")
    head = read_head(file, HEAD_BYTES)
    if not head.strip():
        raise InputError("the file is empty", file=str(file), remedy="give a trace with requests")
    if head.startswith(_LFS_POINTER):
        raise InputError(
            "a Git LFS pointer, not the trace itself",
            file=str(file),
            remedy="fetch the content with git lfs pull",
        )
    takers = [reader for reader in map(reader_for, _MODULES) if reader.sniff(head, file)]
    if not takers:
        binary = b"\0" in head[:4096]
        raise InputError(
            "a binary file of unknown format" if binary else "no known trace format fits this file",
            file=str(file),
            value=head[:40],
            remedy=f"force one with --format: {', '.join(format_names())}",
        )
    named = [reader for reader in takers if reader.name.split("-")[0] in file.name.lower()]
    return (named or takers)[0]


def load(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    limit: int | None = None,
    **options: Any,
) -> Workload:
    """Read a trace file (or a directory of sessions) into a checked `Workload`.

    `format` forces a reader (else the content decides), `limit` keeps the first requests only, and
    `options` go to the reader: `reader_for(name).options` lists them. `.gz` and `.zst` are
    decompressed on the fly. O(size of the file), streaming.

    Raises: InputError, one line, for anything wrong with the path, the file or an option.
    """
    from kvatlas.workload.readers.text import require_readable

    file = require_readable(path)
    if limit is not None and limit < 1:
        raise InputError("limit must be at least 1", field="limit", value=limit)
    reader = reader_for(format) if format is not None else detect(file)
    unknown = sorted(set(options) - set(reader.options))
    if unknown:
        known = ", ".join(sorted(reader.options)) or "no options"
        raise InputError(
            f"the {reader.name} format has no such option",
            file=str(file),
            field=unknown[0],
            remedy=f"it takes {known}",
        )
    workload = reader.read(file, limit=limit, **options)
    workload.check()
    return workload


def trace_name(path: Path) -> str:
    """Return the file's name without its format and compression suffixes."""
    name = path.name
    while name.lower().endswith(_SUFFIXES):
        name = name[: name.rindex(".")]
    return name or path.name
