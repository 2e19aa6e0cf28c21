"""A sequence as nano-vLLM's block manager sees it: tokens, lengths, a block table.

Owns: `Sequence` and the protocol that any engine's own class meets. Leaves to others: what is done
with it (`block_manager`). Mirrors the public names of nanovllm/engine/sequence.py (see `config`).
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Ordered
from typing import Protocol

from kvatlas.errors import InputError


class SequenceLike(Protocol):
    """What `BlockManager` reads and writes; nano-vLLM's own Sequence has it all.

    Attributes:
        num_tokens: prompt and sampled tokens so far.
        num_cached_tokens: tokens whose KV is in the blocks, set at `allocate` and `deallocate`.
        num_scheduled_tokens: tokens that this step computes, read by `hash_blocks`.
        block_table: block ids; changed in place only.
    """

    num_tokens: int
    num_cached_tokens: int
    num_scheduled_tokens: int
    block_table: list[int]

    def block(self, i: int, /) -> Ordered[int]:
        """Return the content of block `i`: its tokens, or its identity."""


class Sequence:
    """A prompt and what is sampled after it, by token ids or by block identities.

    Args:
        token_ids: the prompt's tokens, at least one.
        block_size: tokens per block; must be the block manager's.
    """

    def __init__(self, token_ids: Iterable[int], *, block_size: int = 256) -> None:
        self.block_size = block_size
        self.token_ids: list[int] = list(token_ids)
        self.num_tokens = self.num_prompt_tokens = len(self.token_ids)
        self.num_cached_tokens = 0
        self.num_scheduled_tokens = 0
        self.block_table: list[int] = []
        self._identities: list[int] | None = None
        if self.num_tokens == 0:
            raise InputError("a sequence needs at least one token", field="token_ids")

    @classmethod
    def from_identities(
        cls, identities: Iterable[int], num_tokens: int, *, block_size: int = 256
    ) -> Sequence:
        """Return a sequence of `num_tokens` tokens that are known by one identity per full block.

        Two blocks hold the same tokens exactly when their identities are equal; they need not be
        chained. A block that fills up later needs its identity by then: see `append_identity`.
        """
        sequence = cls([0], block_size=block_size)
        sequence.token_ids = []
        sequence.num_tokens = sequence.num_prompt_tokens = num_tokens
        sequence._identities = list(identities)
        full_blocks = num_tokens // block_size
        if len(sequence._identities) < full_blocks or num_tokens < 1:
            raise InputError(
                f"{num_tokens} tokens need {full_blocks} identities, and 1 token at least",
                field="identities",
                value=len(sequence._identities),
            )
        return sequence

    def __len__(self) -> int:
        return self.num_tokens

    @property
    def num_blocks(self) -> int:
        """Blocks that hold all tokens."""
        return -(-self.num_tokens // self.block_size)

    def block(self, i: int) -> Ordered[int]:
        """Return the content of block `i`: its tokens, or its identity; O(block_size).

        Raises:
            InputError: a full block whose identity was never given.
        """
        if self._identities is None:
            return self.token_ids[i * self.block_size : (i + 1) * self.block_size]
        if i >= len(self._identities):
            raise InputError("the block has no identity", field="block", value=i)
        return (self._identities[i],)

    def append_token(self, token_id: int) -> None:
        """Append a sampled token; a sequence of identities only counts it. O(1)."""
        if self._identities is None:
            self.token_ids.append(token_id)
        self.num_tokens += 1

    def append_identity(self, identity: int) -> None:
        """Name the next block of a sequence known by identities; O(1).

        Raises:
            InputError: the sequence has tokens.
        """
        if self._identities is None:
            raise InputError("the sequence is known by its tokens", field="identity")
        self._identities.append(identity)
