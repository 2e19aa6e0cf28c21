"""Which tensors each model family has, where its config.json does not say.

Owns: biases, norms, gates and defaults per family. Leaves to others: sizes (`parameters`).

Source: the model classes of transformers 5.19, held against them in tests/vllm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["STRUCTURES", "Structure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """One `model_type`.

    Attributes:
        tied: whether the embedding is the output head, where the config does not say.
        never_tied: it is not, whatever the config says.
        qkv_bias, o_bias: biases of the attention: `config` follows `attention_bias`.
        bias_default: `attention_bias` where the config does not say.
        qk_norm: norms of queries and keys, over one head or over all of them; `config` follows
            `use_qk_norm`.
        norms: vectors of the hidden size per layer.
        gated_queries: the query projection also makes an output gate of its size.
        sinks: one number per attention head.
        experts: where the experts are: `all` layers, behind the first dense ones (`deepseek`),
            every few layers (`qwen`, `llama4`), those that the pattern names (`nemotron`), or
            nowhere.
        gated_mlp: MLPs have a gate beside the upward projection.
        mlp_bias: MLPs follow the config's `mlp_bias`.
        expert_bias: experts and router have biases.
    """

    tied: bool = False
    never_tied: bool = False
    qkv_bias: Literal["no", "yes", "config"] = "no"
    o_bias: Literal["no", "config"] = "no"
    bias_default: bool = False
    qk_norm: Literal["no", "head", "all", "config"] = "no"
    norms: int = 2
    gated_queries: bool = False
    sinks: bool = False
    experts: Literal["none", "all", "deepseek", "qwen", "llama4", "nemotron", "granite"] = "none"
    gated_mlp: bool = True
    mlp_bias: bool = False
    expert_bias: bool = False


_QWEN3 = Structure(qkv_bias="config", o_bias="config", qk_norm="head")
_QWEN3_MOE = Structure(qkv_bias="config", o_bias="config", qk_norm="head", experts="qwen")
_DEEPSEEK = Structure(experts="deepseek")

STRUCTURES: Mapping[str, Structure] = {
    "cohere2": Structure(tied=True, qkv_bias="config", o_bias="config", norms=1),
    "deepseek_v2": _DEEPSEEK,
    "deepseek_v3": _DEEPSEEK,
    "gemma": Structure(tied=True, qkv_bias="config", o_bias="config"),
    "gemma2": Structure(tied=True, qkv_bias="config", o_bias="config", norms=4),
    "gemma3_text": Structure(
        tied=True, qkv_bias="config", o_bias="config", norms=4, qk_norm="head"
    ),
    "glm4": Structure(qkv_bias="config", bias_default=True, norms=4),
    "glm4_moe": Structure(qkv_bias="config", qk_norm="config", experts="deepseek"),
    "gpt_oss": Structure(
        qkv_bias="config",
        o_bias="config",
        bias_default=True,
        sinks=True,
        experts="all",
        expert_bias=True,
    ),
    "granite": Structure(qkv_bias="config", o_bias="config", mlp_bias=True),
    "granitemoehybrid": Structure(qkv_bias="config", o_bias="config", experts="granite"),
    "kimi_k2": _DEEPSEEK,
    "llama": Structure(qkv_bias="config", o_bias="config", mlp_bias=True),
    "llama4_text": Structure(qkv_bias="config", o_bias="config", experts="llama4"),
    "minimax_m2": Structure(qk_norm="all", experts="all"),
    "mistral": Structure(),
    "mixtral": Structure(experts="all"),
    "nemotron_h": Structure(
        never_tied=True, norms=1, experts="nemotron", gated_mlp=False, mlp_bias=True
    ),
    "phi3": Structure(),
    "qwen2": Structure(qkv_bias="yes"),
    "qwen3": _QWEN3,
    "qwen3_moe": _QWEN3_MOE,
    "qwen3_vl_text": _QWEN3,
    "qwen3_vl_moe_text": _QWEN3_MOE,
    "qwen3_next": Structure(
        qkv_bias="config", o_bias="config", qk_norm="head", gated_queries=True, experts="qwen"
    ),
    "qwen3_5_text": Structure(
        qkv_bias="config", o_bias="config", qk_norm="head", gated_queries=True
    ),
    "qwen3_5_moe_text": Structure(
        qkv_bias="config", o_bias="config", qk_norm="head", gated_queries=True, experts="qwen"
    ),
}
