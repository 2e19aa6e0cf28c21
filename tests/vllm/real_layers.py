"""The real vLLM's page unification and layer groups, without a model.

Owns: our layer mixes as vLLM's specs and configs, and its answer in our words. Written for vLLM
0.32.0.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import torch
from vllm.v1.core import kv_cache_utils as utils
from vllm.v1.core.single_type_kv_cache_manager import register_all_kvcache_specs
from vllm.v1.kv_cache_interface import (
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    MambaSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
    UniformTypeKVCacheSpecs,
)
from vllm.v1.kv_cache_layout import KVCacheLayout
from vllm.v1.kv_cache_spec_registry import KVCacheSpecRegistry

from kvatlas.engine import specs as ours

LAYOUT = KVCacheLayout.LBNHC
"""vLLM's default layout: the first that its GPU backends agree on."""


@dataclass(frozen=True)
class Layer:
    """One layer, in terms that both sides are built from."""

    kind: str
    block_size: int
    heads: int = 1
    head_size: int = 64
    element_bytes: int = 2
    tokens: int = 0
    state_bytes: int = 0
    padded_bytes: int | None = None
    mode: str = "none"


_DTYPES = {1: torch.uint8, 2: torch.bfloat16, 4: torch.float32}
_KINDS = {
    FullAttentionSpec: "full",
    MLAAttentionSpec: "mla",
    SlidingWindowSpec: "sliding",
    ChunkedLocalAttentionSpec: "chunked",
    MambaSpec: "mamba",
}


