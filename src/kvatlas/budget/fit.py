"""What the memory for the KV cache holds: blocks, tokens, requests of a length.

Owns: vLLM's admission arithmetic over the groups of a pool. Leaves to others: groups and pages
(`kvatlas.model`, `kvatlas.engine.layers`), how much memory there is (`waterfall`).

Source: vllm/v1/core/kv_cache_utils.py (`get_kv_cache_capacity`, `_check_enough_kv_cache_memory`),
v1/kv_cache_interface.py (`max_memory_usage_bytes`); 0.32.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvatlas.engine.layers import LayerGroup
from kvatlas.engine.specs import KVCacheSpec, MambaSpec

__all__ = ["GroupFacts", "Pool", "group_facts", "stage_block_bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFacts:
    """One KV cache group, as one rank holds it (all stages together).

    Attributes:
        kind: of its layers: full, sliding, chunked, mla, recurrent.
        layers: how many.
        block_size: tokens per block.
        window_tokens: window or chunk, 0 for none.
        used_bytes: of a block, that can hold KV or state.
        padding_bytes: of a block, that hold nothing.
        token_bytes: what one more token adds; 0 for a state of fixed size.
    """

    kind: str
    layers: int
    block_size: int
    window_tokens: int
    used_bytes: int
    padding_bytes: int
    token_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Blocks that all groups draw from.

    Attributes:
        num_blocks: in the pool, vLLM's null block included; 0 where there is no memory.
        groups: the specs that share it.
        in_flight_tokens: tokens scheduled and not yet settled (`max_in_flight_tokens`).
    """

    num_blocks: int
    groups: tuple[KVCacheSpec, ...]
    in_flight_tokens: int

    def blocks_per_request(self, tokens: int) -> int:
        """Return the most blocks that a request of `tokens` holds at once. O(groups)."""
        return sum(self._blocks(spec, tokens) for spec in self.groups)

    def concurrency(self, tokens: int) -> float:
        """Return vLLM's "maximum concurrency": blocks over those of one such request."""
        needed = self.blocks_per_request(tokens)
        return self.num_blocks / needed if needed else float("inf")

    def requests(self, tokens: int) -> int:
        """Return how many such requests have room at the same time; the null block has none."""
        needed = self.blocks_per_request(tokens)
        return max(0, self.num_blocks - 1) // needed if needed else 0

    def capacity_tokens(self, max_model_len: int) -> int:
        """Return vLLM's "KV cache size": what requests of the longest length hold together."""
        return int(self.concurrency(max_model_len) * max_model_len)

    def longest(self, most: int) -> int:
        """Return the longest request that has room alone, up to `most`; 0 for none. O(log most)."""
        if self.requests(1) < 1:
            return 0
        shortest, longest = 1, most
        while shortest < longest:
            middle = (shortest + longest + 1) // 2
            if self.requests(middle) >= 1:
                shortest = middle
            else:
                longest = middle - 1
        return shortest

    def _blocks(self, spec: KVCacheSpec, tokens: int) -> int:
        if isinstance(spec, MambaSpec):
            # A running state and the one being written; without a prefix cache the first alone.
            return 2 if spec.mamba_cache_mode == "align" else 1
        capped = spec.admission_cap(self.in_flight_tokens, tokens)
        return -(-tokens // spec.block_size) if capped is None else capped


def group_facts(
    groups: Sequence[LayerGroup], padding: Sequence[int], kinds: Sequence[str]
) -> tuple[GroupFacts, ...]:
    """Return the groups in plain figures; `padding` and `kinds` per group."""
    found = []
    for group, waste, kind in zip(groups, padding, kinds, strict=True):
        spec = group.spec
        window = getattr(spec, "sliding_window", 0) or getattr(spec, "attention_chunk_size", 0)
        used = group.used_bytes_per_block
        found.append(
            GroupFacts(
                kind=kind,
                layers=len(group.layer_names),
                block_size=spec.block_size,
                window_tokens=window,
                used_bytes=used,
                padding_bytes=waste,
                token_bytes=0 if isinstance(spec, MambaSpec) else used // spec.block_size,
            )
        )
    return tuple(found)


def stage_block_bytes(groups: Sequence[LayerGroup], first: int, end: int) -> int:
    """Return the bytes of one block in the layers `first` to `end`: the widest group's there."""
    widest = 0
    for group in groups:
        size = sum(
            spec.page_size_bytes
            for name, spec in zip(group.layer_names, group.layer_specs, strict=True)
            if first <= int(name.removeprefix("layers.")) < end
        )
        widest = max(widest, size)
    return widest
