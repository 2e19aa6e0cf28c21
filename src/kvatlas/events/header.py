"""What holds for a whole recording: the pool, the groups, who recorded.

Owns: the header's fields and their limits, as JSON inside a file. Leaves to others: files.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kvatlas.errors import InputError
from kvatlas.events.schema import SCHEMA_VERSION

__all__ = ["MOST_BLOCKS", "MOST_REQUESTS", "Group", "Header"]

MOST_BLOCKS = 1 << 26
"""Blocks of a pool that a file may claim: what is read takes some 40 bytes for each."""
MOST_REQUESTS = 1 << 26
_MOST_TABLE_CELLS = 1 << 30
_MOST_KEYS = 1 << 32
# msgspec lets bytes that are no UTF-8 through as Python's own error.
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """A KV cache group.

    Attributes:
        kind: vLLM's name of its spec, such as FullAttentionSpec.
        block_size: tokens per block.
        window: tokens that attention still reads, None for all.
        slots_hold_tokens: False for recurrent states, whose blocks are not made of slots.
        page_size_bytes: bytes per block, 0 when unknown.
    """

    kind: str
    block_size: int
    window: int | None = None
    slots_hold_tokens: bool = True
    page_size_bytes: int = 0


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """The facts that events rely on.

    Attributes:
        schema: version of the event schema.
        kvatlas: version that wrote it.
        producer: `replay` or `live`.
        engine: whose rules, such as "vLLM 0.32".
        num_blocks: block ids are 0 .. num_blocks - 1.
        has_null: block 0 is vLLM's null block, which nobody owns.
        caching: whether the prefix cache is on.
        groups: the KV cache groups.
        hash_block_size: tokens per key.
        max_num_seqs: requests that may hold blocks at once.
        max_table_blocks: blocks of the longest block table.
        num_requests: request numbers are 0 .. num_requests - 1.
        num_keys: keys are 0 .. num_keys - 1; 0 when they may be any number.
        config, workload: as in the JSON of a replay.
    """

    schema: int
    kvatlas: str
    producer: str
    engine: str
    num_blocks: int
    has_null: bool
    caching: bool
    groups: tuple[Group, ...]
    hash_block_size: int
    max_num_seqs: int
    max_table_blocks: int
    num_requests: int
    num_keys: int = 0
    config: dict[str, Any] = msgspec.field(default_factory=dict)
    workload: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def usable_blocks(self) -> int:
        """Blocks less the null block."""
        return self.num_blocks - int(self.has_null)

    @property
    def slot_groups(self) -> int:
        """In how many groups a computed token fills a slot."""
        return sum(group.slots_hold_tokens for group in self.groups)

    def encode(self) -> bytes:
        """Return the header as JSON."""
        return msgspec.json.encode(self)


def decode_header(data: bytes, file: str) -> Header:
    """Return the header in `data`. Raises: InputError when it is foreign, newer, or absurd."""
    try:
        version = msgspec.json.decode(data, type=_Version).schema
    except _UNREADABLE as error:
        raise InputError("its header is damaged", file=file, field="header") from error
    if version > SCHEMA_VERSION:
        raise InputError(
            "recorded by a newer kvatlas",
            file=file,
            field="schema",
            value=version,
            remedy=f"update kvatlas: this one reads up to schema {SCHEMA_VERSION}",
        )
    try:
        header = msgspec.json.decode(data, type=Header)
    except _UNREADABLE as error:
        raise InputError(f"its header is damaged: {error}", file=file, field="header") from error
    cells = header.max_num_seqs * header.max_table_blocks * len(header.groups)
    for name, value, least, most in (
        ("schema", header.schema, 1, SCHEMA_VERSION),
        ("num_blocks", header.num_blocks, 1 + header.has_null, MOST_BLOCKS),
        ("groups", len(header.groups), 1, 127),
        ("hash_block_size", header.hash_block_size, 1, 1 << 31),
        ("max_num_seqs", header.max_num_seqs, 1, MOST_REQUESTS),
        ("max_table_blocks", header.max_table_blocks, 1, _MOST_TABLE_CELLS),
        ("max_num_seqs * max_table_blocks", cells, 1, _MOST_TABLE_CELLS),
        ("num_requests", header.num_requests, 0, MOST_REQUESTS),
        ("num_keys", header.num_keys, 0, _MOST_KEYS),
        (
            "block_size",
            min(group.block_size for group in header.groups or (_NO_GROUP,)),
            1,
            1 << 31,
        ),
    ):
        if not least <= value <= most:
            raise InputError(
                f"must be {least:,} to {most:,}", file=file, field=name, value=value,
                remedy="the file is damaged or was not written by kvatlas",
            )  # fmt: skip
    return header


_NO_GROUP = Group("none", 1)


class _Version(msgspec.Struct):
    schema: int
