"""Pages, groups and bytes of whole models: ours against real vLLM model classes, layer by layer.

vLLM builds its own classes on torch's meta device, so that the largest models need no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import pytest

pytest.importorskip("vllm.v1.core.kv_cache_utils", reason="the real vLLM is not installed here")

from real_configs import DRAWN_FAMILIES, draw_config
from real_models import CPU_KERNEL_BLOCK_TOKENS, RealModel, real_model

from kvatlas.engine import specs
from kvatlas.engine.layers import block_bytes, group_layers
from kvatlas.model import CATALOGUE, kv_layers
from kvatlas.model.config_json import as_config
from kvatlas.model.layout import facts_from_config

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.filterwarnings("default")]

DRAWS_PER_FAMILY = 4
CATALOGUE_HERE = [
    name for name, fields in CATALOGUE.items() if fields["model_type"] in DRAWN_FAMILIES
]


def _words(spec: specs.KVCacheSpec) -> tuple[str, int, int, int]:
    kinds = {
        specs.MLAAttentionSpec: "mla",
        specs.FullAttentionSpec: "full",
        specs.SlidingWindowSpec: "sliding",
        specs.ChunkedLocalAttentionSpec: "chunked",
        specs.MambaSpec: "mamba",
    }
    window = getattr(spec, "sliding_window", 0) or getattr(spec, "attention_chunk_size", 0)
    return kinds[type(spec)], spec.block_size, spec.page_size_bytes, window


def _ours(fields: Mapping[str, Any], **options: Any) -> RealModel:
    facts = facts_from_config(as_config(dict(fields)), "drawn")
    block_size, kv_dtype = options.pop("block_size"), options.pop("kv_dtype")
    layers = kv_layers(
        facts,
        block_size,
        kv_dtype,
        tp=options["tp"],
        max_model_len=options["max_model_len"],
        enable_prefix_caching=options["caching"],
        kernel_block_tokens=CPU_KERNEL_BLOCK_TOKENS,
    )
    groups = group_layers(layers)
    return RealModel(
        tuple(map(_words, layers.values())),
        tuple((len(group.layer_names), *_words(group.spec)) for group in groups),
        block_bytes(groups),
    )


def _options(rng: Random, fields: Mapping[str, Any]) -> dict[str, Any]:
    # vLLM's CPU kernel for MLA has blocks of 16 tokens and one fp8, the others multiples of 32.
    mla = "kv_lora_rank" in fields
    dtypes = ("auto", "fp8") if mla else ("auto", "auto", "bfloat16", "fp8", "fp8_e5m2")
    return {
        "block_size": 16 if mla else rng.choice((32, 64, 96, 128)),
        "kv_dtype": rng.choice(dtypes),
        "tp": rng.choice((1, 1, 2, 4)),
        "caching": rng.random() < 0.7,
        "max_model_len": rng.choice((2048, 4096)),
    }


def _divides(tp: int, fields: Mapping[str, Any]) -> bool:
    """Whether vLLM can share the heads over so many ranks."""
    kv_heads = fields["num_key_value_heads"]
    fewer, more = min(kv_heads, tp), max(kv_heads, tp)
    return not fields["num_attention_heads"] % tp and not more % fewer


@pytest.mark.parametrize("name", CATALOGUE_HERE)
def test_catalogue_model_has_the_layers_of_the_real_one(name: str, tmp_path: Path) -> None:
    fields = {key: value for key, value in CATALOGUE[name].items() if key != "source"}
    for tp, kv_dtype in ((1, "auto"), (4, "fp8")):
        options: dict[str, Any] = {
            "block_size": 16 if "kv_lora_rank" in fields else 32,
            "kv_dtype": kv_dtype,
            "tp": tp if _divides(tp, fields) else 1,
            "caching": True,
            "max_model_len": 4096,
        }
        assert _ours(fields, **options) == real_model(fields, tmp_path / str(tp), **options)


@pytest.mark.parametrize(
    ("name", "model_type"),
    [
        ("mistral-7b", "mistral"),
        ("gpt-oss-120b", "gpt_oss"),
        ("llama-4-scout", "llama4_text"),
        ("deepseek-v3", "deepseek_v3"),
        ("qwen3-next-80b-a3b", "qwen3_next"),
        ("minimax-m2.5", "minimax_m2"),
        ("mixtral-8x7b", "mixtral"),
    ],
)
def test_catalogue_agrees_with_the_class_made_for_that_model(name: str, model_type: str) -> None:
    """Some configuration classes of transformers have a published model as their defaults."""
    mapping = import_module("transformers.models.auto.configuration_auto").CONFIG_MAPPING
    published = mapping[model_type]()
    decided = {
        key: value
        for key, value in CATALOGUE[name].items()
        if key not in ("source", "model_type", "max_position_embeddings")
        and hasattr(published, key)
    }
    assert len(decided) >= 4
    assert {key: getattr(published, key) for key in decided} == decided


@pytest.mark.parametrize("draw", range(DRAWS_PER_FAMILY))
@pytest.mark.parametrize("family", DRAWN_FAMILIES)
def test_random_model_has_the_layers_of_the_real_one(
    family: str, draw: int, tmp_path: Path
) -> None:
    rng = Random(f"{family} {draw}")
    fields = draw_config(rng, family)
    options = _options(rng, fields)
    expected = real_model(fields, tmp_path, **options)
    assert _ours(fields, **options) == expected, (fields, options)
