"""Prompts cut into blocks of known content: how many each has, and which identities name them.

Owns: which block sizes fit a trace, and the two errors when one does not. Leaves to others: what a
cache does with the blocks (`kvatlas.measure.curves`, `kvatlas.eviction`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.workload.model import Workload

__all__ = ["PromptBlocks", "prompt_blocks"]


@dataclass(frozen=True, slots=True, eq=False)
class PromptBlocks:
    """Blocks of N prompts.

    Attributes:
        counts: (N,) int64 blocks of each prompt: full ones, or partial ones too.
        ids_per_block: identities that one block spans, 1 unless blocks are larger than identities.
        blocks_per_id: blocks that one identity spans, 1 unless they are smaller.
    """

    counts: NDArray[np.int64]
    ids_per_block: int
    blocks_per_id: int


def prompt_blocks(
    workload: Workload, block_size: int, *, count_partial: bool = False
) -> PromptBlocks:
    """Cut the prompts of a workload whose prefixes are known into blocks of `block_size` tokens.

    O(N). Raises: InputError for a trace of lengths only, or a size that does not fit its
    identities.
    """
    if not workload.prefix_known:
        raise InputError(
            "the trace has lengths only: nobody can say what its requests share",
            value=workload.source,
            remedy="use a trace with hash ids, token ids or texts",
        )
    span = workload.tokens_per_id
    if block_size < 1 or (span % block_size and block_size % span):
        raise InputError(
            f"blocks must divide {span} tokens or be a multiple of it",
            field="block_size",
            value=block_size,
            remedy=f"an identity of {workload.source} covers {span} tokens",
        )
    prompt = workload.prompt_tokens.astype(np.int64)
    counts = -(-prompt // block_size) if count_partial else prompt // block_size
    return PromptBlocks(counts, max(1, block_size // span), max(1, span // block_size))
