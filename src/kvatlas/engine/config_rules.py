"""Which values of the engine's settings go together.

Owns: refusing what vLLM would refuse, and what this twin does not model. Leaves to others: the
settings themselves (`config`, `settings`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kvatlas.engine.specs import (
    ChunkedLocalAttentionSpec,
    CrossAttentionSpec,
    FullAttentionSpec,
    MambaSpec,
    SlidingWindowSpec,
)
from kvatlas.engine.versions import rules
from kvatlas.errors import InputError
from kvatlas.eviction.registry import policy
from kvatlas.placement.registry import placement_policy
from kvatlas.tiers.registry import SWAPS, WRITE_BACKS, require_policy

if TYPE_CHECKING:
    from kvatlas.engine.config import EngineConfig

__all__ = ["check_config"]

_MOST_OF_A_POLICY = 1_000_000


def check_config(config: EngineConfig) -> None:
    """Verify every setting. Raises: InputError naming the field."""
    _at_least(config, 2, "num_blocks", "one block is the null block and holds no tokens")
    for name in ("block_size", "max_num_seqs", "max_num_batched_tokens", "max_model_len"):
        _at_least(config, 1, name)
    for name in ("long_prefill_token_threshold", "num_lookahead_tokens"):
        _at_least(config, 0, name)
    if config.num_blocks >= 2**31 or config.max_model_len >= 2**31:
        raise InputError("num_blocks and max_model_len must be below 2**31", field="num_blocks")
    if config.policy not in ("fcfs", "priority"):
        raise InputError(
            "unknown scheduling policy",
            field="policy",
            value=config.policy,
            remedy="use fcfs or priority",
        )
    if not (math.isfinite(config.watermark) and 0.0 <= config.watermark < 1.0):
        raise InputError(
            "the watermark is a share of the pool",
            field="watermark",
            value=config.watermark,
            remedy="give a number from 0 to below 1",
        )
    rules(config.version)
    policy(config.eviction_policy)
    placement_policy(config.placement, config.eviction_policy)
    _check_pressure(config)
    _check_groups(config)
    _check_host_tier(config)


def _check_pressure(config: EngineConfig) -> None:
    for name in ("lazy_free_steps", "protect_waiting", "preallocate_blocks"):
        _at_least(config, 0, name)
        if getattr(config, name) > _MOST_OF_A_POLICY:
            raise InputError(
                "too large to mean anything",
                field=name,
                value=getattr(config, name),
                remedy=f"at most {_MOST_OF_A_POLICY:,}",
            )
    if not (math.isfinite(config.admission_growth) and 0.0 <= config.admission_growth <= 1.0):
        raise InputError(
            "a share of the predicted growth",
            field="admission_growth",
            value=config.admission_growth,
            remedy="give a number from 0 (off) to 1",
        )
    if (
        config.protect_waiting
        and placement_policy(config.placement, config.eviction_policy).any_free
    ):
        raise InputError(
            "protects by the order of the free queue, which this placement does not look at",
            field="protect_waiting",
            value=config.protect_waiting,
            remedy="use it with a placement that takes empty blocks first",
        )
    if config.protect_waiting and config.eviction_policy != "lru":
        raise InputError(
            "protects by the order of the free queue, which another eviction policy overrules",
            field="protect_waiting",
            value=config.protect_waiting,
            remedy="use it with the eviction policy lru",
        )


def _check_groups(config: EngineConfig) -> None:
    if not config.groups:
        raise InputError("no KV cache group", field="kv_cache_groups", remedy="give at least 1")
    for spec in config.groups:
        if spec.block_size < 1:
            raise InputError(
                "a group's block size must be at least 1",
                field="block_size",
                value=spec.block_size,
            )
        for name in ("sliding_window", "attention_chunk_size"):
            if getattr(spec, name, 1) < 1:
                raise InputError("must be at least 1 token", field=name, value=getattr(spec, name))
    if config.enable_prefix_caching:
        _check_caching(config)


def _check_caching(config: EngineConfig) -> None:
    hash_block, scheduler_block = config.resolved_hash_block_size, config.scheduler_block_size
    if config.hash_block_size is not None:
        _at_least(config, 1, "hash_block_size")
        if len(config.groups) == 1 and config.hash_block_size != hash_block:
            raise InputError(
                "with a single group, hits land on its block size",
                field="hash_block_size",
                value=config.hash_block_size,
                remedy=f"leave it out or use {hash_block}",
            )
    if any(spec.block_size % hash_block for spec in config.groups):
        raise InputError(
            "every group's block size must be a multiple of the hash block size",
            field="hash_block_size",
            value=hash_block,
            remedy="leave it out or use a common divisor",
        )
    if any(isinstance(spec, CrossAttentionSpec) for spec in config.groups):
        raise InputError(
            "cross attention is not prefix-cached",
            field="enable_prefix_caching",
            value=True,
            remedy="turn prefix caching off, as vLLM does for encoder-decoder models",
        )
    if any(
        isinstance(spec, ChunkedLocalAttentionSpec) and spec.block_size != scheduler_block
        for spec in config.groups
    ):
        raise InputError(
            "chunked local attention needs one block size in all groups",
            field="kv_cache_groups",
            remedy="give every group the same block size",
        )
    if len(config.groups) > 1 and any(
        isinstance(spec, MambaSpec)
        and spec.mamba_cache_mode == "align"
        and spec.block_size > hash_block
        for spec in config.groups
    ):
        raise InputError(
            "hits inside a Mamba block (a smaller hash block) are not modelled",
            field="hash_block_size",
            value=hash_block,
            remedy="give all groups the Mamba group's block size",
        )
    retention = config.prefix_cache_retention_interval
    if retention is not None and (retention < 0 or retention % scheduler_block):
        raise InputError(
            "must be 0 or a multiple of the scheduler block size",
            field="prefix_cache_retention_interval",
            value=retention,
            remedy=f"use a multiple of {scheduler_block}",
        )
    if retention and not any(
        isinstance(spec, SlidingWindowSpec | MambaSpec) for spec in config.groups
    ):
        raise InputError(
            "only sliding-window and Mamba groups cache sparsely",
            field="prefix_cache_retention_interval",
            value=retention,
            remedy="leave it at 0",
        )


def _check_host_tier(config: EngineConfig) -> None:
    for name in ("host_blocks", "host_bandwidth", "host_block_bytes"):
        _at_least(config, 0, name)
    for name, known in (("host_write_back", WRITE_BACKS), ("swap", SWAPS)):
        value = getattr(config, name)
        if value not in known:
            raise InputError(
                f"must be one of {', '.join(known)}",
                field=name,
                value=value,
            )
    require_policy(config.host_policy)
    if not math.isfinite(config.host_bandwidth):
        raise InputError(
            "must be a number of bytes per second",
            field="host_bandwidth",
            value=config.host_bandwidth,
            remedy="give 0 for no time at all",
        )
    if config.host_bandwidth > 0 and config.host_block_bytes == 0:
        raise InputError(
            "how long a block takes depends on its bytes",
            field="host_bandwidth",
            value=config.host_bandwidth,
            remedy="give host_block_bytes too",
        )
    if config.host_blocks == 0:
        return
    if len(config.groups) != 1 or not isinstance(config.groups[0], FullAttentionSpec):
        raise InputError(
            "a host tier is modelled for one group of full attention",
            field="host_blocks",
            value=config.host_blocks,
            remedy="leave it out for this model",
        )
    if not config.enable_prefix_caching:
        raise InputError(
            "a host tier finds blocks by the keys of the prefix cache",
            field="host_blocks",
            value=config.host_blocks,
            remedy="turn prefix caching on",
        )


def _at_least(config: EngineConfig, least: int, name: str, why: str = "") -> None:
    value = getattr(config, name)
    if value < least:
        raise InputError(f"must be at least {least}", field=name, value=value, remedy=why or None)
