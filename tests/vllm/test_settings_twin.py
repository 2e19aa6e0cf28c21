"""What our settings derive against what vLLM derives from the same: sizes, caps, refusals."""

from __future__ import annotations

from random import Random

import pytest

pytest.importorskip("vllm.v1.core.kv_cache_utils", reason="the real vLLM is not installed here")

from groups import FAMILIES, has_sparse
from real import configured, real_kv_cache_config, real_scheduler
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.kv_cache_utils import resolve_kv_cache_block_sizes

from kvatlas.engine import EngineConfig
from kvatlas.errors import InputError

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

SEEDS = 25


def draw(family: str, seed: int) -> EngineConfig:
    """Return random settings of a family."""
    rng = Random(f"settings/{family}/{seed}")
    specs, caching = FAMILIES[family](rng, rng.choice((1, 2, 3, 4, 8, 16)))
    return EngineConfig(
        num_blocks=rng.randrange(10, 5000),
        kv_cache_groups=specs,
        enable_prefix_caching=caching and rng.random() < 0.8,
        max_num_batched_tokens=rng.choice((16, 100, 8192)),
        max_model_len=rng.choice((50, 4096, 131072)),
        watermark=rng.choice((0.0, 0.01, 0.123)),
        async_scheduling=rng.random() < 0.5,
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_derived_sizes_are_vllms(family: str) -> None:
    for seed in range(SEEDS):
        config = draw(family, seed)
        sizes = resolve_kv_cache_block_sizes(real_kv_cache_config(config), configured(config))
        assert (config.scheduler_block_size, config.resolved_hash_block_size) == sizes, config
        assert config.max_in_flight_tokens == configured(config).max_in_flight_tokens
        manager = real_scheduler(config).kv_cache_manager
        assert manager.watermark_blocks == int(config.watermark * config.num_blocks)
        for spec, real in zip(config.groups, manager.coordinator.single_type_managers, strict=True):
            cap = spec.admission_cap(config.max_in_flight_tokens, config.max_model_len)
            assert cap == real.max_admission_blocks_per_request, config


@pytest.mark.parametrize("family", FAMILIES)
def test_what_vllm_refuses_is_refused(family: str) -> None:
    refused = 0
    for seed in range(SEEDS):
        config = draw(family, seed)
        if len(config.groups) == 1 or not config.enable_prefix_caching:
            continue
        for hash_block in (1, 2, 3, 5, 16):
            try:
                with_hash = config.with_(hash_block_size=hash_block)
            except InputError:
                refused += 1
                continue
            sizes = resolve_kv_cache_block_sizes(
                real_kv_cache_config(with_hash), configured(with_hash)
            )
            assert sizes[1] == with_hash.resolved_hash_block_size, with_hash
    assert refused > 0 or len(draw(family, 0).groups) == 1 or family == "full+mamba uncached"


@pytest.mark.parametrize("family", ["full+window", "window", "full+mamba", "coprime sizes"])
def test_retention_is_refused_where_vllm_refuses_it(family: str) -> None:
    for seed in range(SEEDS):
        config = draw(family, seed)
        if not config.enable_prefix_caching:
            continue
        assert has_sparse(config.groups)
        wrong = config.scheduler_block_size + 1
        if wrong % config.scheduler_block_size:
            with pytest.raises(InputError, match="prefix_cache_retention_interval"):
                config.with_(prefix_cache_retention_interval=wrong)
        right = 3 * config.scheduler_block_size
        assert real_scheduler(config.with_(prefix_cache_retention_interval=right)) is not None


@pytest.mark.parametrize(
    "setting", [{"hash_block_size": 8}, {"prefix_cache_retention_interval": 16}]
)
def test_settings_without_effect_are_refused(setting: dict[str, int]) -> None:
    # GIVEN one full-attention group WHEN a setting could only be ignored THEN both sides say so
    config = EngineConfig(num_blocks=100, block_size=16)
    with pytest.raises(InputError):
        config.with_(**setting)
    real, real_config = real_kv_cache_config(config), configured(config)
    real.prefix_cache_retention_interval = setting.get("prefix_cache_retention_interval", 0)
    real_config.cache_config.prefix_match_unit = setting.get("hash_block_size")
    with pytest.raises(ValueError, match=r"prefix_match_unit|prefix_cache_retention_interval"):
        resolve_kv_cache_block_sizes(real, real_config)
        KVCacheManager(real, config.max_model_len, scheduler_block_size=16, hash_block_size=16)
