"""From a tree of text segments to prefix-chained identities, directly.

Every generator describes its prompts as paths in a tree: a segment is a stretch of tokens that
follows its parent segment (a system prompt, a turn, a document) and a prompt ends where a segment
ends. This module owns the step from that tree to the ids of a `Workload`.

Why the ids are right by construction. Segments hold fresh text, so a token's whole prefix is known
from its segment and its place in it. A block is therefore known, prefix and all, by the segment in
which its last token lies and its number: two blocks are equal if and only if these agree. A full
block inside a segment gets one id, whoever passes through; a prompt that stops inside a block gets
one more id for that partial block, shared by the prompts that end with the same segment only (it
covers fewer tokens than the full block that another prompt may hold in its place).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InvariantError
from kvatlas.workload.model import id_counts

__all__ = ["identify"]

_INT32_LIMIT = 2**31 - 2


def identify(
    parent: NDArray[np.int64],
    tokens: NDArray[np.int64],
    leaf: NDArray[np.int64],
    tokens_per_id: int,
) -> tuple[NDArray[np.int32] | NDArray[np.int64], NDArray[np.int64], int, NDArray[np.int64]]:
    """Return `(ids, id_offsets, num_ids, covered_tokens)` of N prompts in a tree of G segments.

    `parent` (G,) is each segment's parent, -1 for a root, always an earlier segment; `tokens` (G,)
    >= 1 its length; `leaf` (N,) the segment with which each prompt ends. `covered_tokens` (N,) is
    the length of each prompt. Ids are dense and numbered by first appearance, exactly as
    `chain_ids` would number them. O(G + M) for M ids.

    Raises: InvariantError for a segment without tokens or before its parent.
    """
    from kvatlas.workload.generators._segments_kernel import end_tokens, name_blocks

    segments = parent.size
    if segments and (tokens.min() < 1 or (parent >= np.arange(segments)).any()):
        raise InvariantError("segments: each needs tokens and an earlier parent")
    ends = np.empty(segments, dtype=np.int64)
    end_tokens(parent, tokens, ends)
    full_blocks = ends // tokens_per_id - (ends - tokens) // tokens_per_id
    covered = ends[leaf]
    offsets = np.zeros(leaf.size + 1, dtype=np.int64)
    np.cumsum(id_counts(covered, tokens_per_id), out=offsets[1:])
    most_ids = int(full_blocks.sum()) + segments
    ids = np.empty(offsets[-1], dtype=np.int32 if most_ids < _INT32_LIMIT else np.int64)
    num_ids = name_blocks(
        parent,
        full_blocks,
        ends % tokens_per_id != 0,
        leaf,
        offsets,
        np.full(segments, -1, dtype=np.int64),
        np.full(segments, -1, dtype=np.int64),
        np.empty(segments, dtype=np.int64),
        ids,
    )
    return ids, offsets, int(num_ids), covered
