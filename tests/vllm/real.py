"""The real vLLM, built from our settings: its Scheduler or its KVCacheManager, without a model.

Owns: what each of our settings is called in vLLM, and our specs as its specs. Leaves to others:
requests (`real_requests`), stepping (`steps`) and drawing settings (`cases`).

Written for vLLM 0.32.0. Nothing of vLLM is replaced: the classes are its own, only the model, the
sampler and the clock are ours.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # vllm reads the environment when it is imported
from vllm.config import CacheConfig, DeviceConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.core.single_type_kv_cache_manager import register_all_kvcache_specs
from vllm.v1.kv_cache_interface import (
    ChunkedLocalAttentionSpec,
    CrossAttentionSpec,
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    MambaSpec,
    SlidingWindowSpec,
)
from vllm.v1.structured_output import StructuredOutputManager

from kvatlas.engine import EngineConfig
from kvatlas.engine import specs as ours

_MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "vocab_size": 32000,
    "max_position_embeddings": 262144,
    "torch_dtype": "bfloat16",
}


@functools.cache
def _vllm_config() -> tuple[Any, Any]:
    """Return one VllmConfig and its structured-output manager; settings are written into it."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-llama-"))
    (folder / "config.json").write_text(json.dumps(_MODEL), encoding="utf-8")
    config = VllmConfig(
        model_config=ModelConfig(
            model=str(folder),
            skip_tokenizer_init=True,
            dtype="bfloat16",
            seed=0,
            max_model_len=131072,
            enforce_eager=True,
        ),
        scheduler_config=SchedulerConfig(
            max_num_seqs=256,
            max_num_batched_tokens=8192,
            max_model_len=131072,
            enable_chunked_prefill=True,
            is_encoder_decoder=False,
        ),
        cache_config=CacheConfig(block_size=16, gpu_memory_utilization=0.9, cache_dtype="auto"),
        device_config=DeviceConfig("cpu"),
    )
    register_all_kvcache_specs(config)
    return config, StructuredOutputManager(config)


def configured(config: EngineConfig) -> Any:
    """Write our settings into the one VllmConfig and return it."""
    vllm_config, _ = _vllm_config()
    vllm_config.model_config.max_model_len = config.max_model_len
    scheduler = vllm_config.scheduler_config
    scheduler.max_num_seqs = config.max_num_seqs
    scheduler.max_num_batched_tokens = config.max_num_batched_tokens
    scheduler.max_num_scheduled_tokens = config.max_num_batched_tokens
    scheduler.max_model_len = config.max_model_len
    scheduler.async_scheduling = config.async_scheduling
    scheduler.policy = config.policy
    scheduler.watermark = config.watermark
    scheduler.scheduler_reserve_full_isl = config.scheduler_reserve_full_isl
    scheduler.long_prefill_token_threshold = config.long_prefill_token_threshold
    mamba = [spec for spec in config.groups if isinstance(spec, ours.MambaSpec)]
    cache = vllm_config.cache_config
    # The block size that _mamba_block_aligned_split ends prefill chunks on.
    cache.block_size = mamba[0].block_size if mamba else config.groups[0].block_size
    cache.num_gpu_blocks = config.num_blocks
    cache.enable_prefix_caching = config.enable_prefix_caching
    cache.mamba_cache_mode = mamba[0].mamba_cache_mode if mamba else "none"
    cache.prefix_match_unit = config.hash_block_size
    return vllm_config


def real_spec(spec: ours.KVCacheSpec, tags: list[str]) -> Any:
    """Return vLLM's spec; a tag becomes a head count (attention) or a state shape (Mamba)."""
    if spec.tag not in tags:
        tags.append(spec.tag)
    heads = tags.index(spec.tag) + 1
    if isinstance(spec, ours.MambaSpec):
        return MambaSpec(
            block_size=spec.block_size,
            shapes=((heads,),),
            dtypes=(torch.float32,),
            mamba_cache_mode=spec.mamba_cache_mode,
        )
    shape: dict[str, Any] = {
        "block_size": spec.block_size,
        "num_kv_heads": heads,
        "head_size": 1,
        "dtype": torch.float32,
    }
    match spec:
        case ours.SlidingWindowSpec(sliding_window=tokens):
            return SlidingWindowSpec(sliding_window=tokens, **shape)
        case ours.ChunkedLocalAttentionSpec(attention_chunk_size=tokens):
            return ChunkedLocalAttentionSpec(attention_chunk_size=tokens, **shape)
        case ours.CrossAttentionSpec():
            return CrossAttentionSpec(**shape)
    return FullAttentionSpec(**shape)


def real_kv_cache_config(config: EngineConfig) -> Any:
    """Return vLLM's KVCacheConfig with our groups and retention."""
    tags = [""]
    return KVCacheConfig(
        num_blocks=config.num_blocks,
        kv_cache_tensors=[],
        kv_cache_groups=[
            KVCacheGroupSpec([f"layer{i}"], real_spec(spec, tags))
            for i, spec in enumerate(config.groups)
        ],
        prefix_cache_retention_interval=config.prefix_cache_retention_interval,
    )


def real_scheduler(config: EngineConfig) -> Any:
    """Return a fresh Scheduler, or AsyncScheduler, of the real vLLM."""
    vllm_config = configured(config)
    scheduler = (AsyncScheduler if config.async_scheduling else Scheduler)(
        vllm_config=vllm_config,
        kv_cache_config=real_kv_cache_config(config),
        structured_output_manager=_vllm_config()[1],
        block_size=config.scheduler_block_size,
        hash_block_size=config.resolved_hash_block_size,
        log_stats=True,
    )
    assert scheduler.max_num_scheduled_tokens == config.max_num_batched_tokens
    assert scheduler.max_num_running_reqs == config.max_num_seqs
    return scheduler


def real_manager(config: EngineConfig) -> Any:
    """Return a fresh KVCacheManager of the real vLLM."""
    return KVCacheManager(
        real_kv_cache_config(config),
        max_model_len=config.max_model_len,
        scheduler_block_size=config.scheduler_block_size,
        hash_block_size=config.resolved_hash_block_size,
        max_in_flight_tokens=configured(config).max_in_flight_tokens,
        enable_caching=config.enable_prefix_caching,
        log_stats=True,
        watermark=config.watermark,
    )
