"""What holds for a whole recording, read from vLLM's objects: the header, as JSON.

Owns: which settings are read, by the names that a replay's recording uses for them. Leaves to
others: what readers make of it (`kvatlas.events`, `kvatlas.plan`).
"""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["SCHEMA", "header_facts"]

SCHEMA = 1
"""Of the events that this recording is read as."""

_STATES = ("MambaSpec", "CrossAttentionSpec")


def header_facts(
    scheduler: Any, started_unix_s: float, sample: float, most_bytes: int
) -> dict[str, Any]:
    """Return the header of a scheduler's recording, numbers of requests and keys left open."""
    import vllm

    settings, cache = scheduler.vllm_config, scheduler.kv_cache_config
    manager = scheduler.kv_cache_manager
    groups = [_group(group) for group in cache.kv_cache_groups]
    sizes = [group["block_size"] for group in groups]
    longest = max((-(-scheduler.max_model_len // size) for size in sizes), default=1)
    engine_version = ".".join(vllm.__version__.split(".")[:2])
    return {
        "schema": SCHEMA,
        "kvatlas": _own_version(),
        "producer": "live",
        "engine": f"vLLM {engine_version}",
        "num_blocks": cache.num_blocks,
        "has_null": True,
        "caching": bool(manager.enable_caching),
        "groups": [
            {
                "kind": group["kind"],
                "block_size": group["block_size"],
                "window": group.get("sliding_window", group.get("attention_chunk_size")),
                "slots_hold_tokens": group["kind"] not in _STATES,
                "page_size_bytes": group["page_size_bytes"] or 0,
            }
            for group in groups
        ],
        "hash_block_size": manager.block_pool.hash_block_size,
        "max_num_seqs": scheduler.max_num_running_reqs,
        # A few blocks of lookahead may stand behind the longest request.
        "max_table_blocks": longest + 8,
        "num_requests": 0,
        "num_keys": 0,
        "config": _config(scheduler, groups, engine_version),
        "workload": {"name": "recorded", "source": "a live vLLM", "notes": []},
        "live": _live_facts(scheduler, settings, started_unix_s)
        | {"sample": sample, "most_bytes": most_bytes},
    }


def _config(scheduler: Any, groups: list[dict[str, Any]], engine_version: str) -> dict[str, Any]:
    """Return the settings by the keys of a replay's JSON."""
    scheduling, cache = scheduler.scheduler_config, scheduler.kv_cache_config
    pages = [group["page_size_bytes"] for group in groups if group["page_size_bytes"]]
    layers = [len(group.layer_names) for group in cache.kv_cache_groups]
    return {
        "engine": "vllm",
        "engine_version": engine_version,
        "num_blocks": cache.num_blocks,
        "usable_blocks": cache.num_blocks - 1,
        "blocks_from": "live",
        "model": None,
        "kv_memory_bytes": None,
        "bytes_per_block": max(pages) * max(layers) if pages and layers else None,
        "bytes_per_token": None,
        "block_size": scheduler.block_size,
        "block_sizes": [group["block_size"] for group in groups],
        "kv_cache_groups": groups,
        "hash_block_size": scheduler.kv_cache_manager.block_pool.hash_block_size,
        "prefix_cache_retention_interval": cache.prefix_cache_retention_interval,
        "max_num_seqs": scheduler.max_num_running_reqs,
        "max_num_batched_tokens": scheduler.max_num_scheduled_tokens,
        "max_model_len": scheduler.max_model_len,
        "policy": str(getattr(scheduler.policy, "value", scheduler.policy)),
        "watermark": scheduling.watermark,
        "reserve_full_isl": bool(scheduler.scheduler_reserve_full_isl),
        "long_prefill_token_threshold": scheduling.long_prefill_token_threshold,
        "prefix_caching": bool(scheduler.kv_cache_manager.enable_caching),
        "eviction_policy": "lru",
        "placement": "queue",
        "async_scheduling": bool(scheduling.async_scheduling),
        "arrivals": "timed",
        "queue_depth": 256,
        "step_time_model": "recorded",
        "step_ms_base": 8.0,
        "step_ms_per_ktok": 12.0,
        "block_like_vllm": True,
    }


def _group(group: Any) -> dict[str, Any]:
    spec = group.kv_cache_spec
    inner = getattr(spec, "kv_cache_specs", None)
    if inner:
        # Layers of one type with pages of several sizes: what holds for one holds for all.
        spec = next(iter(inner.values()))
    said: dict[str, Any] = {
        "kind": type(spec).__name__,
        "block_size": group.kv_cache_spec.block_size,
        "page_size_bytes": getattr(group.kv_cache_spec, "page_size_bytes", None),
        "tag": "",
        "padding_bytes": None,
    }
    for name in ("sliding_window", "attention_chunk_size", "mamba_cache_mode"):
        value = getattr(spec, name, None)
        if value is not None:
            said[name] = value
    return said


def _live_facts(scheduler: Any, settings: Any, started_unix_s: float) -> dict[str, Any]:
    import vllm
    from vllm.v1.request import RequestStatus

    coordinator = scheduler.kv_cache_manager.coordinator
    unmodelled = [
        what
        for what, there in (
            ("KV connector", scheduler.connector is not None),
            ("speculative decoding", scheduler.num_lookahead_tokens > 0),
            ("encoder-decoder model", scheduler.is_encoder_decoder),
            ("decode context parallelism", scheduler.dcp_world_size > 1),
            ("partial prefix hits", coordinator.enable_partial_hash_hits),
        )
        if there
    ]
    model = getattr(settings.model_config, "served_model_name", None)
    return {
        "vllm": vllm.__version__,
        "python": platform.python_version(),
        "pid": os.getpid(),
        "host": platform.node(),
        "started_unix_s": started_unix_s,
        "clock": "CLOCK_MONOTONIC, ms since the engine's start",
        "scheduler": type(scheduler).__name__,
        "data_parallel_rank": settings.parallel_config.data_parallel_index,
        "model": str(model) if model is not None else None,
        "statuses": {status.name: int(status) for status in RequestStatus},
        "unmodelled": unmodelled,
    }


def _own_version() -> str:
    try:
        return version("kvatlas")
    except PackageNotFoundError:
        return "unknown"
