"""Typed JSON lines: rows decoded chunk by chunk, and an exact diagnosis of the first bad line.

The fast path decodes a whole chunk at once; only when that fails are its lines decoded one by one
to name the line, the field and the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kvatlas.errors import InputError
from kvatlas.workload.readers.text import Chunk, line_chunks

__all__ = ["decode_one", "field_names", "rows_of"]

Row = TypeVar("Row")

# Bounded, or a line of nothing but escaped quotes would take quadratic time.
_KEY = re.compile(rb'"((?:[^"\\]|\\.){0,64})"\s{0,8}:')
_PATH = re.compile(r" - at `\$\.?([^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `([^`]*)`")


@lru_cache(maxsize=2)  # every sniffer asks about the same head
def field_names(head: bytes) -> frozenset[str]:
    """Return the keys in the first line of `head` if it begins a JSON object, else none.

    Works on a line that is cut off, so that a first line longer than the head is recognised too.
    """
    first = head.lstrip().split(b"\n", 1)[0]
    if not first.startswith(b"{"):
        return frozenset()
    return frozenset(key.decode("utf-8", "replace") for key in _KEY.findall(first))


def rows_of(
    file: Path, decoder: msgspec.json.Decoder[Row], limit: int | None
) -> Iterator[tuple[list[Row], Chunk]]:
    """Yield `(rows, chunk)` of a JSONL file, at most `limit` rows in all.

    Row k of a pair is the k-th line of its chunk that is not blank. Raises: InputError naming the
    first line that is no JSON object of the decoder's type.
    """
    left = limit
    for chunk in line_chunks(file):
        if left is not None:
            chunk = chunk.head(left)  # what lies beyond the limit is not looked at
        try:
            rows = decoder.decode_lines(chunk.data)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise _diagnose(chunk, decoder, error) from None
        # Lenient about newlines, decode_lines also takes two objects on one line, or one on two.
        if _needs_counting(chunk.data, len(rows)) and len(rows) != sum(1 for _ in chunk.lines()):
            raise _diagnose(chunk, decoder, None)
        if not rows:
            continue
        if left is not None:
            left -= len(rows)
        yield rows, chunk
        if left == 0:
            return


def decode_one(
    data: bytes, decoder: msgspec.json.Decoder[Row], file: Path, *, line: int | None, within: str
) -> Row:
    """Decode one JSON value. Raises: InputError with the field's path below `within`."""
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _explain(data, error, file, line, within) from None


def _needs_counting(data: bytes, rows: int) -> bool:
    """Say whether it is not plain to see that each of `rows` objects has a line of its own."""
    if rows != data.count(b"\n") or data[:1].isspace():
        return True
    return any(blank in data for blank in (b"\n\n", b"\n\r", b"\n ", b"\n\t"))


def _diagnose(chunk: Chunk, decoder: msgspec.json.Decoder[Any], error: Any) -> InputError:
    for number, line in chunk.lines():
        try:
            decoder.decode(line)
        except (msgspec.MsgspecError, RecursionError) as line_error:
            return _explain(line, line_error, chunk.file, number, "")
    return InputError(
        "the lines are not one JSON object each" + (f": {error}" if error else ""),
        file=str(chunk.file),
        line=chunk.first_line,
        remedy="write one request per line",
    )


def _explain(
    data: bytes, error: Exception, file: Path, line: int | None, within: str
) -> InputError:
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return InputError(
            f"not valid JSON: {text}",
            file=str(file),
            line=line,
            field=within or None,
            value=data[:80].decode("utf-8", "replace"),
            remedy="write one JSON object per line",
        )
    path = _PATH.search(text)
    where = path.group(1) if path else ""
    if missing := _MISSING.match(text):
        where = f"{where}.{missing.group(1)}" if where else missing.group(1)
        what, value, remedy = "the field is missing", None, "add it, or force another --format"
    else:
        what = _PATH.sub("", text).replace("`", "")
        value, remedy = _value_at(data, where), "correct the value"
    field = ".".join(part for part in (within, where) if part)
    return InputError(
        what[:1].lower() + what[1:],
        file=str(file),
        line=line,
        field=field or None,
        value=value,
        remedy=remedy,
    )


def _value_at(data: bytes, where: str) -> str:
    """Return the JSON text at the path `where` ("hash_ids[3]") in `data`, as far as it leads."""
    for step in re.findall(r"[^.\[\]]+", where):
        try:
            if step.isdecimal() and not data.lstrip().startswith(b"{"):
                items = msgspec.json.decode(data, type=list[msgspec.Raw])
                data = bytes(items[int(step)])
            else:
                data = bytes(msgspec.json.decode(data, type=dict[str, msgspec.Raw])[step])
        except (msgspec.MsgspecError, RecursionError, LookupError):
            break
    return data[:80].decode("utf-8", "replace")
