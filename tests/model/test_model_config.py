"""Reading config.json: every family's layers, and one clear line for whatever is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvatlas.errors import InputError
from kvatlas.model import LayerFacts, ModelFacts, load_model
from kvatlas.model.config_json import as_config
from kvatlas.model.layout import facts_from_config

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "hidden_size": 512,
}


def facts(**fields: Any) -> ModelFacts:
    return facts_from_config(as_config(fields), "test")


def kinds(model: ModelFacts) -> str:
    """Return one letter per layer: f(ull), s(liding), c(hunked), m(la), r(ecurrent)."""
    return "".join(layer.kind[0] for layer in model.layers)


def test_a_plain_model() -> None:
    model = facts(**LLAMA, max_position_embeddings=4096)

    assert model.layers == tuple(LayerFacts(index, "full", 2, 64) for index in range(4))
    assert (model.num_attention_heads, model.max_model_len) == (8, 4096)


def test_heads_without_groups_and_explicit_head_size() -> None:
    fields = {**LLAMA, "num_key_value_heads": None, "head_dim": 96}

    assert facts(**fields).layers[0] == LayerFacts(0, "full", 8, 96)


def test_a_head_size_that_the_family_implies() -> None:
    # GIVEN the published Gemma 3 12B, whose file has no head_dim and 3840 / 16 is not it
    fields = {
        "model_type": "gemma3",
        "text_config": {
            "model_type": "gemma3_text",
            "hidden_size": 3840,
            "num_attention_heads": 16,
            "num_hidden_layers": 48,
            "num_key_value_heads": 8,
            "sliding_window": 1024,
        },
    }

    model = facts(**fields)

    assert model.layers[0] == LayerFacts(0, "sliding", 8, 256, 1024)
    assert model.kinds == {"sliding": 40, "full": 8}
    assert model.layers == load_model("gemma-3-12b").layers


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model_type": "llama"}, "ffff"),
        ({"model_type": "llama", "sliding_window": 128}, "ssss"),
        ({"model_type": "llama", "sliding_window": 0}, "ffff"),
        ({"model_type": "mistral"}, "ssss"),
        ({"model_type": "mistral", "sliding_window": None}, "ffff"),
        ({"model_type": "gemma2"}, "sfsf"),
        ({"model_type": "gemma3_text", "sliding_window_pattern": 2}, "sfsf"),
        ({"model_type": "gpt_oss"}, "sfsf"),
        ({"model_type": "cohere2"}, "sssf"),
        ({"model_type": "qwen3", "sliding_window": 128}, "ffff"),
        ({"model_type": "qwen3", "use_sliding_window": True, "max_window_layers": 4}, "ffff"),
        ({"model_type": "qwen3", "use_sliding_window": True, "max_window_layers": 0}, "ssss"),
        ({"model_type": "llama4_text"}, "cccf"),
        ({"model_type": "llama4_text", "no_rope_layers": [0, 1, 1, 0]}, "fccf"),
        ({"model_type": "llama4_text", "attention_chunk_size": None}, "ffff"),
        ({"model_type": "qwen3_next"}, "rrrf"),
        ({"model_type": "qwen3_next", "full_attention_interval": 2}, "rfrf"),
        ({"model_type": "granitemoehybrid",
          "layer_types": ["mamba", "attention", "mamba", "mamba"]}, "rfrr"),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "M-*E"}, "rf"),
        ({"model_type": "nemotron_h",
          "layers_block_type": ["mamba", "moe", "attention", "mlp"]}, "rf"),
        ({"model_type": "deepseek_v3", "kv_lora_rank": 512, "qk_rope_head_dim": 64}, "mmmm"),
        ({"model_type": "llama", "sliding_window": 64,
          "layer_types": ["full_attention", "sliding_attention"] * 2}, "fsfs"),
    ],
)  # fmt: skip
def test_which_layer_is_which(fields: dict[str, Any], expected: str) -> None:
    assert kinds(facts(**{**LLAMA, **fields})) == expected


def test_windows_chunks_and_latent_vectors() -> None:
    cohere = facts(**{**LLAMA, "model_type": "cohere2"})
    llama4 = facts(**{**LLAMA, "model_type": "llama4_text"})
    deepseek = facts(
        **{**LLAMA, "model_type": "deepseek_v3", "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    )

    assert cohere.layers[0].window_tokens == 4097
    assert llama4.layers[0].window_tokens == 8192
    assert deepseek.layers[0] == LayerFacts(0, "mla", 1, 576)
    assert deepseek.layers[0].elements_per_head == 576


def test_a_checkpoint_that_fixes_its_cache_dtype() -> None:
    scheme = {"num_bits": 8, "type": "float"}
    for quantized, expected in (
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": scheme}, "fp8"),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": None}, "auto"),
        ({"quant_method": "modelopt", "kv_cache_quant_algo": "FP8"}, "fp8"),
        ({"quant_method": "modelopt_fp4", "kv_cache_scheme": {"num_bits": 4}}, "nvfp4"),
        ({"quant_method": "fp8"}, "auto"),
        ("nonsense", "auto"),
    ):
        assert facts(**LLAMA, quantization_config=quantized).default_kv_dtype == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": None}, "without heads"),
        ({"hidden_size": None}, "without heads"),
        ({"num_hidden_layers": None}, "num_hidden_layers: missing"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers: cannot be right"),
        ({"num_attention_heads": 0}, "num_attention_heads: cannot be right"),
        ({"num_attention_heads": "many"}, "num_attention_heads: cannot be right"),
        ({"num_attention_heads": True}, "num_attention_heads: cannot be right"),
        ({"num_attention_heads": 8.0}, "num_attention_heads: cannot be right"),
        ({"num_key_value_heads": 3}, "must divide the attention heads"),
        ({"num_key_value_heads": -2}, "num_key_value_heads: cannot be right"),
        ({"hidden_size": 4}, "fewer hidden elements than heads"),
        ({"head_dim": [128]}, "head_dim: cannot be right"),
        ({"model_type": "bert"}, "the KV layout of this model_type is not known (got bert)"),
        ({"model_type": None}, "names no model_type"),
        ({"model_type": ["llama"]}, "names no model_type"),
        ({"layer_types": ["full_attention"]}, "one name per layer"),
        ({"layer_types": ["full_attention", 3]}, "a list of names"),
        ({"layer_types": ["strange"] * 4}, "unknown kind of layer (got strange)"),
        ({"layer_types": ["sliding_attention"] * 4}, "without a window"),
        ({"sliding_window": -5}, "sliding_window: cannot be right"),
        ({"max_position_embeddings": "long"}, "max_position_embeddings: cannot be right"),
        ({"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 2},
         "does not mix"),
        ({"model_type": "qwen2", "layer_types": ["full_attention", "sliding_attention"] * 2},
         "does not mix"),
        ({"model_type": "deepseek_v3"}, "kv_lora_rank: missing"),
        ({"model_type": "llama4_text", "no_rope_layers": [1]}, "one number per layer"),
        ({"model_type": "llama4_text", "no_rope_layers": "all"}, "one number per layer"),
        ({"model_type": "nemotron_h"}, "not a pattern"),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "MX"}, "not a pattern"),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "M*",
          "mamba_ssm_cache_dtype": "int3"}, "unknown dtype (got int3)"),
        ({"model_type": "granitemoehybrid", "mamba_n_heads": 7}, "must divide mamba_expand"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_one_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**LLAMA, **changes}))

    with pytest.raises(InputError) as caught:
        load_model(path)

    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_files_that_are_no_config(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)

    with pytest.raises(InputError, match=r"not JSON|no JSON object"):
        load_model(path)
