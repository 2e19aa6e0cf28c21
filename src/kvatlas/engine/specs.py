"""KV cache groups by the names vLLM gives them, and the engine's settings.

Owns: what a user may ask of the engine, validated. Leaves to others: turning it into arrays
(`build`) and deriving groups from a model's layers (`layers`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from kvatlas.engine.versions import VLLM_VERSIONS, RuleSet, rules
from kvatlas.errors import InputError
from kvatlas.eviction.registry import policy
from kvatlas.placement.registry import placement_policy
from kvatlas.tiers.registry import SWAPS, WRITE_BACKS, require_policy

_MOST_OF_A_POLICY = 1_000_000
PRESSURE_POLICIES: dict[str, int | float | bool] = {
    "lazy_free_steps": 0,
    "protect_waiting": 0,
    "preallocate_blocks": 0,
    "preallocate_predicted": False,
    "admission_growth": 0.0,
}
"""Settings of the policies for short memory that vLLM does not have, and what is off."""


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


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """The settings of one simulated engine, under vLLM's names; validated on creation.

    Attributes:
        num_blocks: blocks in the pool, the null block included (`num_gpu_blocks`).
        block_size: tokens per block of the default single full-attention group.
        kv_cache_groups: the groups that share the pool; None for one full-attention group.
        hash_block_size: tokens per block hash (`prefix_match_unit`); None for vLLM's default.
        prefix_cache_retention_interval: tokens; 0 keeps only replay boundaries of sliding-window
            and Mamba groups (vLLM's default), None keeps everything.
        watermark: share of the pool that admission keeps free.
        version: whose rules, a key of `versions.VLLM_VERSIONS`.
        eviction_policy: who is evicted, a name of `kvatlas.eviction.POLICIES`; `lru` is vLLM's
            order.
        placement: which free block ids a request gets, a name of `kvatlas.placement.PLACEMENTS`;
            `queue` is vLLM's order.
        forget_uncomputed: under the priority policy, a request that loses its blocks in the step
            that scheduled it takes the keys of what it did not compute along. vLLM 0.32 keeps them
            (False), so that a later request may hit blocks nobody has written.
        host_blocks: blocks of a host tier below the device, 0 for none: what it holds extends a
            prompt's hit, and is brought back.
        host_policy: who leaves the host tier, a name of `kvatlas.tiers.TIER_POLICIES`.
        host_write_back: when blocks are written there: `evict`, when they lose their content;
            `free`, whenever a request gives them back; `preempt`, only when it is preempted.
        swap: `always` brings back what is there; `auto` only what is not computed again sooner;
            `never` nothing for preempted requests, which are computed again as in vLLM.
        host_bandwidth: bytes per second, either direction; 0: moving blocks takes no time.
        host_block_bytes: bytes of a block in all layers; 0 when nobody asked for bytes.
        lazy_free_steps: steps that a finished request keeps its blocks unless somebody needs them;
            this and the rest is not vLLM's, and off by default.
        protect_waiting: of so many waiting requests, the hits are kept from eviction.
        preallocate_blocks: blocks that a decoding request takes ahead while they are free.
        preallocate_predicted: take them up to the predicted end of the output, not beyond.
        admission_growth: share of the blocks by which what runs is predicted to grow that admission
            leaves free, 0 to 1.

    Raises:
        InputError: a value that vLLM would refuse, or that this twin does not model.
    """

    num_blocks: int
    block_size: int = 16
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_model_len: int = 131072
    policy: Literal["fcfs", "priority"] = "fcfs"
    watermark: float = 0.0
    scheduler_reserve_full_isl: bool = True
    long_prefill_token_threshold: int = 0
    enable_prefix_caching: bool = True
    async_scheduling: bool = False
    num_lookahead_tokens: int = 0
    kv_cache_groups: tuple[KVCacheSpec, ...] | None = None
    hash_block_size: int | None = None
    prefix_cache_retention_interval: int | None = 0
    version: str = VLLM_VERSIONS[0]
    eviction_policy: str = "lru"
    placement: str = "queue"
    forget_uncomputed: bool = False
    host_blocks: int = 0
    host_policy: str = "lru"
    host_write_back: Literal["evict", "free", "preempt"] = "evict"
    swap: Literal["auto", "always", "never"] = "auto"
    host_bandwidth: float = 0.0
    host_block_bytes: int = 0
    lazy_free_steps: int = 0
    protect_waiting: int = 0
    preallocate_blocks: int = 0
    preallocate_predicted: bool = False
    admission_growth: float = 0.0

    def __post_init__(self) -> None:
        _at_least(self, 2, "num_blocks", "one block is the null block and holds no tokens")
        for name in ("block_size", "max_num_seqs", "max_num_batched_tokens", "max_model_len"):
            _at_least(self, 1, name)
        for name in ("long_prefill_token_threshold", "num_lookahead_tokens"):
            _at_least(self, 0, name)
        if self.num_blocks >= 2**31 or self.max_model_len >= 2**31:
            raise InputError("num_blocks and max_model_len must be below 2**31", field="num_blocks")
        if self.policy not in ("fcfs", "priority"):
            raise InputError(
                "unknown scheduling policy",
                field="policy",
                value=self.policy,
                remedy="use fcfs or priority",
            )
        if not (math.isfinite(self.watermark) and 0.0 <= self.watermark < 1.0):
            raise InputError(
                "the watermark is a share of the pool",
                field="watermark",
                value=self.watermark,
                remedy="give a number from 0 to below 1",
            )
        rules(self.version)
        policy(self.eviction_policy)
        placement_policy(self.placement, self.eviction_policy)
        self._check_pressure()
        self._check_groups()
        self._check_host_tier()

    @property
    def under_pressure(self) -> bool:
        """Whether any of the policies is on that vLLM does not have for when memory is short."""
        return any(getattr(self, name) != off for name, off in PRESSURE_POLICIES.items())

    @property
    def groups(self) -> tuple[KVCacheSpec, ...]:
        """The groups that share the pool."""
        if self.kv_cache_groups is not None:
            return self.kv_cache_groups
        return (FullAttentionSpec(block_size=self.block_size),)

    @property
    def rule_set(self) -> RuleSet:
        """The version's rules."""
        return rules(self.version)

    @property
    def scheduler_block_size(self) -> int:
        """The LCM of the groups' block sizes: hits are multiples of it."""
        return math.lcm(*(spec.block_size for spec in self.groups))

    @property
    def resolved_hash_block_size(self) -> int:
        """Tokens per block hash: the GCD of the groups' block sizes unless asked otherwise.

        The LCM with caching off, and where a Mamba group is not in `align` mode.
        """
        sizes = [spec.block_size for spec in self.groups]
        if len(sizes) == 1 or not self.enable_prefix_caching or self._has_mamba("none"):
            return self.scheduler_block_size
        return self.hash_block_size or math.gcd(*sizes)

    @property
    def max_in_flight_tokens(self) -> int:
        """Tokens scheduled but not settled: one batch, two with async scheduling."""
        return self.max_num_batched_tokens * (2 if self.async_scheduling else 1)

    @property
    def host_ms_per_block(self) -> float:
        """Milliseconds that a block takes to the host tier or back."""
        if self.host_bandwidth == 0:
            return 0.0
        return self.host_block_bytes / self.host_bandwidth * 1e3

    def with_(self, **changes: Any) -> EngineConfig:
        """Return a copy with `changes`, validated again."""
        return replace(self, **changes)

    def _has_mamba(self, mode: str) -> bool:
        return any(
            isinstance(spec, MambaSpec) and spec.mamba_cache_mode == mode for spec in self.groups
        )

    def _check_host_tier(self) -> None:
        for name in ("host_blocks", "host_bandwidth", "host_block_bytes"):
            _at_least(self, 0, name)
        for name, known in (("host_write_back", WRITE_BACKS), ("swap", SWAPS)):
            value = getattr(self, name)
            if value not in known:
                raise InputError(
                    f"must be one of {', '.join(known)}",
                    field=name,
                    value=value,
                )
        require_policy(self.host_policy)
        if not math.isfinite(self.host_bandwidth):
            raise InputError(
                "must be a number of bytes per second",
                field="host_bandwidth",
                value=self.host_bandwidth,
                remedy="give 0 for no time at all",
            )
        if self.host_bandwidth > 0 and self.host_block_bytes == 0:
            raise InputError(
                "how long a block takes depends on its bytes",
                field="host_bandwidth",
                value=self.host_bandwidth,
                remedy="give host_block_bytes too",
            )
        if self.host_blocks == 0:
            return
        if len(self.groups) != 1 or not isinstance(self.groups[0], FullAttentionSpec):
            raise InputError(
                "a host tier is modelled for one group of full attention",
                field="host_blocks",
                value=self.host_blocks,
                remedy="leave it at 0 for this model",
            )
        if not self.enable_prefix_caching:
            raise InputError(
                "a host tier finds blocks by the keys of the prefix cache",
                field="host_blocks",
                value=self.host_blocks,
                remedy="turn prefix caching on",
            )

    def _check_pressure(self) -> None:
        for name in ("lazy_free_steps", "protect_waiting", "preallocate_blocks"):
            _at_least(self, 0, name)
            if getattr(self, name) > _MOST_OF_A_POLICY:
                raise InputError(
                    "too large to mean anything",
                    field=name,
                    value=getattr(self, name),
                    remedy=f"at most {_MOST_OF_A_POLICY:,}",
                )
        if not (math.isfinite(self.admission_growth) and 0.0 <= self.admission_growth <= 1.0):
            raise InputError(
                "a share of the predicted growth",
                field="admission_growth",
                value=self.admission_growth,
                remedy="give a number from 0 (off) to 1",
            )
        if self.protect_waiting and placement_policy(self.placement, self.eviction_policy).any_free:
            raise InputError(
                "protects by the order of the free queue, which this placement does not look at",
                field="protect_waiting",
                value=self.protect_waiting,
                remedy="use it with a placement that takes empty blocks first",
            )
        if self.protect_waiting and self.eviction_policy != "lru":
            raise InputError(
                "protects by the order of the free queue, which another eviction policy overrules",
                field="protect_waiting",
                value=self.protect_waiting,
                remedy="use it with the eviction policy lru",
            )

    def _check_groups(self) -> None:
        if not self.groups:
            raise InputError("no KV cache group", field="kv_cache_groups", remedy="give at least 1")
        for spec in self.groups:
            if spec.block_size < 1:
                raise InputError(
                    "a group's block size must be at least 1",
                    field="block_size",
                    value=spec.block_size,
                )
            for name in ("sliding_window", "attention_chunk_size"):
                if getattr(spec, name, 1) < 1:
                    raise InputError(
                        "must be at least 1 token", field=name, value=getattr(spec, name)
                    )
        if not self.enable_prefix_caching:
            return
        hash_block, scheduler_block = self.resolved_hash_block_size, self.scheduler_block_size
        if self.hash_block_size is not None:
            _at_least(self, 1, "hash_block_size")
            if len(self.groups) == 1 and self.hash_block_size != hash_block:
                raise InputError(
                    "with a single group, hits land on its block size",
                    field="hash_block_size",
                    value=self.hash_block_size,
                    remedy=f"leave it out or use {hash_block}",
                )
        if any(spec.block_size % hash_block for spec in self.groups):
            raise InputError(
                "every group's block size must be a multiple of the hash block size",
                field="hash_block_size",
                value=hash_block,
                remedy="leave it out or use a common divisor",
            )
        if any(isinstance(spec, CrossAttentionSpec) for spec in self.groups):
            raise InputError(
                "cross attention is not prefix-cached",
                field="enable_prefix_caching",
                value=True,
                remedy="turn prefix caching off, as vLLM does for encoder-decoder models",
            )
        if any(
            isinstance(spec, ChunkedLocalAttentionSpec) and spec.block_size != scheduler_block
            for spec in self.groups
        ):
            raise InputError(
                "chunked local attention needs one block size in all groups",
                field="kv_cache_groups",
                remedy="give every group the same block size",
            )
        if len(self.groups) > 1 and any(
            isinstance(spec, MambaSpec)
            and spec.mamba_cache_mode == "align"
            and spec.block_size > hash_block
            for spec in self.groups
        ):
            raise InputError(
                "hits inside a Mamba block (a smaller hash block) are not modelled",
                field="hash_block_size",
                value=hash_block,
                remedy="give all groups the Mamba group's block size",
            )
        retention = self.prefix_cache_retention_interval
        if retention is not None and (retention < 0 or retention % scheduler_block):
            raise InputError(
                "must be 0 or a multiple of the scheduler block size",
                field="prefix_cache_retention_interval",
                value=retention,
                remedy=f"use a multiple of {scheduler_block}",
            )
        if retention and not any(
            isinstance(spec, SlidingWindowSpec | MambaSpec) for spec in self.groups
        ):
            raise InputError(
                "only sliding-window and Mamba groups cache sparsely",
                field="prefix_cache_retention_interval",
                value=retention,
                remedy="leave it at 0",
            )


def _at_least(config: EngineConfig, least: int, name: str, why: str = "") -> None:
    value = getattr(config, name)
    if value < least:
        raise InputError(f"must be at least {least}", field=name, value=value, remedy=why or None)
