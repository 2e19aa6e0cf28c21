"""`Request`: what an embedding engine hands to the manager and the scheduler.

Owns: a request's tokens and the keys of its blocks, and its row in the engine while it has one.
Leaves to others: blocks (`kv_cache_manager`) and turns (`scheduling`).
"""

from __future__ import annotations

from collections.abc import Sequence

from kvatlas.engine.block_hashing import BlockHasher
from kvatlas.errors import InputError


class Request:
    """One request: its prompt, its output so far, and how far it has been computed.

    Args:
        request_id: unique among the live requests.
        prompt_token_ids: the prompt, at least one token.
        max_tokens: output tokens after which it stops.
        stop_token_ids: tokens that end it early.
        priority: smaller is served first under the priority policy.
        cache_salt: separates its cache from other tenants' (or LoRA adapters').
        num_encoder_tokens: encoder tokens, for cross-attention groups.

    Raises:
        InputError: an empty prompt or no output token.
    """

    def __init__(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        max_tokens: int,
        *,
        stop_token_ids: Sequence[int] = (),
        priority: int = 0,
        cache_salt: str = "",
        num_encoder_tokens: int = 0,
    ) -> None:
        if not prompt_token_ids:
            raise InputError("a request needs a prompt", field="prompt_token_ids", value=[])
        if max_tokens < 1:
            raise InputError("must be at least 1", field="max_tokens", value=max_tokens)
        self.request_id = request_id
        self.num_prompt_tokens = len(prompt_token_ids)
        self.max_tokens = max_tokens
        self.stop_token_ids = frozenset(stop_token_ids)
        self.priority = priority
        self.cache_salt = cache_salt
        self.num_encoder_tokens = num_encoder_tokens
        self.all_token_ids = list(prompt_token_ids)
        self.block_keys: list[int] = []
        self.num_computed_tokens = 0
        self.num_preemptions = 0

    @property
    def num_tokens(self) -> int:
        """Prompt and output tokens so far."""
        return len(self.all_token_ids)

    @property
    def output_token_ids(self) -> list[int]:
        """Output tokens so far."""
        return self.all_token_ids[self.num_prompt_tokens :]

    def append_output_token_ids(self, token_ids: int | Sequence[int]) -> None:
        """Append sampled tokens."""
        self.all_token_ids.extend([token_ids] if isinstance(token_ids, int) else token_ids)

    def update_block_keys(self, hasher: BlockHasher) -> list[int]:
        """Hash the blocks that became full since the last call; return their keys."""
        done = len(self.block_keys)
        parent = self.block_keys[-1] if done else hasher.root(self.cache_salt)
        new = hasher.extend(parent, self.all_token_ids[done * hasher.block_size :])
        self.block_keys.extend(new)
        return new
