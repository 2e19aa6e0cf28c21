"""How ranks share tensors, and how many bytes formats take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvatlas.budget import QUANTIZATIONS, BudgetRequest, Parallel, Weight, budget, find_device
from kvatlas.budget.parameters import weights_of
from kvatlas.budget.quantization import quantization_of
from kvatlas.errors import InputError
from kvatlas.model import CATALOGUE
from kvatlas.model.catalogue_weights import CATALOGUE_WEIGHTS
from kvatlas.model.config_json import as_config
from kvatlas.model.layout import facts_from_config

SPREADABLE = ("llama-3.1-8b", "qwen3-30b-a3b", "deepseek-v3", "mixtral-8x7b", "qwen3-next-80b-a3b")


def _weights(model: str, parallel: Parallel, **options: Any) -> int:
    found = budget(
        BudgetRequest(model=model, device=find_device("4TB"), parallel=parallel, **options)
    )
    return sum(each.stage.weight_bytes for each in found.stages)


@given(
    st.sampled_from(SPREADABLE),
    st.sampled_from((1, 2, 4)),
    st.sampled_from((1, 2, 3)),
    st.booleans(),
    st.sampled_from(("none", "fp8", "awq")),
)
def test_ranks_hold_no_less_than_the_model_and_share_it(
    model: str, tp: int, pp: int, experts: bool, quantization: str
) -> None:
    whole = _weights(model, Parallel(), quantization=quantization)
    shared = _weights(model, Parallel(tp=tp, pp=pp, experts=experts), quantization=quantization)

    assert shared * tp >= whole
    # What every rank holds whole is small: norms, routers, MLA's compression, an embedding's copy.
    assert shared * tp <= whole * 1.35
    if tp > 1:
        assert shared < whole


def test_key_value_heads_are_copied_beyond_their_number() -> None:
    keys = Weight(
        part="attention", layer=0, outputs=2 * 4 * 128, inputs=64, split="kv heads", heads=4
    )

    assert keys.share(Parallel(tp=2)) == (2 * 2 * 128 * 64, 1)
    assert keys.share(Parallel(tp=4)) == (2 * 128 * 64, 1)
    assert keys.share(Parallel(tp=16)) == (2 * 128 * 64, 1)


def test_the_vocabulary_is_padded_to_64() -> None:
    head = Weight(part="output head", layer=None, outputs=1000, inputs=10, split="vocab")

    assert head.parameters == 10_000
    assert head.share(Parallel()) == (10_240, 1)
    assert head.share(Parallel(tp=4)) == (2_560, 1)


def test_experts_are_cut_or_dealt_out() -> None:
    experts = Weight(part="experts", layer=0, outputs=96, inputs=32, copies=10, split="experts")

    assert experts.share(Parallel(tp=4, dp=2)) == (96 * 32 * 10 // 8, 10)
    assert experts.share(Parallel(tp=4, dp=2, experts=True)) == (96 * 32 * 2, 2)


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("none", 16.0),
        ("fp8", 8 + 32 / 256),  # one float32 per row of 256
        ("fp8-block", 8 + 32 / 128**2),
        ("int8", 8 + 32 / 256),
        ("awq", 4 + (16 + 4) / 128),
        ("gptq", 4 + (16 + 4) / 128),
        ("w4a16", 4 + 16 / 128),
        ("mxfp4", 4 + 8 / 32),
        ("nvfp4", 4 + 8 / 16),
    ],
)
def test_a_matrix_takes_its_bits_and_its_scales(name: str, bits: float) -> None:
    matrix = Weight(part="mlp", layer=0, outputs=512, inputs=256, split="tensor")
    vector = Weight(part="mlp", layer=0, outputs=512, split="tensor", linear=False)
    found = QUANTIZATIONS[name]

    assert found.weight_bytes(matrix, Parallel(), 2) == 512 * 256 * bits / 8
    assert found.weight_bytes(matrix, Parallel(tp=2), 2) == 512 * 128 * bits / 8
    assert found.weight_bytes(vector, Parallel(), 2) == 1024


def _stored(fields: dict[str, Any]) -> Any:
    return quantization_of(as_config({"model_type": "llama", "quantization_config": fields}))


def test_formats_are_read_from_configs() -> None:
    assert quantization_of(as_config({"model_type": "llama"})).name == "none"
    assert _stored({"quant_method": "fp8"}).group == 0
    assert _stored({"quant_method": "fp8", "weight_block_size": [128, 128]}).row_group == 128
    awq = _stored({"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True})
    assert (awq.bits, awq.group, awq.zero_bits) == (4, 64, 4)
    gptq = _stored({"quant_method": "gptq", "bits": 8, "group_size": -1, "sym": True,
                    "desc_act": True})  # fmt: skip
    assert (gptq.bits, gptq.group, gptq.zero_bits, gptq.index_bits) == (8, 0, 0, 32)
    assert _stored({"quant_method": "mxfp4"}).parts == {"experts"}
    assert _stored({"quant_method": "modelopt", "quant_algo": "NVFP4"}).name == "nvfp4"
    scheme = {"weights": {"num_bits": 4, "type": "int", "group_size": 32, "symmetric": False}}
    packed = _stored({"quant_method": "compressed-tensors", "config_groups": {"group_0": scheme}})
    assert (packed.bits, packed.group, packed.zero_bits) == (4, 32, 4)
    floats = {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}
    channel = _stored({"quant_method": "compressed-tensors", "config_groups": {"group_0": floats}})
    assert channel.name == "fp8"


def test_modules_that_a_config_leaves_alone_are_left_alone() -> None:
    whole = _stored({"quant_method": "fp8", "modules_to_not_convert": ["lm_head", "*.self_attn"]})
    assert whole.parts == {"recurrent", "mlp", "shared experts", "experts"}
    one = _stored({"quant_method": "fp8", "modules_to_not_convert": ["model.layers.0.mlp"]})
    assert "mlp" in one.parts
    assert "1 modules of single layers" in one.note


@pytest.mark.parametrize(
    "fields",
    [
        {"quant_method": "fp8000"},
        {"quant_method": "awq", "bits": 5},
        {"quant_method": "awq", "group_size": "many"},
        {"quant_method": "gptq", "group_size": 0},
        {"quant_method": "compressed-tensors"},
        {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": None}}},
        {
            "quant_method": "compressed-tensors",
            "config_groups": {"a": {"weights": {"num_bits": 2}}},
        },
        {"quant_method": "modelopt", "quant_algo": "W4A8"},
        {},
    ],
)
def test_a_format_that_is_not_known_is_refused_in_one_line(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        _stored(fields)
    assert "\n" not in str(caught.value)


def test_mla_keeps_an_unpacked_copy_of_what_is_quantized() -> None:
    expansion = 61 * 128 * (128 + 128) * 512
    quantized = budget(BudgetRequest(model="deepseek-v3", device=find_device("4TB")))
    plain = budget(
        BudgetRequest(model="deepseek-v3", device=find_device("4TB"), quantization="none")
    )

    assert quantized.tightest.stage.absorbed_bytes == 2 * expansion
    assert plain.tightest.stage.absorbed_bytes == 0


def test_tied_embeddings_are_copied_to_the_last_stage() -> None:
    found = budget(
        BudgetRequest(model="llama-3.2-1b", device=find_device("24GB"), parallel=Parallel(pp=2))
    )
    first, last = (each.stage.part_bytes for each in found.stages)

    assert first["embedding"] == last["output head"] == 128256 * 2048 * 2
    assert "output head" not in first


@pytest.mark.parametrize(
    ("parallel", "message"),
    [
        ({"tp": 0}, "tp: a number of ranks"),
        ({"dp": 5000}, "dp: a number of ranks"),
    ],
)
def test_ranks_are_counted(parallel: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Parallel(**parallel)


def test_ranks_that_cannot_share_are_refused(tmp_path: Path) -> None:
    fields = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 6,
              "hidden_size": 96, "intermediate_size": 100, "vocab_size": 1001,
              "max_position_embeddings": 64}  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(fields))

    def request(**options: Any) -> BudgetRequest:
        return BudgetRequest(model=path, device=find_device("1GiB"), parallel=Parallel(**options))

    with pytest.raises(InputError, match="cannot be divided equally over 4 ranks"):
        budget(request(tp=4))
    with pytest.raises(InputError, match="the embedding cannot be divided"):
        budget(request(tp=3))
    with pytest.raises(InputError, match="more pipeline stages than layers"):
        budget(request(pp=3))


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(10**5, 10**30),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.one_of(st.none(), st.integers(-2, 70), st.text(max_size=3)), max_size=3),
    st.dictionaries(
        st.sampled_from(("quant_method", "bits", "weights", "a")), st.none(), max_size=2
    ),
)


@given(st.sampled_from(sorted(CATALOGUE)), st.data())
def test_junk_in_a_field_gives_a_budget_or_one_line(name: str, data: st.DataObject) -> None:
    fields = {**CATALOGUE[name], **CATALOGUE_WEIGHTS[name]}
    chosen = data.draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=2))
    junk = {field: data.draw(JUNK) for field in chosen}
    try:
        config = as_config({**fields, **junk})
        facts = facts_from_config(config, name)
        weights = weights_of(config, facts)
        stored = quantization_of(config)
        total = sum(stored.weight_bytes(weight, Parallel(), 2) for weight in weights)
    except InputError as error:
        assert "\n" not in str(error)
        return
    assert total > 0
