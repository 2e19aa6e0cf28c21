"""A model's layers as the pages that vLLM gives them, on one rank.

Owns: page sizes, tensor parallelism, cache dtypes, and the block size that hybrid models force.
Leaves to others: grouping the layers (`kvatlas.engine.layers`).

Source: vllm/v1/kv_cache_interface.py; vllm/platforms/interface.py (`_align_hybrid_block_size`);
vllm/model_executor/models/config.py (`MambaModelConfig`); 0.32.0.
"""

from __future__ import annotations

from kvatlas.engine.specs import (
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    KVCacheSpec,
    MambaSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
)
from kvatlas.errors import InputError
from kvatlas.model.facts import LayerFacts, ModelFacts

__all__ = ["KV_DTYPES", "attention_block_size", "bytes_per_token", "kv_layers"]

KV_DTYPES = {
    "auto": 2,
    "float16": 2,
    "bfloat16": 2,
    "fp8": 1,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
    "fp8_inc": 1,
}
"""Bytes per element of each `--kv-cache-dtype` that is modelled.

`auto` is the model's dtype, which vLLM brings to 16 bits whatever the checkpoint holds.
"""

_KERNEL_BLOCK_TOKENS = 16


def kv_layers(
    facts: ModelFacts,
    block_size: int,
    kv_dtype: str = "auto",
    *,
    tp: int = 1,
    enable_prefix_caching: bool = True,
    max_model_len: int | None = None,
    kernel_block_tokens: int = _KERNEL_BLOCK_TOKENS,
) -> dict[str, KVCacheSpec]:
    """Return one spec per layer that keeps something, as one rank holds it, in the model's order.

    Args:
        facts: the model.
        block_size: tokens per block that the user asked for; hybrid models may raise it
            (`attention_block_size`).
        kv_dtype: a key of `KV_DTYPES`.
        tp: tensor-parallel ranks. Key-value heads are divided, and replicated where there are
            fewer heads than ranks; an MLA vector is kept whole on every rank.
        enable_prefix_caching: recurrent layers then keep a state per block (`align`).
        max_model_len: tokens; without prefix caching a recurrent layer's one block spans them.
        kernel_block_tokens: the attention kernel's unit: 16 for vLLM's GPU backends other than
            fixed-size MLA kernels, 32 for its CPU backend. Only hybrid models depend on it.

    Raises:
        InputError: an unknown dtype, or ranks that cannot share the heads.
    """
    _check(facts, block_size, tp)
    element_bytes = _element_bytes(facts, kv_dtype)
    block_size = attention_block_size(
        facts, block_size, kv_dtype, tp=tp, kernel_block_tokens=kernel_block_tokens
    )
    tokens = max_model_len or facts.max_model_len or block_size
    state_bytes = facts.recurrent.page_bytes(tp) if facts.recurrent else 0
    # A state's page is padded to the attention layers' page, where there is one.
    attention_page = max(
        (
            _token_bytes(layer, element_bytes, tp) * block_size
            for layer in facts.layers
            if layer.kind != "recurrent"
        ),
        default=state_bytes,
    )
    specs: dict[str, KVCacheSpec] = {}
    for layer in facts.layers:
        if layer.kind == "recurrent":
            specs[f"layers.{layer.index}"] = MambaSpec(
                block_size=block_size if enable_prefix_caching else tokens,
                page_size_bytes=attention_page,
                padding_bytes=attention_page - state_bytes,
                tag="state",
                mamba_cache_mode="align" if enable_prefix_caching else "none",
            )
            continue
        page = _token_bytes(layer, element_bytes, tp) * block_size
        specs[f"layers.{layer.index}"] = _attention_spec(layer, block_size, page)
    return specs


def attention_block_size(
    facts: ModelFacts,
    block_size: int,
    kv_dtype: str = "auto",
    *,
    tp: int = 1,
    kernel_block_tokens: int = _KERNEL_BLOCK_TOKENS,
) -> int:
    """Return the tokens per block that vLLM uses where `block_size` was asked for.

    In a hybrid model an attention page must be at least as large as a recurrent state, so the
    block grows, in steps of the larger of `block_size` and the kernel's unit.
    """
    attention = [layer for layer in facts.layers if layer.kind != "recurrent"]
    if facts.recurrent is None or not attention:
        return block_size
    token_bytes = _token_bytes(attention[0], _element_bytes(facts, kv_dtype), tp)
    step = max(block_size, kernel_block_tokens)
    needed = step * -(-facts.recurrent.page_bytes(tp) // (step * token_bytes))
    needed = kernel_block_tokens * -(-needed // kernel_block_tokens)
    return max(block_size, needed)


def bytes_per_token(facts: ModelFacts, kv_dtype: str = "auto", *, tp: int = 1) -> int:
    """Return the bytes that one more token takes on one rank while every layer still keeps it.

    Sliding and chunked layers stop growing at their window; recurrent layers do not grow at all.
    """
    _check(facts, 1, tp)
    element_bytes = _element_bytes(facts, kv_dtype)
    return sum(_token_bytes(layer, element_bytes, tp) for layer in facts.layers)


def _token_bytes(layer: LayerFacts, element_bytes: int, tp: int) -> int:
    if layer.kind == "recurrent":
        return 0
    heads = 1 if layer.kind == "mla" else max(1, layer.kv_heads // tp)
    return heads * layer.elements_per_head * element_bytes


def _attention_spec(layer: LayerFacts, block_size: int, page: int) -> KVCacheSpec:
    tag = f"{layer.kv_heads}x{layer.head_size}"
    match layer.kind:
        case "mla":
            return MLAAttentionSpec(block_size=block_size, page_size_bytes=page, tag=tag)
        case "sliding":
            return SlidingWindowSpec(
                block_size=block_size,
                page_size_bytes=page,
                tag=tag,
                sliding_window=layer.window_tokens,
            )
        case "chunked":
            return ChunkedLocalAttentionSpec(
                block_size=block_size,
                page_size_bytes=page,
                tag=tag,
                attention_chunk_size=layer.window_tokens,
            )
    return FullAttentionSpec(block_size=block_size, page_size_bytes=page, tag=tag)


def _element_bytes(facts: ModelFacts, kv_dtype: str) -> int:
    name = facts.default_kv_dtype if kv_dtype == "auto" else kv_dtype
    if name not in KV_DTYPES:
        raise InputError(
            "this KV cache dtype is not modelled",
            field="kv_dtype",
            value=name,
            remedy=f"use one of {', '.join(KV_DTYPES)}",
        )
    return KV_DTYPES[name]


def _check(facts: ModelFacts, block_size: int, tp: int) -> None:
    if block_size < 1:
        raise InputError("must be at least 1", field="block_size", value=block_size)
    if tp < 1 or facts.num_attention_heads % tp:
        raise InputError(
            "the attention heads cannot be divided over the ranks",
            field="tp",
            value=tp,
            remedy=f"use a divisor of {facts.num_attention_heads}",
        )
    for layer in facts.layers:
        many, few = max(layer.kv_heads, tp), min(layer.kv_heads, tp)
        if layer.kind not in ("mla", "recurrent") and many % few:
            raise InputError(
                "the key-value heads cannot be divided over the ranks",
                field="tp",
                value=tp,
                remedy=f"there are {layer.kv_heads} key-value heads",
            )