def as_vllm(layer: Layer) -> Any:
    """Return the layer as vLLM's spec."""
    if layer.kind == "mamba":
        return MambaSpec(
            block_size=layer.block_size,
            shapes=((layer.state_bytes // 4, 2),),
            dtypes=(torch.bfloat16,),
            page_size_padded=layer.padded_bytes,
            mamba_cache_mode=layer.mode,
        )
    common = {
        "block_size": layer.block_size,
        "num_kv_heads": layer.heads,
        "head_size": layer.head_size,
        "dtype": _DTYPES[layer.element_bytes],
        "page_size_padded": layer.padded_bytes,
    }
    if layer.kind == "full":
        return FullAttentionSpec(**common)
    if layer.kind == "mla":
        return MLAAttentionSpec(**common)
    if layer.kind == "sliding":
        return SlidingWindowSpec(**common, sliding_window=layer.tokens)
    return ChunkedLocalAttentionSpec(**common, attention_chunk_size=layer.tokens)


def as_ours(layer: Layer) -> ours.KVCacheSpec:
    """Return the layer as our spec."""
    parts = 1 if layer.kind == "mla" else 2
    used = layer.block_size * layer.heads * layer.head_size * layer.element_bytes * parts
    tag = f"{layer.heads}x{layer.head_size}x{layer.element_bytes}"
    if layer.kind == "mamba":
        used, tag = layer.state_bytes, f"state {layer.state_bytes}"
    page = used if layer.padded_bytes is None else layer.padded_bytes
    common: dict[str, Any] = {
        "block_size": layer.block_size,
        "page_size_bytes": page,
        "padding_bytes": page - used,
        "tag": tag,
    }
    if layer.kind == "full":
        return ours.FullAttentionSpec(**common)
    if layer.kind == "mla":
        return ours.MLAAttentionSpec(**common)
    if layer.kind == "sliding":
        return ours.SlidingWindowSpec(**common, sliding_window=layer.tokens)
    if layer.kind == "chunked":
        return ours.ChunkedLocalAttentionSpec(**common, attention_chunk_size=layer.tokens)
    mode: Any = layer.mode
    return ours.MambaSpec(**common, mamba_cache_mode=mode)


def vllm_config(block_size: int = 16, caching: bool = True, unit: int | None = None) -> Any:
    """Return what of a VllmConfig the grouping looks at."""
    cache = SimpleNamespace(
        block_size=block_size,
        enable_prefix_caching=caching,
        prefix_match_unit=unit,
        num_gpu_blocks_override=None,
        prefix_cache_retention_interval=0,
        get_resolved_kv_cache_layout=lambda: LAYOUT,
    )
    return SimpleNamespace(
        cache_config=cache,
        scheduler_config=SimpleNamespace(disable_hybrid_kv_cache_manager=False),
        attention_config=SimpleNamespace(hisparse_config=None),
        parallel_config=SimpleNamespace(decode_context_parallel_size=1),
        speculative_config=None,
        kv_transfer_config=None,
    )


@dataclass(frozen=True)
class Answer:
    """vLLM's groups in our words: names, kind, block size, page, window of each; bytes; blocks."""

    groups: tuple[tuple[tuple[str, ...], str, int, int, int], ...]
    bytes_per_block: int
    num_blocks: int


def real_groups(layers: Mapping[str, Layer], memory_bytes: int) -> tuple[Answer, list[Any]] | str:
    """Return vLLM's groups and its own objects, or how it failed."""
    if not KVCacheSpecRegistry.get_uniform_type_base_spec(as_vllm(next(iter(layers.values())))):
        register_all_kvcache_specs(None)
    config = vllm_config()
    specs = {name: as_vllm(layer) for name, layer in layers.items()}
    try:
        groups = utils.get_kv_cache_groups(config, specs)
    except (NotImplementedError, AssertionError) as error:
        return type(error).__name__
    # Where a pool would hold no block, vLLM's stride arithmetic has nothing to lay out.
    per_block = utils._get_kv_cache_bytes_per_block(groups, LAYOUT)
    built = utils.get_kv_cache_config_from_groups(config, groups, max(memory_bytes, per_block))
    return Answer(tuple(map(_words, groups)), per_block, built.num_blocks), groups


def _words(group: Any) -> tuple[tuple[str, ...], str, int, int, int]:
    return tuple(group.layer_names), *vllm_words(group.kv_cache_spec)


def vllm_words(spec: Any) -> tuple[str, int, int, int]:
    """Return a vLLM spec's kind, block size, page bytes, and window or chunk (else 0)."""
    inner = spec.first_spec if isinstance(spec, UniformTypeKVCacheSpecs) else spec
    kind = _KINDS[type(inner)]
    window = {"sliding": "sliding_window", "chunked": "attention_chunk_size"}.get(kind)
    tokens = getattr(inner, window) if window else 0
    return kind, spec.block_size, spec.page_size_bytes, tokens


def real_block_sizes(groups: list[Any], caching: bool, unit: int | None) -> tuple[int, int] | str:
    """Return vLLM's (scheduler, hash) block sizes for its groups, or how it refused."""
    config = vllm_config(groups[0].kv_cache_spec.block_size, caching, unit)
    try:
        scheduler_block, hash_block = utils.resolve_kv_cache_block_sizes(
            SimpleNamespace(kv_cache_groups=groups), config
        )
    except ValueError:
        return "ValueError"
    return scheduler_block, hash_block


def draw_layers(rng: Random) -> dict[str, Layer]:
    """Draw a model of 1 to 4 kinds of layers, in a random or a repeating order."""
    kinds = [_draw_kind(rng) for _ in range(rng.choice((1, 1, 2, 2, 2, 3, 4)))]
    if rng.random() < 0.5:
        pattern = [kind for kind in kinds for _ in range(rng.randint(1, 5))]
        chosen = [pattern[i % len(pattern)] for i in range(rng.randint(len(pattern), 40))]
    else:
        chosen = [rng.choice(kinds) for _ in range(rng.randint(1, 40))]
    return {f"layers.{index}": layer for index, layer in enumerate(chosen)}


def _draw_kind(rng: Random) -> Layer:
    kind = rng.choice(("full", "full", "sliding", "sliding", "chunked", "mamba", "mamba", "mla"))
    block_size = rng.choice((16, 16, 16, 32, 48, 2096))
    if kind == "mamba":
        state = 4 * rng.choice((1, 100, 1024, 4096, 16384, 533504))
        padded = rng.choice((None, None, None, state + 4096))
        mode = rng.choice(("none", "align"))
        return Layer(kind, block_size, state_bytes=state, padded_bytes=padded, mode=mode)
    heads, head_size = rng.choice((1, 2, 4, 8, 8)), rng.choice((64, 96, 128, 128, 256))
    if kind == "mla":
        heads, head_size = 1, 576
    layer = Layer(
        kind,
        block_size,
        heads,
        head_size,
        rng.choice((1, 2, 2, 2)),
        rng.choice((128, 1024, 4096)) if kind in ("sliding", "chunked") else 0,
    )
    if kind != "mla" and rng.random() < 0.05:
        return replace(layer, padded_bytes=rng.choice((2, 3)) * as_vllm(layer).page_size_bytes)
    return layer
