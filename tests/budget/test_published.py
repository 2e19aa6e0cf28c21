"""Parameters and bytes per token against what was published."""

from __future__ import annotations

import pytest

from kvatlas.budget import BudgetRequest, budget, find_device
from kvatlas.model import CATALOGUE

PUBLISHED = {
    # As the checkpoints' own safetensors headers count them, language model only.
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-8b": 8_190_735_360,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "phi-4": 14_659_507_200,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
    "deepseek-v2-lite": 15_706_484_224,
}
NAMED = {
    # As the makers' own texts say it, in billions, and how exactly.
    "llama-4-scout": (109, 0.02),
    "llama-4-maverick": (400, 0.01),
    "deepseek-v3": (671, 0.001),
    "kimi-k2": (1026, 0.001),
    "glm-4.5-air": (106, 0.01),
    "gpt-oss-20b": (20.9, 0.002),
    "gpt-oss-120b": (116.8, 0.002),
    "nemotron-3-nano-30b-a3b": (31.6, 0.002),
    "qwen3-next-80b-a3b": (80, 0.01),
    "minimax-m2.5": (229, 0.005),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_model_has_its_published_parameters(name: str) -> None:
    found = budget(BudgetRequest(model=name, device=find_device("2TB")))

    assert found.parameters == PUBLISHED[name]
    assert found.parameters == sum(found.part_parameters.values())


@pytest.mark.parametrize("name", NAMED)
def test_a_model_is_as_large_as_its_makers_say(name: str) -> None:
    billions, tolerance = NAMED[name]
    found = budget(BudgetRequest(model=name, device=find_device("2TB")))

    assert found.parameters / 1e9 == pytest.approx(billions, rel=tolerance)


@pytest.mark.parametrize(
    ("name", "token_bytes", "block_tokens", "block_bytes"),
    [
        ("llama-2-13b", 800 * 1024, 16, 12.5 * 2**20),
        ("llama-2-7b", 512 * 1024, 16, 8 * 2**20),
        ("llama-3.1-8b", 128 * 1024, 16, 2 * 2**20),
        ("deepseek-v3", 70272, 64, 64 * 70272),  # 68.6 KiB
        ("kimi-k2", 70272, 64, 64 * 70272),
    ],
)
def test_a_token_takes_what_arithmetic_says(
    name: str, token_bytes: int, block_tokens: int, block_bytes: float
) -> None:
    found = budget(BudgetRequest(model=name, device=find_device("2TB")))

    assert found.token_bytes == token_bytes
    assert found.block_size == block_tokens
    assert found.tightest.block_bytes == block_bytes


@pytest.mark.parametrize(("kv_bytes", "blocks"), [(45 << 30, 3686), (50 << 30, 4096)])
def test_llama_2_13b_has_thousands_of_blocks_and_not_ninety_thousand(
    kv_bytes: int, blocks: int
) -> None:
    found = budget(
        BudgetRequest(
            model="llama-2-13b", device=find_device("a100"), kv_cache_memory_bytes=kv_bytes
        )
    )

    assert found.pool.num_blocks == blocks


def test_a_sliding_window_stops_growing() -> None:
    # GIVEN Mistral's window of 4,096 tokens WHEN requests are longer THEN blocks are the window's
    found = budget(
        BudgetRequest(model="mistral-7b", device=find_device("h100"), max_num_batched_tokens=2048)
    )
    most = -(-(4096 - 1 + 2 * 2048) // 16) + 1

    assert found.pool.blocks_per_request(1000) == -(-1000 // 16) + 1
    assert found.pool.blocks_per_request(20000) == most
    assert found.pool.blocks_per_request(32768) == most


def test_gpt_oss_pays_full_blocks_for_every_second_layer_only() -> None:
    found = budget(BudgetRequest(model="gpt-oss-20b", device=find_device("h100")))
    full = -(-131072 // 16)
    window = -(-min(128 - 1 + 2 * 8192, 131072) // 16) + 1

    assert [group.kind for group in found.groups] == ["sliding", "full"]
    assert found.pool.blocks_per_request(131072) == full + window


def test_a_hybrid_model_says_what_it_pads() -> None:
    found = budget(BudgetRequest(model="nemotron-3-nano-30b-a3b", device=find_device("h200")))
    kinds = [group.kind for group in found.groups]

    assert kinds == ["recurrent"] * 4 + ["full"]
    assert found.block_size == 2096
    assert [group.layers for group in found.groups] == [6, 6, 6, 5, 6]
    # A state is smaller than an attention page of 2,096 tokens, and one group lacks a layer.
    state = 23 * 64 // 23 * (64 * 128 * 4) + (64 * 64 + 2 * 8 * 128) * 3 * 2
    page = 2096 * 2 * 128 * 2 * 2
    assert found.groups[0].padding_bytes == 6 * (page - state)
    assert found.groups[3].padding_bytes == 6 * page - 5 * state
    assert found.groups[4].padding_bytes == 0
    assert found.pool.blocks_per_request(10_000) == 4 * 2 + -(-10_000 // 2096)


def test_every_model_of_the_catalogue_has_a_budget() -> None:
    assert len(CATALOGUE) >= 25
    for name in CATALOGUE:
        found = budget(BudgetRequest(model=name, device=find_device("4TB")))
        assert found.pool.num_blocks > 1000, name
        found.tightest.waterfall.check()
