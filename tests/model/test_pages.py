"""Pages, ranks and pools, on numbers that are well known from running vLLM."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kvatlas.engine.config import EngineConfig
from kvatlas.engine.layers import block_bytes, group_layers
from kvatlas.engine.specs import MambaSpec, MLAAttentionSpec, SlidingWindowSpec
from kvatlas.errors import InputError
from kvatlas.model import (
    CATALOGUE,
    RecurrentState,
    attention_block_size,
    bytes_per_token,
    kv_layers,
    load_model,
    pool_from_memory,
)


def test_llama_8b_keeps_128_kib_per_token() -> None:
    assert bytes_per_token(load_model("llama-3.1-8b")) == 128 * 1024
    plan = pool_from_memory("40GiB", "llama-3.1-8b", 16)
    assert (plan.num_blocks, plan.bytes_per_block, len(plan.groups)) == (20480, 2**21, 1)
    assert plan.notes == ()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama-3.1-70b", 320 * 1024),
        ("qwen2.5-7b", 56 * 1024),
        ("qwen3-32b", 256 * 1024),
        ("deepseek-v3", 61 * 576 * 2),
        ("gpt-oss-120b", 72 * 1024),
    ],
)
def test_bytes_per_token_of_known_models(name: str, expected: int) -> None:
    assert bytes_per_token(load_model(name)) == expected
    assert bytes_per_token(load_model(name), "fp8") == expected // 2


def test_ranks_divide_heads_and_replicate_the_last() -> None:
    model = load_model("llama-3.1-8b")

    assert [bytes_per_token(model, tp=tp) for tp in (1, 2, 8, 16)] == [
        131072, 65536, 16384, 16384
    ]  # fmt: skip
    assert any("replicated" in note for note in pool_from_memory("1GiB", model.name, 16, 16).notes)


def test_every_rank_keeps_a_whole_latent_vector() -> None:
    model = load_model("deepseek-v3")

    assert bytes_per_token(model, tp=8) == bytes_per_token(model)
    spec = kv_layers(model, 64)["layers.0"]
    assert isinstance(spec, MLAAttentionSpec)
    assert spec.page_size_bytes == 64 * 576 * 2


def test_a_sliding_model_is_one_sliding_group() -> None:
    (spec,) = pool_from_memory("1GiB", "mistral-7b", 16).groups

    assert isinstance(spec, SlidingWindowSpec)
    assert spec.sliding_window == 4096


def test_gemma_27b_wastes_the_room_of_missing_layers() -> None:
    plan = pool_from_memory("20GiB", "gemma-3-27b", 16)

    assert [len(group.layer_names) for group in plan.layer_groups] == [9, 9, 9, 9, 8, 8, 10]
    assert plan.notes[0] == ("group 0 (9 layers) leaves 128 KiB (10%) of each of its blocks empty")


@pytest.mark.parametrize(
    ("name", "kv_dtype", "asked", "used"),
    [
        # vLLM prints "Setting attention block size to 544 tokens" for Qwen 3 Next.
        ("qwen3-next-80b-a3b", "auto", 16, 544),
        ("qwen3-next-80b-a3b", "fp8", 16, 1072),
        ("qwen3-next-80b-a3b", "auto", 1024, 1024),
        ("nemotron-3-nano-30b-a3b", "auto", 16, 2096),
        ("llama-3.1-8b", "auto", 16, 16),
    ],
)
def test_hybrid_models_raise_the_block_size(
    name: str, kv_dtype: str, asked: int, used: int
) -> None:
    model = load_model(name)

    assert attention_block_size(model, asked, kv_dtype) == used
    pages = {spec.page_size_bytes for spec in kv_layers(model, asked, kv_dtype).values()}
    assert len(pages) == 1
    plan = pool_from_memory("40GiB", name, asked, kv_dtype=kv_dtype)
    assert plan.block_size == used
    assert any("became" in note for note in plan.notes) == (asked != used)


def test_recurrent_layers_with_and_without_prefix_caching() -> None:
    model = load_model("qwen3-next-80b-a3b")

    cached = kv_layers(model, 16)["layers.0"]
    plain = kv_layers(model, 16, enable_prefix_caching=False, max_model_len=8192)["layers.0"]

    assert isinstance(cached, MambaSpec)
    assert isinstance(plain, MambaSpec)
    assert (cached.block_size, cached.mamba_cache_mode) == (544, "align")
    assert (plain.block_size, plain.mamba_cache_mode) == (8192, "none")
    assert cached.padding_bytes == plain.padding_bytes == 544 * 2048 - model_state_bytes(1)


def model_state_bytes(tp: int) -> int:
    state = load_model("qwen3-next-80b-a3b").recurrent
    assert state is not None
    return state.page_bytes(tp)


def test_state_bytes_on_ranks() -> None:
    # (16 key heads x 2 x 128 + 32 value heads x 128) channels x 3 tokens, 32 matrices of 128 x 128
    assert model_state_bytes(1) == 8192 * 3 * 2 + 32 * 128 * 128 * 2
    assert model_state_bytes(4) * 4 == model_state_bytes(1)
    with pytest.raises(InputError, match="divisor of 16"):
        model_state_bytes(32)


def test_one_mamba_group_is_copied_to_every_rank() -> None:
    state = RecurrentState(
        kind="mamba2",
        inner_channels=1024,
        num_groups=1,
        channels_per_group=256,
        conv_tokens=3,
        num_heads=16,
        head_elements=64 * 128,
    )

    assert state.page_bytes(4) == (1024 // 4 + 256) * 3 * 2 + 4 * 64 * 128 * 2
    with pytest.raises(InputError, match="divisor of 16"):
        state.page_bytes(3)
    with pytest.raises(InputError, match="divisor of 2"):
        replace(state, num_groups=2).page_bytes(4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("40GiB", "llama-3.1-8b", 0), "block_size: must be at least 1"),
        (("40GiB", "llama-3.1-8b", 16, 3), "tp: the attention heads cannot be divided"),
        (("40GiB", "llama-3.1-8b", 16, 0), "tp: the attention heads"),
        (("40GiB", "qwen2.5-7b", 16, 7), "tp: the key-value heads cannot be divided"),
        (("3MiB", "llama-3.1-8b", 16), "one block takes 2 MiB on each rank"),
        (("0", "llama-3.1-8b", 16), "too little memory for two blocks"),
        (("40", "gpt-5", 16), "no such model config (got gpt-5)"),
        (("lots", "llama-3.1-8b", 16), "kv_memory: not a byte size (got lots)"),
    ],
)
def test_what_a_pool_cannot_be_made_of(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(InputError) as caught:
        pool_from_memory(*arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_a_cache_dtype_that_is_not_modelled(tmp_path: Path) -> None:
    fields = dict(CATALOGUE["llama-3.1-8b"])
    fields["quantization_config"] = {"quant_method": "modelopt", "kv_cache_quant_algo": "NVFP4"}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(fields))

    with pytest.raises(InputError, match=r"kv_dtype.*got nvfp4.*use one of auto"):
        pool_from_memory("40GiB", str(path), 16)
    assert pool_from_memory("40GiB", str(path), 16, kv_dtype="fp8").num_blocks == 40960


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("name", CATALOGUE)
def test_every_catalogue_pool_runs_in_the_engine(name: str, caching: bool) -> None:
    plan = pool_from_memory("64GiB", name, 16, enable_prefix_caching=caching)

    config = EngineConfig(
        num_blocks=plan.num_blocks, kv_cache_groups=plan.groups, enable_prefix_caching=caching
    )

    assert config.scheduler_block_size % plan.block_size == 0
    assert plan.num_blocks == 64 * 2**30 // plan.bytes_per_block


@given(
    st.sampled_from(sorted(CATALOGUE)),
    st.sampled_from((1, 2, 4)),
    st.sampled_from(("auto", "fp8")),
    st.sampled_from((16, 32, 64, 128)),
)
def test_a_block_holds_its_tokens(name: str, tp: int, kv_dtype: str, block_size: int) -> None:
    model = load_model(name)
    heads = {layer.kv_heads for layer in model.layers if layer.kv_heads > 1}
    assume(all(max(count, tp) % min(count, tp) == 0 for count in heads))
    layers = kv_layers(model, block_size, kv_dtype, tp=tp)
    groups = group_layers(layers)

    kept = sum(
        spec.page_size_bytes - spec.padding_bytes
        for spec in layers.values()
        if not isinstance(spec, MambaSpec)
    )
    used = attention_block_size(model, block_size, kv_dtype, tp=tp)
    assert kept == bytes_per_token(model, kv_dtype, tp=tp) * used
    assert block_bytes(groups) * len(groups) >= sum(
        spec.page_size_bytes for spec in layers.values()
    )
