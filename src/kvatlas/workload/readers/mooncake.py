"""Mooncake JSONL traces: `{timestamp, input_length, output_length, hash_ids}`, one per line.

Timestamps are milliseconds; each id covers 512 tokens of the prompt and the last one may cover a
partial block, so a prompt has ceil(input_length / 512) ids (true of every request of the published
conversation and synthetic traces, whose ids are prefix-chained already, and which are sorted by
time). Further fields, and fields in another order, are accepted.
Source: kvcache-ai/Mooncake, FAST25-release.

A first row with `block_size` makes it our own anonymised export (`kvatlas.workload.export`), which
has the same form and says more in keys of its own (`exported`).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from kvatlas.errors import InputError
from kvatlas.workload.formats import HEAD_BYTES, Reader
from kvatlas.workload.model import Workload
from kvatlas.workload.readers.block_hash import (
    LAST_BLOCK,
    NAMES,
    HashedRows,
    check_choice,
    check_span,
)
from kvatlas.workload.readers.columns import Rows
from kvatlas.workload.readers.exported import Exported, ExportedRow
from kvatlas.workload.readers.jsonl import field_names, rows_of
from kvatlas.workload.readers.text import read_head

__all__ = ["READER"]

_TOKENS_PER_ID = 512


class _Request(msgspec.Struct, gc=False):
    timestamp: float
    input_length: int
    output_length: int
    hash_ids: list[int]


def _sniff(head: bytes, path: Path) -> bool:
    names = field_names(head)
    return "hash_ids" in names and not names & {"chat_id", "requests"}


def _read(
    path: Path,
    *,
    limit: int | None = None,
    tokens_per_id: int | None = None,
    last_block: str = "kept",
    sort: bool = False,
) -> Workload:
    check_span("tokens_per_id", _TOKENS_PER_ID if tokens_per_id is None else tokens_per_id)
    check_choice("last_block", last_block, LAST_BLOCK)
    rows = Rows(path, NAMES, sort=sort)
    if "block_size" in field_names(read_head(path, HEAD_BYTES)):
        return _read_export(path, rows, limit, tokens_per_id, last_block)
    hashed = HashedRows(rows, tokens_per_id or _TOKENS_PER_ID, last_block)
    for decoded, chunk in rows_of(path, msgspec.json.Decoder(_Request), limit):
        hashed.add(decoded, chunk)
    return rows.finish(units_per_s=1000.0, identities=hashed.identities, notes=hashed.notes())


def _read_export(
    path: Path, rows: Rows, limit: int | None, tokens_per_id: int | None, last_block: str
) -> Workload:
    read: tuple[HashedRows, Exported] | None = None
    for decoded, chunk in rows_of(path, msgspec.json.Decoder(ExportedRow), limit):
        if read is None:
            exported = Exported(decoded[0])
            _check_stated_span(exported.block_size, tokens_per_id, path)
            with_outputs = exported.covers_output
            read = (
                HashedRows(rows, exported.block_size, last_block, with_outputs=with_outputs),
                exported,
            )
        hashed, exported = read
        hashed.add(decoded, chunk, exported.add(decoded, chunk))
    if read is None:
        return rows.finish(units_per_s=1000.0)
    hashed, exported = read
    return rows.finish(
        units_per_s=1000.0,
        identities=hashed.identities,
        notes=hashed.notes(),
        **exported.columns(),
    )


def _check_stated_span(stated: int, asked: int | None, path: Path) -> None:
    check_span("block_size", stated)
    if asked is not None and asked != stated:
        raise InputError(
            f"the file says that its ids cover {stated} tokens",
            file=str(path),
            field="tokens_per_id",
            value=asked,
            remedy="leave the option out",
        )


READER = Reader(
    name="mooncake",
    summary="Mooncake JSONL: milliseconds, lengths, and a hash id per 512-token block",
    sniff=_sniff,
    read=_read,
    options={
        "tokens_per_id": "tokens that one hash id covers (512, or the file's own block_size)",
        "last_block": "is a partial last block given an id: kept, dropped or either (kept)",
        "sort": "order the requests by arrival instead of refusing a disorderly file",
    },
)
