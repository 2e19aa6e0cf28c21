"""The anonymised export: a workload that can leave the house, as JSONL in Mooncake's form.

Owns: what is written and what is not. Reading the prompts is `prompts`, reading the result back is
the `mooncake` reader's.

What is kept is the replayable structure: order, times from 0, lengths, which prefixes are equal,
which turn follows which, priorities and cache salts as bare numbers. What is not: text, token ids,
names, hashes of any of these, the salt, the source.

Why bare numbers are safe. Blocks are first told apart by BLAKE2b keyed with the salt, and the
digests are then replaced by 0, 1, 2, ... in order of first appearance and thrown away. The numbers
are a function of the pattern of equalities alone: any other texts with the same pattern give the
same file, under this salt or another. So there is nothing to look up in a table of known prompts
(the digests of the published traces invite that), nor to join with another export but its pattern.
The salt matters for what exists in between: a core dump or a swapped page holds keyed digests.

What still leaks, by design, because a replay needs it: lengths and arrival times (coarsen them with
`time_resolution_ms`), how much is shared and when, the shape of sessions. Who knows a public
service's traffic, or can send requests of chosen lengths while the log is made, can recognise a
stretch of it by these.
"""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.workload.chain import chain_ids
from kvatlas.workload.formats import load
from kvatlas.workload.model import Workload
from kvatlas.workload.prompt_rows import holds_prompts
from kvatlas.workload.prompts import read_prompts
from kvatlas.workload.readers.block_hash import check_span
from kvatlas.workload.readers.text import require_readable

__all__ = ["ExportSummary", "export"]

_ROWS_PER_WRITE = 1000


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What was written; `notes` are for whoever made the file and are not in it."""

    path: str
    requests: int
    distinct_ids: int
    tokens_per_id: int
    outputs_identified: bool
    notes: tuple[str, ...]


def export(
    source: Workload | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    salt: str | None = None,
    tokens_per_id: int = 16,
    time_resolution_ms: float = 0.001,
) -> ExportSummary:
    """Write `source` to `out`, anonymised; return what was written.

    `source` is a workload, a JSONL file of prompts (the keys are in
    `kvatlas.workload.prompt_rows`), or any trace that `load` reads. `salt` keys the hashes of
    prompts; a random one is drawn when none is given, and neither is ever written. `tokens_per_id`
    is the block that is hashed where there are prompts; a trace of hashes keeps its own. Arrival
    times are rounded to `time_resolution_ms`. `out` ends in `.gz` for a compressed file; it is
    replaced in one step or, on any error, left as it was. O(bytes read) + O(M) for M ids.

    Raises: InputError, one line: a bad source, a trace of lengths only, a path that cannot be
    written.
    """
    target = Path(out)
    if not 0 < time_resolution_ms < math.inf:
        raise InputError(
            "must be a positive number of milliseconds",
            field="time_resolution_ms",
            value=time_resolution_ms,
        )
    workload = _anonymous(_loaded(source, target, salt, tokens_per_id), time_resolution_ms)
    _write(workload, target)
    return ExportSummary(
        path=str(target),
        requests=workload.num_requests,
        distinct_ids=workload.num_ids,
        tokens_per_id=workload.tokens_per_id,
        outputs_identified=workload.outputs_identified,
        notes=workload.notes,
    )


def _loaded(
    source: Workload | str | os.PathLike[str], target: Path, salt: str | None, tokens_per_id: int
) -> Workload:
    check_span("tokens_per_id", tokens_per_id)
    if salt == "":
        raise InputError("must not be empty", field="salt", remedy="leave it out for a random one")
    if isinstance(source, Workload):
        return source
    path = require_readable(source)
    with suppress(OSError):
        if path.samefile(target):
            raise InputError("would overwrite its source", file=str(target), remedy="name another")
    if path.is_dir() or not holds_prompts(path):
        return load(path)
    key = secrets.token_bytes(32) if salt is None else blake2b(salt.encode()).digest()
    return read_prompts(path, key=key, tokens_per_id=tokens_per_id)


def _anonymous(workload: Workload, time_resolution_ms: float) -> Workload:
    """Return the workload with every number that could name something replaced by its rank."""
    if not workload.prefix_known:
        raise InputError(
            "the trace has lengths only; there are no prompts to anonymise",
            file=workload.source,
            remedy="give prompts, token ids, or a trace with prefix hashes",
        )
    since_s = workload.arrival_s - workload.arrival_s[:1]
    steps = np.round(since_s * 1000 / time_resolution_ms)
    ids, num_ids = chain_ids(workload.ids, workload.id_offsets, workload.salt)
    return workload.with_(
        arrival_s=steps * time_resolution_ms / 1000,
        ids=ids,
        num_ids=num_ids,
        session=_ranked(workload.session, unknown=-1),
        salt=_ranked(workload.salt, unknown=0),
    )


def _ranked(values: NDArray[np.int32], *, unknown: int) -> NDArray[np.int32]:
    """Renumber `values` by first appearance, from `unknown` + 1 on; `unknown` stays."""
    known = values != unknown
    _, first, group = np.unique(values[known], return_index=True, return_inverse=True)
    rank = np.empty(first.size, dtype=np.int32)
    rank[np.argsort(first)] = np.arange(first.size, dtype=np.int32)
    ranked = np.full(values.size, unknown, dtype=np.int32)
    ranked[known] = rank[group] + unknown + 1
    return ranked


def _rows(workload: Workload) -> Iterator[dict[str, Any]]:
    optional = {
        "session": (workload.session, -1),
        "parent": (workload.parent, -1),
        "priority": (workload.priority, 0),
        "cache_salt": (workload.salt, 0),
    }
    said = {name: column for name, (column, quiet) in optional.items() if (column != quiet).any()}
    always: dict[str, Any] = {"block_size": workload.tokens_per_id}
    if workload.outputs_identified:
        always["covers_output"] = True
    for row, second in enumerate(workload.arrival_s.tolist()):
        begin, end = workload.id_offsets[row], workload.id_offsets[row + 1]
        milliseconds = round(second * 1000, 6)
        yield {
            "timestamp": int(milliseconds) if milliseconds.is_integer() else milliseconds,
            "input_length": int(workload.prompt_tokens[row]),
            "output_length": int(workload.output_tokens[row]),
            **always,
            **{name: int(column[row]) for name, column in said.items()},
            # Last: readers decide by the beginning of the first line, and these can be long.
            "hash_ids": workload.ids[begin:end].tolist(),
        }


def _write(workload: Workload, target: Path) -> None:
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        try:
            with unfinished.open("xb") as raw:
                _write_rows(workload, raw, compressed=target.name.endswith(".gz"))
            unfinished.replace(target)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror or error}",
            file=str(target),
            remedy="choose another path",
        ) from error


def _write_rows(workload: Workload, raw: IO[bytes], *, compressed: bool) -> None:
    import gzip

    # No name and no time in the gzip header: the file is a function of the workload alone.
    out: IO[bytes] = raw
    if compressed:
        out = gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0)  # type: ignore[assignment]
    encoder = msgspec.json.Encoder()
    pending = bytearray()
    for number, row in enumerate(_rows(workload), 1):
        pending += encoder.encode(row)
        pending += b"\n"
        if number % _ROWS_PER_WRITE == 0:
            out.write(pending)
            pending.clear()
    out.write(pending)
    if out is not raw:
        out.close()
