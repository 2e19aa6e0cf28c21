"""Groups of layers: vLLM's published examples, and what must hold for any mix."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvatlas.engine.config import EngineConfig
from kvatlas.engine.layers import (
    LayerGroup,
    block_bytes,
    group_layers,
    num_blocks_for,
    padding_bytes_per_block,
    unify_page_sizes,
)
from kvatlas.engine.specs import (
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    KVCacheSpec,
    MambaSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
)
from kvatlas.errors import InputError


def full(page: int = 1024, block_size: int = 16, **more: Any) -> FullAttentionSpec:
    return FullAttentionSpec(block_size=block_size, page_size_bytes=page, **more)


def sliding(page: int = 1024, block_size: int = 16, window: int = 128) -> SlidingWindowSpec:
    return SlidingWindowSpec(block_size=block_size, page_size_bytes=page, sliding_window=window)


def mamba(page: int = 1024, block_size: int = 16, **more: Any) -> MambaSpec:
    return MambaSpec(block_size=block_size, page_size_bytes=page, **more)


def mla(page: int = 1024, block_size: int = 16) -> MLAAttentionSpec:
    return MLAAttentionSpec(block_size=block_size, page_size_bytes=page)


def named(*specs: KVCacheSpec) -> dict[str, KVCacheSpec]:
    return {f"layers.{index}": spec for index, spec in enumerate(specs)}


def sizes(groups: tuple[LayerGroup, ...]) -> list[int]:
    return [len(group.layer_names) for group in groups]


def test_a_model_of_equal_layers_is_one_group() -> None:
    groups = group_layers(named(*[full(2048)] * 32))

    assert sizes(groups) == [32]
    assert groups[0].spec == full(2048)
    assert block_bytes(groups) == 32 * 2048
    assert num_blocks_for(10 * 32 * 2048 + 1, groups) == 10


def test_a_model_without_cache_has_one_block() -> None:
    assert group_layers({}) == ()
    assert num_blocks_for(2**40, ()) == 1


def test_full_layers_with_different_heads_share_one_table() -> None:
    layers = named(full(1024, tag="a"), full(4096, tag="b"), full(1024, tag="a"))

    (group,) = group_layers(layers)

    assert group.spec.page_size_bytes == 6144
    assert group.spec.block_size == 16
    assert block_bytes((group,)) == 6144
    assert group.layer_specs == tuple(layers.values())


def test_every_nth_layer_goes_to_a_group() -> None:
    # GIVEN gemma's five sliding layers per full one
    layers = named(*[full() if i % 6 == 5 else sliding() for i in range(12)])

    groups = group_layers(layers)

    assert sizes(groups) == [2, 2, 2, 2, 2, 2]
    assert [group.layer_names for group in groups[:2]] == [
        ("layers.0", "layers.6"),
        ("layers.1", "layers.7"),
    ]
    assert groups[-1].spec == full()
    assert padding_bytes_per_block(groups) == (0,) * 6


@pytest.mark.parametrize(
    ("num_full", "num_sliding", "expected"),
    [
        (12, 12, [12, 12]),
        (13, 12, [13, 12]),  # gpt-oss with a draft layer: padded up to 13
        (2, 3, [2, 2, 1]),  # 3 is not below 1.5 x 2
        (10, 14, [10, 14]),
        (10, 15, [10, 8, 7]),
        (10, 30, [10, 10, 10, 10]),
    ],
)
def test_group_size_is_the_fewest_layers_unless_counts_are_close(
    num_full: int, num_sliding: int, expected: list[int]
) -> None:
    groups = group_layers(named(*[full()] * num_full, *[sliding()] * num_sliding))

    assert sizes(groups) == expected
    widest = max(expected)
    assert padding_bytes_per_block(groups) == tuple(1024 * (widest - n) for n in expected)


def test_a_smaller_page_that_divides_multiplies_its_block_size() -> None:
    unified = unify_page_sizes(named(full(4096), sliding(1024)))

    assert unified["layers.1"] == sliding(4096, block_size=64)
    assert unified["layers.0"] == full(4096)


def test_a_smaller_page_that_does_not_divide_is_padded() -> None:
    unified = unify_page_sizes(named(full(4096), sliding(3000)))

    spec = unified["layers.1"]
    assert (spec.block_size, spec.page_size_bytes, spec.padding_bytes) == (16, 4096, 1096)


def test_a_mamba_page_is_always_padded() -> None:
    unified = unify_page_sizes(named(full(4096), mamba(1024), mamba(1000, padding_bytes=24)))

    assert [unified[f"layers.{i}"].padding_bytes for i in (1, 2)] == [3072, 3120]
    assert [unified[f"layers.{i}"].block_size for i in (1, 2)] == [16, 16]


def test_padding_counts_pages_and_missing_layers() -> None:
    groups = group_layers(named(full(4096), full(4096), mamba(4000), mamba(4000), mamba(4000)))

    assert sizes(groups) == [2, 2, 1]
    assert block_bytes(groups) == 8192
    assert padding_bytes_per_block(groups) == (0, 192, 4192)


def test_an_mla_page_cannot_be_padded() -> None:
    with pytest.raises(InputError, match=r"layers\.1.*neither multiplied nor padded"):
        group_layers(named(full(4096), mla(3000), mamba(10)))


def test_windows_beside_mla_become_full_attention() -> None:
    groups = group_layers(named(sliding(4096, window=512), mla(3000), sliding(4096, window=64)))

    assert sizes(groups) == [3]
    assert all(isinstance(spec, FullAttentionSpec) for spec in groups[0].layer_specs)
    assert block_bytes(groups) == 2 * 4096 + 3000


def test_a_padded_page_is_not_multiplied() -> None:
    with pytest.raises(InputError, match="padded page"):
        group_layers(named(sliding(4096), full(1024, padding_bytes=24)))


def test_layers_without_bytes_are_refused() -> None:
    with pytest.raises(InputError, match="no byte"):
        group_layers(named(FullAttentionSpec(block_size=16)))


def test_groups_are_what_the_engine_takes() -> None:
    groups = group_layers(named(full(4096), sliding(1024), sliding(1024)))

    config = EngineConfig(num_blocks=10, kv_cache_groups=tuple(group.spec for group in groups))

    assert config.scheduler_block_size == 64
    assert config.resolved_hash_block_size == 16


PAGES = st.sampled_from((1024, 1500, 2048, 4096, 8192))
BLOCKS = st.sampled_from((16, 32))
SPECS = st.one_of(
    st.builds(full, PAGES, BLOCKS),
    st.builds(sliding, PAGES, BLOCKS, st.sampled_from((128, 512))),
    st.builds(
        ChunkedLocalAttentionSpec,
        block_size=BLOCKS,
        page_size_bytes=PAGES,
        attention_chunk_size=st.just(256),
    ),
    st.builds(mamba, PAGES, BLOCKS),
)


@given(st.lists(SPECS, min_size=1, max_size=4), st.data())
def test_any_mix_keeps_every_layer_once_and_every_byte(
    kinds: list[KVCacheSpec], data: st.DataObject
) -> None:
    layers = named(*data.draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=30)))

    groups = group_layers(layers)

    names = [name for group in groups for name in group.layer_names]
    assert sorted(names) == sorted(layers)
    used = {name: spec.page_size_bytes / spec.block_size for name, spec in layers.items()}
    for group in groups:
        assert list(group.layer_names) == [name for name in layers if name in group.layer_names]
        for name, spec in zip(group.layer_names, group.layer_specs, strict=True):
            assert type(spec) is type(layers[name])
            if not isinstance(spec, MambaSpec):
                kept = spec.page_size_bytes - spec.padding_bytes
                assert kept == used[name] * spec.block_size
    if len(groups) > 1:
        assert len({spec.page_size_bytes for group in groups for spec in group.layer_specs}) == 1
    assert all(padding >= 0 for padding in padding_bytes_per_block(groups))
    memory = data.draw(st.integers(0, 2**24))
    blocks = num_blocks_for(memory, groups)
    assert blocks * block_bytes(groups) <= memory < (blocks + 1) * block_bytes(groups)
