"""Groups of random layer mixes: ours against the real vLLM's, field by field."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

pytest.importorskip("vllm.v1.core.kv_cache_utils", reason="the real vLLM is not installed here")

from real_layers import (
    Layer,
    as_ours,
    draw_layers,
    real_block_sizes,
    real_groups,
)

from kvatlas.engine import EngineConfig, specs
from kvatlas.engine.layers import LayerGroup, block_bytes, group_layers, num_blocks_for
from kvatlas.errors import InputError

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

CHUNKS, MIXES = 10, 200


def _kind(spec: specs.KVCacheSpec) -> tuple[str, int]:
    match spec:
        case specs.MLAAttentionSpec():
            return "mla", 0
        case specs.FullAttentionSpec():
            return "full", 0
        case specs.SlidingWindowSpec(sliding_window=tokens):
            return "sliding", tokens
        case specs.ChunkedLocalAttentionSpec(attention_chunk_size=tokens):
            return "chunked", tokens
    return "mamba", 0


def _words(group: LayerGroup) -> tuple[tuple[str, ...], str, int, int, int]:
    spec = group.spec
    kind, window = _kind(spec)
    return group.layer_names, kind, spec.block_size, spec.page_size_bytes, window


def _ours(layers: dict[str, Layer]) -> tuple[LayerGroup, ...] | None:
    try:
        return group_layers({name: as_ours(layer) for name, layer in layers.items()})
    except InputError:
        return None


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_mixes_make_the_groups_of_the_real_vllm(chunk: int) -> None:
    rng = Random(f"layers {chunk}")
    seen: Counter[str] = Counter()
    for number in range(MIXES):
        layers = draw_layers(rng)
        memory = rng.randrange(1 << rng.randint(20, 40))
        expected = real_groups(layers, memory)
        groups = _ours(layers)
        if isinstance(expected, str):
            assert groups is None, (number, expected, layers)
            seen[expected] += 1
            continue
        answer, real = expected
        assert groups is not None, (number, layers)
        assert tuple(map(_words, groups)) == answer.groups, (number, layers)
        assert block_bytes(groups) == answer.bytes_per_block, (number, layers)
        assert num_blocks_for(max(memory, block_bytes(groups)), groups) == answer.num_blocks
        seen[f"{min(len(groups), 4)} groups"] += 1
        _compare_block_sizes(rng, groups, real, seen)
    assert seen["1 groups"] and seen["2 groups"] and seen["4 groups"], seen
    assert seen["NotImplementedError"], seen


def _compare_block_sizes(
    rng: Random, groups: tuple[LayerGroup, ...], real: list[object], seen: Counter[str]
) -> None:
    caching = rng.random() < 0.8
    unit = rng.choice((None, None, 16, 32)) if len(groups) > 1 else None
    expected = real_block_sizes(real, caching, unit)
    try:
        config = EngineConfig(
            num_blocks=100,
            kv_cache_groups=tuple(group.spec for group in groups),
            hash_block_size=unit,
            enable_prefix_caching=caching,
        )
    except InputError:
        # Our engine models fewer mixes than vLLM groups; it may refuse, never differ.
        seen["refused"] += 1
        return
    assert (config.scheduler_block_size, config.resolved_hash_block_size) == expected
    seen["block sizes"] += 1
