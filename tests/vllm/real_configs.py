"""Random model configs of every family that is modelled, as a config.json would hold them.

Owns: drawing configs, with optional fields missing now and then. Leaves to others: comparing what
they mean (`test_model_twin`).
"""

from __future__ import annotations

from importlib.util import find_spec
from random import Random
from typing import Any

from kvatlas.model.families import FAMILIES

NEEDS_TORCHVISION = ("qwen3_5_text", "qwen3_5_moe_text")
"""Families whose vLLM modules import torchvision, which a CPU environment may leave out."""
_MULTIMODAL_ONLY = ("qwen3_vl_text", "qwen3_vl_moe_text")  # no text-only class in vLLM
DRAWN_FAMILIES = tuple(
    name
    for name in FAMILIES
    if name not in _MULTIMODAL_ONLY
    and (name not in NEEDS_TORCHVISION or find_spec("torchvision") is not None)
)

_WINDOWED = ("llama", "mistral", "mixtral", "phi3", "gemma2", "gemma3_text", "cohere2", "gpt_oss")


def draw_config(rng: Random, model_type: str) -> dict[str, Any]:
    """Return the fields of a random model of a family."""
    family = FAMILIES[model_type]
    heads = rng.choice((32, 16, 8)) if family.kv_heads < 16 else 32
    fields: dict[str, Any] = {
        "model_type": model_type,
        "num_hidden_layers": rng.randint(1, 14),
        "num_attention_heads": heads,
        "hidden_size": heads * 64,
        "max_position_embeddings": 8192,
    }
    if rng.random() < 0.8:
        # vLLM's gpt-oss cannot replicate heads over more ranks than there are heads.
        counts = (4, 8) if model_type == "gpt_oss" else (1, 2, 4, 8)
        fields["num_key_value_heads"] = rng.choice(counts)
    # GLM 4 MoE cannot do without the field; Granite's alignment reads what its layers do not.
    if model_type == "glm4_moe" or (rng.random() < 0.6 and model_type != "granitemoehybrid"):
        fields["head_dim"] = rng.choice((64, 128, 256))
    if family.attention == "mla":
        return {**fields, **_mla(rng, fields)}
    if family.attention == "chunked":
        return {**fields, **_chunked(rng, fields["num_hidden_layers"])}
    if family.attention == "gated_delta_net":
        return {**fields, **_delta_net(rng, fields["num_hidden_layers"])}
    if model_type == "nemotron_h":
        return {**fields, **_nemotron(rng)}
    if model_type == "granitemoehybrid":
        return {**fields, **_granite(rng, fields)}
    return {**fields, **_window(rng, fields)}


def _mla(rng: Random, fields: dict[str, Any]) -> dict[str, Any]:
    fields.pop("head_dim", None)
    return {
        "num_key_value_heads": fields["num_attention_heads"],
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "n_routed_experts": 8,
        "n_group": 1,
        "topk_group": 1,
    }


def _window(rng: Random, fields: dict[str, Any]) -> dict[str, Any]:
    kind, layers = fields["model_type"], fields["num_hidden_layers"]
    more: dict[str, Any] = {}
    if kind.startswith("qwen"):
        more["use_sliding_window"] = rng.random() < 0.5
        more["sliding_window"] = rng.choice((512, 4096))
        more["max_window_layers"] = rng.choice((0, layers, layers + 3))
    elif kind in _WINDOWED and rng.random() < 0.7:
        more["sliding_window"] = rng.choice((128, 1000, 4096))
    if kind == "mistral" and rng.random() < 0.3:
        more["sliding_window"] = None
    if kind in ("gemma3_text", "cohere2") and rng.random() < 0.4:
        more["sliding_window_pattern"] = rng.choice((2, 3, 6))
    if kind in ("llama", "gemma2", "gemma3_text", "cohere2", "granite") and rng.random() < 0.3:
        more["layer_types"] = [
            rng.choice(("sliding_attention", "full_attention")) for _ in range(layers)
        ]
        more["sliding_window"] = rng.choice((128, 4096))
    if kind == "gemma2" and rng.random() < 0.2:
        del fields["num_attention_heads"]
        fields.update(hidden_size=512, num_key_value_heads=4)
    return more


def _chunked(rng: Random, layers: int) -> dict[str, Any]:
    more: dict[str, Any] = {"attention_chunk_size": rng.choice((64, 8192)), "moe_layers": []}
    choice = rng.random()
    if choice < 0.3:
        more["no_rope_layers"] = [rng.choice((0, 1)) for _ in range(layers)]
    elif choice < 0.6:
        more["no_rope_layer_interval"] = rng.choice((2, 3))
    elif choice < 0.7:
        more["no_rope_layers"] = []
    return more


def _delta_net(rng: Random, layers: int) -> dict[str, Any]:
    key_heads = rng.choice((4, 8, 16))
    more: dict[str, Any] = {
        "linear_num_key_heads": key_heads,
        "linear_num_value_heads": key_heads * rng.choice((1, 2)),
        "linear_key_head_dim": rng.choice((64, 128)),
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": rng.choice((2, 4)),
        "num_hidden_layers": max(4, layers),
    }
    if rng.random() < 0.5:
        more["layer_types"] = [
            rng.choice(("linear_attention", "full_attention")) for _ in range(max(4, layers) - 2)
        ] + ["linear_attention", "full_attention"]
    elif rng.random() < 0.5:
        more["full_attention_interval"] = rng.choice((2, 3))
    return more


def _nemotron(rng: Random) -> dict[str, Any]:
    letters = [rng.choice("MMM*--E") for _ in range(rng.randint(2, 20))]
    more: dict[str, Any] = {
        "hybrid_override_pattern": "".join(["M", *letters, "*"]),
        "num_hidden_layers": len(letters) + 2,
        "mamba_num_heads": rng.choice((16, 64)),
        "mamba_head_dim": 64,
        "n_groups": rng.choice((1, 2, 8)),
        "ssm_state_size": rng.choice((64, 128)),
        "conv_kernel": 4,
    }
    if rng.random() < 0.5:
        more["mamba_ssm_cache_dtype"] = rng.choice(("float32", "bfloat16"))
    return more


def _granite(rng: Random, fields: dict[str, Any]) -> dict[str, Any]:
    heads = rng.choice((16, 32))
    kinds = ("mamba", "mamba", "attention")
    names = [rng.choice(kinds) for _ in range(fields["num_hidden_layers"])]
    more: dict[str, Any] = {
        "layer_types": ["mamba", "attention", *names],
        "num_hidden_layers": len(names) + 2,
        "mamba_n_heads": heads,
        "mamba_expand": 2,
        "mamba_d_state": rng.choice((128, 256)),
        "mamba_n_groups": rng.choice((1, 8)),
        "position_embedding_type": "nope",
        "num_local_experts": 0,
    }
    return more
