"""One recorded coding-agent session: its JSON document as columns of requests.

Owns: the document's schema, subagents and the clock inside a session. Leaves to `claude_code`: how
sessions are put side by side.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.workload.model import MAX_TOKENS
from kvatlas.workload.readers.block_hash import check_span
from kvatlas.workload.readers.jsonl import decode_one
from kvatlas.workload.readers.text import read_document

__all__ = ["Session", "read_session"]

_MAX_BYTES = 512 * 1024 * 1024
_MAX_DEPTH = 16  # of subagents within subagents


class _Document(msgspec.Struct):
    block_size: int
    requests: list[msgspec.Raw]


class _Entry(msgspec.Struct, gc=False):
    t: float
    type: str = "n"
    api_time: float = 0.0
    duration_ms: float | None = None
    prompt_tokens: int | None = msgspec.field(default=None, name="in")
    output_tokens: int | None = msgspec.field(default=None, name="out")
    hash_ids: list[int] | None = None
    requests: list[msgspec.Raw] | None = None


_DOCUMENT = msgspec.json.Decoder(_Document)
_ENTRY = msgspec.json.Decoder(_Entry)


@dataclass(slots=True)
class Session:
    """The requests of one session in the order of the file, subagents' where they are nested.

    `t_s` counts from the session's start, `parent` names rows of this session (-1: none).
    """

    file: Path
    block_size: int
    times: list[float] = field(default_factory=list)
    prompts: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    raw_ids: array[int] = field(default_factory=lambda: array("q"))
    parent: list[int] = field(default_factory=list)

    @property
    def t_s(self) -> NDArray[np.float64]:
        """Seconds since the session's start, (N,)."""
        return np.array(self.times, dtype=np.float64)

    @property
    def prompt(self) -> NDArray[np.int64]:
        """Prompt tokens, (N,)."""
        return np.array(self.prompts, dtype=np.int64)

    @property
    def output(self) -> NDArray[np.int64]:
        """Output tokens, (N,)."""
        return np.array(self.outputs, dtype=np.int64)

    @property
    def partial_blocks(self) -> int:
        """How many prompts end in a block without an id."""
        return int((np.array(self.given, np.int64) * self.block_size < self.prompt).sum())

    def with_last_blocks(self, first_row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return raw ids and their counts (N,); a partial last block has one used nowhere else."""
        given = np.array(self.given, dtype=np.int64)
        short = given * self.block_size < self.prompt
        own = np.iinfo(np.int64).min + first_row + np.flatnonzero(short)
        raw = np.array(self.raw_ids, dtype=np.int64)
        return np.insert(raw, np.cumsum(given)[short], own), given + short


def read_session(file: Path) -> Session:
    """Read one session. Raises: InputError naming the entry and field that is wrong."""
    document = decode_one(read_document(file, _MAX_BYTES), _DOCUMENT, file, line=None, within="")
    try:
        check_span("block_size", document.block_size)
    except InputError as error:
        raise _bad(file, "block_size", error.what, document.block_size) from None
    session = Session(file, document.block_size)
    _add_entries(session, document.requests, "requests", start_s=0.0, depth=0)
    if not session.parent:
        raise InputError("the session holds no requests", file=str(file), remedy="remove the file")
    return session


def _add_entries(
    session: Session, entries: list[msgspec.Raw], within: str, *, start_s: float, depth: int
) -> None:
    """Append the requests among `entries`, each after the one before it in the same list."""
    file, before = session.file, -1
    for number, raw in enumerate(entries):
        where = f"{within}[{number}]"
        entry = decode_one(bytes(raw), _ENTRY, file, line=None, within=where)
        if not np.isfinite(entry.t):
            raise _bad(file, f"{where}.t", "not a finite time", entry.t)
        if entry.type != "subagent" and entry.requests is None:
            _add_request(session, entry, where, start_s)
            session.parent.append(before)
            before = len(session.parent) - 1
            continue
        if depth == _MAX_DEPTH:
            raise _bad(file, where, f"subagents nest deeper than {_MAX_DEPTH} levels", None)
        nested = entry.requests or []
        sub_start_s = start_s + entry.t - _duration_s(entry, nested, file, where)
        start = max(start_s, sub_start_s)
        _add_entries(session, nested, f"{where}.requests", start_s=start, depth=depth + 1)


def _duration_s(entry: _Entry, nested: list[msgspec.Raw], file: Path, where: str) -> float:
    """Return how long the subagent ran: as recorded, else until the end of its last call."""
    if entry.duration_ms is not None:
        return entry.duration_ms / 1000.0
    if not nested:
        return 0.0
    last = decode_one(bytes(nested[-1]), _ENTRY, file, line=None, within=f"{where}.requests[-1]")
    return last.t + last.api_time


def _add_request(session: Session, entry: _Entry, where: str, start_s: float) -> None:
    file = session.file
    prompt = _length(entry.prompt_tokens, file, f"{where}.in", least=1)
    output = _length(entry.output_tokens, file, f"{where}.out", least=0)
    if entry.hash_ids is None:
        raise _bad(file, f"{where}.hash_ids", "the field is missing", None)
    given, span = len(entry.hash_ids), session.block_size
    if given not in (prompt // span, -(-prompt // span)):
        what = f"{given:,} ids for {prompt:,} prompt tokens; {prompt // span:,} of {span} are due"
        raise _bad(file, f"{where}.hash_ids", what, None)
    try:
        session.raw_ids.fromlist(entry.hash_ids)
    except OverflowError:
        what = "an id does not fit in 64 bits"
        raise _bad(file, f"{where}.hash_ids", what, max(entry.hash_ids, key=abs)) from None
    session.times.append(start_s + entry.t)
    session.prompts.append(prompt)
    session.outputs.append(output)
    session.given.append(given)


def _length(tokens: int | None, file: Path, where: str, *, least: int) -> int:
    if tokens is None:
        raise _bad(file, where, "the field is missing", None)
    if not least <= tokens <= MAX_TOKENS:
        raise _bad(file, where, f"a length must be from {least} to {MAX_TOKENS:,} tokens", tokens)
    return tokens


def _bad(file: Path, where: str, what: str, value: Any) -> InputError:
    remedy = "correct or remove the session"
    return InputError(what, file=str(file), field=where, value=value, remedy=remedy)
