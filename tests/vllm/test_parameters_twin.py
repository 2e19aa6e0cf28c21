"""Parameters of whole models: ours against those of transformers' own classes, element by element.

The classes are built on torch's meta device, so that the largest models need no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from random import Random
from typing import Any

import pytest

pytest.importorskip("transformers", reason="transformers is not installed here")
pytest.importorskip("torch", reason="torch is not installed here")

from kvatlas.budget.beside import vision_parameters
from kvatlas.budget.parameters import weights_of
from kvatlas.budget.structure import STRUCTURES
from kvatlas.model.catalogue import CATALOGUE
from kvatlas.model.catalogue_weights import CATALOGUE_WEIGHTS
from kvatlas.model.config_json import as_config
from kvatlas.model.families import FAMILIES
from kvatlas.model.layout import facts_from_config

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.filterwarnings("default")]

DRAWS_PER_FAMILY = 3
_BUILT_AS = {"kimi_k2": "deepseek_v3"}  # its own configuration class is not in transformers


def _ours(fields: Mapping[str, Any]) -> int:
    config = as_config(dict(fields))
    facts = facts_from_config(config, "drawn")
    return sum(weight.parameters for weight in weights_of(config, facts))


def _theirs(fields: Mapping[str, Any]) -> int:
    auto = import_module("transformers")
    given = {
        key: value
        for key, value in fields.items()
        if key not in ("source", "model_type", "quantization_config")
    }
    kind = _BUILT_AS.get(fields["model_type"], fields["model_type"])
    config = auto.AutoConfig.for_model(kind, pad_token_id=0, **given)
    with import_module("torch").device("meta"):
        model = auto.AutoModelForCausalLM.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue_model_has_the_parameters_of_the_real_one(name: str) -> None:
    fields = {**CATALOGUE[name], **CATALOGUE_WEIGHTS[name]}
    assert _ours(fields) == _theirs(fields)


@pytest.mark.parametrize("draw", range(DRAWS_PER_FAMILY))
@pytest.mark.parametrize("family", [name for name in STRUCTURES if not name.startswith("qwen3_vl")])
def test_random_model_has_the_parameters_of_the_real_one(family: str, draw: int) -> None:
    pytest.importorskip("vllm", reason="the random configs are those of the KV layout's tests")
    from real_configs import draw_config

    rng = Random(f"weights {family} {draw}")
    fields = {**draw_config(rng, family), **_draw_weights(rng, family)}
    if FAMILIES[family].fixed_head_size:  # vLLM takes no head_dim there, transformers does
        fields.pop("head_dim", None)
    assert _ours(fields) == _theirs(fields), fields


@pytest.mark.parametrize(
    ("kind", "module", "config", "model"),
    [
        ("siglip_vision_model", "siglip", "SiglipVisionConfig", "SiglipVisionModel"),
        ("clip_vision_model", "clip", "CLIPVisionConfig", "CLIPVisionModel"),
        ("llama4_vision_model", "llama4", "Llama4VisionConfig", "Llama4VisionModel"),
        ("pixtral", "pixtral", "PixtralVisionConfig", "PixtralVisionModel"),
        ("qwen2_5_vl", "qwen2_5_vl", "Qwen2_5_VLVisionConfig",
         "Qwen2_5_VisionTransformerPretrainedModel"),
        ("qwen3_vl", "qwen3_vl", "Qwen3VLVisionConfig", "Qwen3VLVisionModel"),
    ],
)  # fmt: skip
def test_a_vision_tower_has_the_parameters_of_the_real_one(
    kind: str, module: str, config: str, model: str
) -> None:
    rng = Random(kind)
    place = f"transformers.models.{module}"
    for _ in range(4):
        hidden = rng.choice((128, 192))
        inner = rng.choice((256, 400)) if module != "llama4" else 4 * hidden
        fields: dict[str, Any] = {
            "hidden_size": hidden,
            "intermediate_size": inner,
            "patch_size": rng.choice((14, 16)),
        }
        if module.startswith("qwen"):
            fields |= {"depth": rng.choice((2, 5)), "num_heads": 4, "out_hidden_size": 320}
            fields["spatial_merge_size"] = rng.choice((1, 2))
            if module == "qwen3_vl":
                fields["deepstack_visual_indexes"] = [0, 1][: rng.choice((0, 1, 2))]
                fields["num_position_embeddings"] = rng.choice((64, 256))
        else:
            fields |= {"num_hidden_layers": rng.choice((2, 5)), "num_attention_heads": 4,
                       "image_size": rng.choice((112, 224))}  # fmt: skip
        if module == "siglip":
            fields["vision_use_head"] = False
        if module == "llama4":
            fields |= {"projector_input_dim": 96, "projector_output_dim": 96}
            fields["vision_output_dim"] = 96
        settings = getattr(import_module(f"{place}.configuration_{module}"), config)(**fields)
        with import_module("torch").device("meta"):
            made = getattr(import_module(f"{place}.modeling_{module}"), model)(settings)
        whole = {"model_type": "llama", "vision_config": {**fields, "model_type": kind}}
        real = sum(parameter.numel() for parameter in made.parameters())
        assert vision_parameters(as_config(whole)) == real, fields


def test_every_family_has_a_structure() -> None:
    assert set(STRUCTURES) == set(FAMILIES)


def _draw_weights(rng: Random, family: str) -> dict[str, Any]:
    """Return the fields that decide the weights, some of them missing now and then."""
    experts = rng.choice((4, 8))
    fields: dict[str, Any] = {
        "vocab_size": rng.choice((1000, 4096)),
        "intermediate_size": rng.choice((256, 320)),
        "intermediate_size_mlp": 192,
        "moe_intermediate_size": rng.choice((64, 96)),
        "shared_expert_intermediate_size": 80,
        "moe_shared_expert_intermediate_size": 112,
        "shared_intermediate_size": 144,
        "num_experts": experts,
        "num_local_experts": experts,
        "n_routed_experts": experts,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1 if family == "nemotron_h" else rng.choice((1, 2)),
        "first_k_dense_replace": rng.choice((0, 1, 2)),
        "decoder_sparse_step": rng.choice((1, 2)),
        "interleave_moe_layer_step": rng.choice((1, 2)),
        "n_group": 1,
        "topk_group": 1,
        "expand": 2,
    }
    if FAMILIES[family].attention == "mla":
        fields |= {
            "q_lora_rank": rng.choice((None, 96)),
            "qk_nope_head_dim": 64,
            "v_head_dim": rng.choice((64, 96)),
        }
    if rng.random() < 0.7:
        fields["tie_word_embeddings"] = rng.random() < 0.5
    if rng.random() < 0.6:
        fields["attention_bias"] = rng.random() < 0.5
    if family in ("llama", "granite", "nemotron_h") and rng.random() < 0.5:
        fields["mlp_bias"] = True
    if family == "glm4_moe":
        fields["use_qk_norm"] = rng.random() < 0.5
    return fields
