"""Well-known models, so that a name is enough.

Owns: the fields of public config.json files that decide the KV layout. Leaves to others: those
that decide the weights (`catalogue_weights`), what they mean (`layout`). A name stands for its
whole family of checkpoints (base, instruct), which share these fields.

Sources: each entry's `source` is the Hugging Face repository whose config.json holds the fields;
they were checked against copies of those files, against the transformers classes (whose defaults
fill in what the files omit), and, as layers, against real vLLM (tests/vllm). Gemma 3 was checked
against the variants in transformers' convert_gemma3_weights.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvatlas.model.catalogue_weights import CATALOGUE_WEIGHTS
from kvatlas.model.config_json import Config, as_config

__all__ = ["CATALOGUE", "catalogue_config", "catalogue_names"]


def _model(
    source: str, model_type: str, layers: int, hidden: int, heads: int, kv_heads: int, **more: Any
) -> dict[str, Any]:
    return {
        "source": source,
        "model_type": model_type,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        **more,
    }


def _llama_31(source: str, layers: int, hidden: int, heads: int) -> dict[str, Any]:
    return _model(source, "llama", layers, hidden, heads, 8, max_position_embeddings=131072)


def _llama_2(source: str, layers: int, hidden: int, heads: int, kv_heads: int) -> dict[str, Any]:
    return _model(source, "llama", layers, hidden, heads, kv_heads, max_position_embeddings=4096)


def _llama_32(source: str, layers: int, hidden: int, heads: int, head_dim: int) -> dict[str, Any]:
    return {**_llama_31(source, layers, hidden, heads), "head_dim": head_dim}


def _gemma_2(source: str, layers: int, hidden: int, heads: int, head_dim: int) -> dict[str, Any]:
    return _model(
        source,
        "gemma2",
        layers,
        hidden,
        heads,
        heads // 2,
        head_dim=head_dim,
        sliding_window=4096,
        max_position_embeddings=8192,
    )


def _qwen3(
    source: str, kind: str, layers: int, hidden: int, heads: int, kv_heads: int
) -> dict[str, Any]:
    return _model(
        source, kind, layers, hidden, heads, kv_heads, head_dim=128, max_position_embeddings=40960
    )


def _gemma_3(source: str, layers: int, hidden: int, heads: int, head_dim: int) -> dict[str, Any]:
    return _model(
        source,
        "gemma3_text",
        layers,
        hidden,
        heads,
        heads // 2,
        head_dim=head_dim,
        sliding_window=1024,
        max_position_embeddings=131072,
    )


def _gpt_oss(source: str, layers: int) -> dict[str, Any]:
    return _model(
        source,
        "gpt_oss",
        layers,
        2880,
        64,
        8,
        head_dim=64,
        sliding_window=128,
        max_position_embeddings=131072,
    )


def _llama_4(source: str, tokens: int) -> dict[str, Any]:
    return _model(
        source,
        "llama4_text",
        48,
        5120,
        40,
        8,
        head_dim=128,
        attention_chunk_size=8192,
        max_position_embeddings=tokens,
    )


def _deepseek(source: str, model_type: str, heads: int, tokens: int) -> dict[str, Any]:
    return _model(
        source,
        model_type,
        61,
        7168,
        heads,
        heads,
        kv_lora_rank=512,
        qk_rope_head_dim=64,
        max_position_embeddings=tokens,
    )


CATALOGUE: Mapping[str, Mapping[str, Any]] = {
    "llama-2-7b": _llama_2("meta-llama/Llama-2-7b-hf", 32, 4096, 32, 32),
    "llama-2-13b": _llama_2("meta-llama/Llama-2-13b-hf", 40, 5120, 40, 40),
    "llama-2-70b": _llama_2("meta-llama/Llama-2-70b-hf", 80, 8192, 64, 8),
    "llama-3.1-8b": _llama_31("meta-llama/Llama-3.1-8B", 32, 4096, 32),
    "llama-3.1-70b": _llama_31("meta-llama/Llama-3.1-70B", 80, 8192, 64),
    "llama-3.1-405b": _llama_31("meta-llama/Llama-3.1-405B", 126, 16384, 128),
    "llama-3.2-1b": _llama_32("meta-llama/Llama-3.2-1B", 16, 2048, 32, 64),
    "llama-3.2-3b": _llama_32("meta-llama/Llama-3.2-3B", 28, 3072, 24, 128),
    "llama-4-scout": _llama_4("meta-llama/Llama-4-Scout-17B-16E-Instruct", 10485760),
    "llama-4-maverick": _llama_4("meta-llama/Llama-4-Maverick-17B-128E-Instruct", 1048576),
    "qwen2.5-7b": _model(
        "Qwen/Qwen2.5-7B-Instruct", "qwen2", 28, 3584, 28, 4, max_position_embeddings=32768
    ),
    "qwen2.5-72b": _model(
        "Qwen/Qwen2.5-72B-Instruct", "qwen2", 80, 8192, 64, 8, max_position_embeddings=32768
    ),
    "qwen3-8b": _qwen3("Qwen/Qwen3-8B", "qwen3", 36, 4096, 32, 8),
    "qwen3-32b": _qwen3("Qwen/Qwen3-32B", "qwen3", 64, 5120, 64, 8),
    "qwen3-30b-a3b": _qwen3("Qwen/Qwen3-30B-A3B", "qwen3_moe", 48, 2048, 32, 4),
    "qwen3-235b-a22b": _qwen3("Qwen/Qwen3-235B-A22B", "qwen3_moe", 94, 4096, 64, 4),
    "qwen3-next-80b-a3b": _model(
        "Qwen/Qwen3-Next-80B-A3B-Thinking",
        "qwen3_next",
        48,
        2048,
        16,
        2,
        head_dim=256,
        full_attention_interval=4,
        linear_num_key_heads=16,
        linear_num_value_heads=32,
        linear_key_head_dim=128,
        linear_value_head_dim=128,
        linear_conv_kernel_dim=4,
        max_position_embeddings=262144,
    ),
    "qwen3.5-27b": _model(
        "Qwen/Qwen3.5-27B",
        "qwen3_5_text",
        64,
        5120,
        24,
        4,
        head_dim=256,
        full_attention_interval=4,
        linear_num_key_heads=16,
        linear_num_value_heads=48,
        linear_key_head_dim=128,
        linear_value_head_dim=128,
        linear_conv_kernel_dim=4,
        mamba_ssm_dtype="float32",
        max_position_embeddings=262144,
    ),
    "mistral-7b": _model(
        "mistralai/Mistral-7B-v0.1",
        "mistral",
        32,
        4096,
        32,
        8,
        sliding_window=4096,
        max_position_embeddings=32768,
    ),
    "mixtral-8x7b": _model(
        "mistralai/Mixtral-8x7B-v0.1",
        "mixtral",
        32,
        4096,
        32,
        8,
        sliding_window=None,
        max_position_embeddings=32768,
    ),
    "phi-4": _model(
        "microsoft/phi-4",
        "phi3",
        40,
        5120,
        40,
        10,
        sliding_window=None,
        max_position_embeddings=16384,
    ),
    "gemma-2-9b": _gemma_2("google/gemma-2-9b", 42, 3584, 16, 256),
    "gemma-2-27b": _gemma_2("google/gemma-2-27b", 46, 4608, 32, 128),
    "gemma-3-12b": _gemma_3("google/gemma-3-12b-it", 48, 3840, 16, 256),
    "gemma-3-27b": _gemma_3("google/gemma-3-27b-it", 62, 5376, 32, 128),
    "gpt-oss-20b": _gpt_oss("openai/gpt-oss-20b", 24),
    "gpt-oss-120b": _gpt_oss("openai/gpt-oss-120b", 36),
    "deepseek-v2-lite": _model(
        "deepseek-ai/DeepSeek-V2-Lite",
        "deepseek_v2",
        27,
        2048,
        16,
        16,
        kv_lora_rank=512,
        qk_rope_head_dim=64,
        max_position_embeddings=163840,
    ),
    "deepseek-v3": _deepseek("deepseek-ai/DeepSeek-V3", "deepseek_v3", 128, 163840),
    "deepseek-r1": _deepseek("deepseek-ai/DeepSeek-R1", "deepseek_v3", 128, 163840),
    "kimi-k2": _deepseek("moonshotai/Kimi-K2-Instruct", "kimi_k2", 64, 131072),
    "glm-4.5-air": _model(
        "zai-org/GLM-4.5-Air",
        "glm4_moe",
        46,
        4096,
        96,
        8,
        head_dim=128,
        max_position_embeddings=131072,
    ),
    "minimax-m2.5": _model(
        "MiniMaxAI/MiniMax-M2.5",
        "minimax_m2",
        62,
        3072,
        48,
        8,
        head_dim=128,
        max_position_embeddings=196608,
    ),
    "nemotron-3-nano-30b-a3b": _model(
        "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
        "nemotron_h",
        52,
        2688,
        32,
        2,
        head_dim=128,
        hybrid_override_pattern="MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
        mamba_num_heads=64,
        mamba_head_dim=64,
        n_groups=8,
        ssm_state_size=128,
        conv_kernel=4,
        mamba_ssm_cache_dtype="float32",
        max_position_embeddings=262144,
    ),
}


def catalogue_names() -> tuple[str, ...]:
    """Return the names that `catalogue_config` knows."""
    return tuple(CATALOGUE)


def catalogue_config(name: str) -> tuple[str, Config] | None:
    """Return a model's name and its config, by name or Hugging Face repository, in any case.

    The config holds what decides the KV layout and the weights, its `file` the source. None for a
    name that is not known.
    """
    wanted = name.lower()
    for known, fields in CATALOGUE.items():
        source = fields["source"]
        if wanted in (known, source.lower()):
            whole = {**fields, **CATALOGUE_WEIGHTS.get(known, {})}
            return known, as_config(whole, f"{source}: config.json")
    return None
