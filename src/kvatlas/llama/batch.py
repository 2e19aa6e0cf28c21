"""What one forward pass is about: chunks of requests, and where their tokens' slots lie.

Owns: `PagedChunk`, and turning chunks into index tensors. Leaves to others: who is in the batch
(`engine`), reading and writing the slots (`attention`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvatlas.errors import InputError
from kvatlas.llama.lazy_torch import torch


@dataclass(frozen=True)
class PagedChunk:
    """Tokens of one request to compute now.

    Attributes:
        token_ids: at least one token: a prompt, a part of one, or the last sampled token.
        start: position of the first of them = tokens whose keys and values are in the pool.
        block_ids: the request's block table, long enough for start + len(token_ids) tokens.
    """

    token_ids: Sequence[int]
    start: int
    block_ids: Sequence[int]

    @property
    def end(self) -> int:
        """Tokens in the pool after the pass."""
        return self.start + len(self.token_ids)


@dataclass(frozen=True)
class AttentionGroup:
    """Chunks of equal length, attended to together; B chunks of Q tokens over N blocks.

    Attributes:
        rows: [B, Q] their tokens in the flat batch.
        tables: [B, N] their block tables, filled up with block 0.
        written: [B, S] whether a slot holds one of the request's tokens; S = N * block_size.
        visible: [B, 1, Q, S] whether a token may look at a slot.
    """

    rows: torch.Tensor
    tables: torch.Tensor
    written: torch.Tensor
    visible: torch.Tensor


@dataclass(frozen=True)
class PagedBatch:
    """A flat batch of T tokens.

    Attributes:
        token_ids, positions: [T].
        blocks, slots: [T] the block of each token, and its slot in it.
        last: [chunks] the last token of each chunk.
        groups: the chunks by length: all decodes are one group.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    blocks: torch.Tensor
    slots: torch.Tensor
    last: torch.Tensor
    groups: tuple[AttentionGroup, ...]


def make_batch(chunks: Sequence[PagedChunk], block_size: int, device: torch.device) -> PagedBatch:
    """Lay chunks side by side. O(tokens * slots) for the masks.

    Raises:
        InputError: no chunk, an empty one, or a block table that is too short.
    """
    if not chunks:
        raise InputError("a pass needs at least one chunk", field="chunks", value=[])
    token_ids: list[int] = []
    positions: list[int] = []
    blocks: list[int] = []
    first_rows: list[int] = []
    by_length: dict[int, list[int]] = {}
    for index, chunk in enumerate(chunks):
        _check(chunk, block_size)
        first_rows.append(len(token_ids))
        token_ids.extend(chunk.token_ids)
        span = range(chunk.start, chunk.end)
        positions.extend(span)
        blocks.extend(chunk.block_ids[position // block_size] for position in span)
        by_length.setdefault(len(chunk.token_ids), []).append(index)
    where = torch.tensor(positions, device=device)
    ends = [first + len(chunk.token_ids) for first, chunk in zip(first_rows, chunks, strict=True)]
    return PagedBatch(
        token_ids=torch.tensor(token_ids, device=device),
        positions=where,
        blocks=torch.tensor(blocks, device=device),
        slots=where % block_size,
        last=torch.tensor(ends, device=device) - 1,
        groups=tuple(
            _group([(chunks[i], first_rows[i]) for i in members], block_size, device)
            for members in by_length.values()
        ),
    )


def _group(
    members: list[tuple[PagedChunk, int]], block_size: int, device: torch.device
) -> AttentionGroup:
    length = len(members[0][0].token_ids)
    needed = [-(-chunk.end // block_size) for chunk, _ in members]
    widest = max(needed)
    tables = [
        [*chunk.block_ids[:count], *[0] * (widest - count)]
        for (chunk, _), count in zip(members, needed, strict=True)
    ]
    steps = torch.arange(length, device=device)
    slots = torch.arange(widest * block_size, device=device)
    starts = torch.tensor([chunk.start for chunk, _ in members], device=device)
    positions = starts[:, None] + steps
    return AttentionGroup(
        rows=torch.tensor([first for _, first in members], device=device)[:, None] + steps,
        tables=torch.tensor(tables, device=device),
        written=slots < (starts + length)[:, None],
        visible=(slots <= positions[:, :, None])[:, None],
    )


def _check(chunk: PagedChunk, block_size: int) -> None:
    if not chunk.token_ids or chunk.start < 0:
        raise InputError("a chunk needs a token and a place", field="chunk", value=chunk)
    if len(chunk.block_ids) * block_size < chunk.end:
        raise InputError(
            f"the block table has no slot for token {chunk.end - 1}",
            field="block_ids",
            value=list(chunk.block_ids),
            remedy="allocate_slots comes first",
        )
