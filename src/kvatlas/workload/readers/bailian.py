"""Alibaba's Qwen-Bailian JSONL traces, with the links between the turns of a chat.

Fields: `chat_id`, `parent_chat_id` (-1 for a first turn), `timestamp` (seconds), `input_length`,
`output_length`, `type`, `turn`, `hash_ids`. An id is a salted hash of one 16-token block *by
itself*, not of its prefix: two prompts with the same block at different places share the id, so
chaining re-keys them. The published description does not say whether a partial last block has an
id (the sample rows that circulate do: 502 tokens, 32 ids), so by default either is taken.
A chat is `chat_id` followed through `parent_chat_id` to its first turn in the file.
Source: alibaba-edu/qwen-bailian-usagetraces-anon (KVCache Cache in the Wild, USENIX ATC 2025).
"""

from __future__ import annotations

from array import array
from pathlib import Path

import msgspec
import numpy as np

from kvatlas.workload.formats import Reader
from kvatlas.workload.model import Workload
from kvatlas.workload.readers.block_hash import (
    LAST_BLOCK,
    NAMES,
    HashedRows,
    check_choice,
    check_span,
)
from kvatlas.workload.readers.columns import Rows, int_column
from kvatlas.workload.readers.jsonl import field_names, rows_of
from kvatlas.workload.readers.links import link_turns

__all__ = ["READER"]


class _Request(msgspec.Struct, gc=False):
    chat_id: int
    timestamp: float
    input_length: int
    output_length: int
    hash_ids: list[int]
    parent_chat_id: int = -1


def _sniff(head: bytes, path: Path) -> bool:
    return field_names(head) >= {"chat_id", "hash_ids"}


def _read(
    path: Path,
    *,
    limit: int | None = None,
    tokens_per_id: int = 16,
    last_block: str = "either",
    sort: bool = False,
) -> Workload:
    check_span("tokens_per_id", tokens_per_id)
    check_choice("last_block", last_block, LAST_BLOCK)
    rows = Rows(path, NAMES, sort=sort)
    hashed = HashedRows(rows, tokens_per_id, last_block)
    chats, parents = array("q"), array("q")
    for decoded, chunk in rows_of(path, msgspec.json.Decoder(_Request), limit):
        hashed.add(decoded, chunk)
        for column, field in ((chats, "chat_id"), (parents, "parent_chat_id")):
            values = [getattr(row, field) for row in decoded]
            column.frombytes(int_column(values, path, field, chunk.line_number).tobytes())
    links = link_turns(np.frombuffer(chats, np.int64), np.frombuffer(parents, np.int64))
    notes = hashed.notes()
    if links.orphans:
        notes.append(
            f"{links.orphans:,} requests continue a chat whose earlier turn is not in the file; "
            "each begins a session of its own"
        )
    return rows.finish(
        units_per_s=1.0,
        identities=hashed.identities,
        session=links.session,
        parent=links.parent,
        notes=notes,
    )


READER = Reader(
    name="bailian",
    summary="Qwen-Bailian JSONL: seconds, chat links, and a hash id per 16-token block",
    sniff=_sniff,
    read=_read,
    options={
        "tokens_per_id": "tokens that one hash id covers (16)",
        "last_block": "is a partial last block given an id: kept, dropped or either (either)",
        "sort": "order the requests by arrival instead of refusing a disorderly file",
    },
)
