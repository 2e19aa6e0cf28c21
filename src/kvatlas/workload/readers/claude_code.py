"""Recorded coding-agent sessions: one JSON document per session, or a directory of them.

What the published files hold (39 looked at, 2,181 requests): `block_size` 64, `hash_id_scope`
"local" (ids mean nothing in another file), and `requests` with `t` (seconds since the session's
start, in order), `in`, `out` and `hash_ids`. Found in the data:
- A prompt has floor(in / 64) ids: its partial last block has none. It gets an identity of its own.
- An entry of type "subagent" nests `requests` whose `t` counts from the *subagent's* start, while
  the entry's own `t` is when it *finished*: `t - duration_ms / 1000` of three parallel subagents
  falls within 0.02 s of one another and on the end of the parent's call that spawned them.
- A subagent's ids never meet its parent's: another system prompt, often another model.
- `think_time` is `t` less the end of the call before it; both are implied by `t` and not kept.
- No request has in = 0; one has out = 0 (read as 1).
Ids are prefix-chained already. Source: callanjfox/kv-cache-tester, traces/.

Recorded files share no clock, so sessions are started by a Poisson process: exponential gaps of
`mean_start_gap_s` (60 by default, that is `sessions_per_hour` = 60) drawn from `seed`, in the order
of the file names, the first at 0. A request keeps its time within the session.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from kvatlas.errors import InputError
from kvatlas.workload.formats import Reader
from kvatlas.workload.model import Workload
from kvatlas.workload.readers.columns import FieldNames, Identities, Rows
from kvatlas.workload.readers.sessions import Session, read_session
from kvatlas.workload.readers.text import require_readable

__all__ = ["READER"]

_DEFAULT_GAP_S = 60.0
_NAMES = FieldNames("t", "in", "out")
_SUFFIXES = (".json", ".json.gz", ".json.zst")
_SCALAR = re.compile(rb'"(block_size|requests)"\s{0,8}:')


def _sniff(head: bytes, path: Path) -> bool:
    text = head.lstrip()
    return text.startswith(b"{") and set(_SCALAR.findall(text)) == {b"block_size", b"requests"}


def _read(
    path: Path,
    *,
    limit: int | None = None,
    seed: int = 0,
    mean_start_gap_s: float | None = None,
    sessions_per_hour: float | None = None,
) -> Workload:
    gap_s = _mean_gap_s(mean_start_gap_s, sessions_per_hour)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError("not a seed", field="seed", value=seed, remedy="give a whole number >= 0")
    files = _session_files(path)
    gaps = np.random.default_rng(seed).exponential(gap_s, size=len(files))
    starts = np.cumsum(gaps) - gaps[0]
    rows = Rows(path, _NAMES, sort=True, noted=False)
    identities: Identities | None = None
    sessions: list[int] = []
    parents: list[int] = []
    partial = 0
    for number, file in enumerate(files):
        found = read_session(file)
        if identities is None:
            identities = Identities(found.block_size)
        _require_same_span(file, found, identities.tokens_per_id)
        first = len(rows)
        rows.add(starts[number] + found.t_s, found.prompt, found.output, lambda _: 1)
        raw, counts = found.with_last_blocks(first)
        partial += found.partial_blocks
        # Roots keep the ids of different files apart; they are not salts of the workload.
        identities.add(raw, counts, np.full(counts.size, number, dtype=np.int64))
        sessions += [number] * counts.size
        parents += [parent if parent < 0 else first + parent for parent in found.parent]
    workload = rows.finish(
        units_per_s=1.0,
        identities=identities,
        session=np.array(sessions, dtype=np.int32),
        parent=np.array(parents, dtype=np.int32),
        notes=_notes(len(files), gap_s, seed, partial),
    )
    return workload if limit is None else workload.head(limit)


def _mean_gap_s(mean_start_gap_s: float | None, sessions_per_hour: float | None) -> float:
    if mean_start_gap_s is not None and sessions_per_hour is not None:
        raise InputError(
            "two rates for the same sessions",
            field="sessions_per_hour",
            remedy="give either mean_start_gap_s or sessions_per_hour",
        )
    field, value = "mean_start_gap_s", mean_start_gap_s
    if sessions_per_hour is not None:
        field, value = "sessions_per_hour", sessions_per_hour
    if value is None:
        return _DEFAULT_GAP_S
    if not isinstance(value, int | float) or not np.isfinite(value) or value <= 0:
        raise InputError("not a rate", field=field, value=value, remedy="give a positive number")
    return float(value) if field == "mean_start_gap_s" else 3600.0 / value


def _session_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    try:
        found = sorted(file for file in path.iterdir() if file.name.lower().endswith(_SUFFIXES))
    except OSError as error:
        raise InputError(f"cannot be listed: {error.strerror}", file=str(path)) from None
    if not found:
        raise InputError(
            "the directory holds no session files",
            file=str(path),
            remedy=f"give one with {', '.join(_SUFFIXES)} files",
        )
    return [require_readable(file) for file in found]


def _require_same_span(file: Path, found: Session, tokens_per_id: int) -> None:
    if found.block_size != tokens_per_id:
        raise InputError(
            f"the files before it have blocks of {tokens_per_id} tokens",
            file=str(file),
            field="block_size",
            value=found.block_size,
            remedy="load files of one block size together",
        )


def _notes(files: int, gap_s: float, seed: int, partial: int) -> list[str]:
    notes = []
    if files > 1:
        notes.append(
            f"{files:,} sessions are started by a Poisson process with a mean gap of {gap_s:g} s "
            f"(seed {seed}); times within a session are as recorded"
        )
    if partial:
        notes.append(
            f"{partial:,} prompts end in a partial block that the files give no id; "
            "it is taken to be shared with no other request"
        )
    return notes


READER = Reader(
    name="claude-code",
    summary="coding-agent sessions: a JSON document, or a directory of them",
    sniff=_sniff,
    read=_read,
    options={
        "seed": "seed of the times at which sessions start (0)",
        "mean_start_gap_s": "mean seconds between the starts of two sessions (60)",
        "sessions_per_hour": "the same as a rate (60)",
    },
)
