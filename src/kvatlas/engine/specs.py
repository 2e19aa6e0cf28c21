"""KV cache groups by the names vLLM gives them.

Owns: the kinds, and what admission counts of each. Leaves to others: deriving groups from a model's
layers (`layers`), which of them go together (`config_rules`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "ChunkedLocalAttentionSpec",
    "CrossAttentionSpec",
    "FullAttentionSpec",
    "KVCacheSpec",
    "MLAAttentionSpec",
    "MambaSpec",
    "SlidingWindowSpec",
]


@dataclass(frozen=True, kw_only=True)
class KVCacheSpec:
    """One kind of KV cache; layers (and groups) with equal specs are looked up together.

    Attributes:
        block_size: tokens per block.
        page_size_bytes: bytes of one block in one layer, 0 when nobody asked for bytes.
        tag: distinguishes specs that differ only in what the engine does not model (head counts).
        padding_bytes: of `page_size_bytes`, those that hold nothing because the page was padded to
            the size of another layer's page.
    """

    block_size: int
    page_size_bytes: int = 0
    tag: str = ""
    padding_bytes: int = 0

    def admission_cap(self, max_in_flight_tokens: int, max_model_len: int) -> int | None:
        """Return the blocks that admission counts at most for one request, None for no cap."""
        del max_in_flight_tokens, max_model_len
        return None


@dataclass(frozen=True, kw_only=True)
class FullAttentionSpec(KVCacheSpec):
    """Every token attends to every earlier one."""


@dataclass(frozen=True, kw_only=True)
class MLAAttentionSpec(FullAttentionSpec):
    """Full attention over one latent vector per token; its page cannot be padded."""


@dataclass(frozen=True, kw_only=True)
class SlidingWindowSpec(KVCacheSpec):
    """A token attends to the last `sliding_window` tokens, itself included."""

    sliding_window: int

    def admission_cap(self, max_in_flight_tokens: int, max_model_len: int) -> int | None:
        """Window and in-flight tokens, plus one block because the window may start inside one."""
        tokens = min(self.sliding_window - 1 + max_in_flight_tokens, max_model_len)
        return -(-tokens // self.block_size) + 1


@dataclass(frozen=True, kw_only=True)
class ChunkedLocalAttentionSpec(KVCacheSpec):
    """A token attends to its own chunk of `attention_chunk_size` tokens."""

    attention_chunk_size: int

    def admission_cap(self, max_in_flight_tokens: int, max_model_len: int) -> int | None:
        """One chunk and the in-flight tokens."""
        tokens = min(self.attention_chunk_size + max_in_flight_tokens, max_model_len)
        return -(-tokens // self.block_size)


@dataclass(frozen=True, kw_only=True)
class MambaSpec(KVCacheSpec):
    """A recurrent state; `align` keeps states at block ends, `none` one state per request."""

    mamba_cache_mode: Literal["none", "align"] = "none"


@dataclass(frozen=True, kw_only=True)
class CrossAttentionSpec(KVCacheSpec):
    """Encoder states, allocated once per request by its encoder tokens; never prefix-cached."""
