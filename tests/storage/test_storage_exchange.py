"""Blocks between pools of every pair of layouts, and over buffers."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
import xxhash
from naive_storage import Naive

from kvatlas.storage import LAYOUTS, KVCacheMemoryPool

SHAPE: dict[str, Any] = {"num_layers": 3, "block_size": 4, "kv_heads": 2, "head_size": 6}


@pytest.mark.parametrize("target_layout", LAYOUTS)
@pytest.mark.parametrize("source_layout", LAYOUTS)
def test_any_layout_to_any_other(source_layout: str, target_layout: str) -> None:
    # GIVEN two pools of other sizes and layouts WHEN blocks go from the one to the other
    rng = Random(3)
    source = Naive(KVCacheMemoryPool(20, **SHAPE, layout=source_layout))
    target = Naive(KVCacheMemoryPool(13, **SHAPE, layout=target_layout))
    source.fill(1)
    target.fill(2)
    for count in (0, 1, 5, 13):
        froms = [rng.randrange(20) for _ in range(count)]
        tos = rng.sample(range(13), count)
        source.pool.copy_to(target.pool, froms, tos)
        for frm, to in zip(froms, tos, strict=True):
            target.blocks[to] = source.blocks[frm].copy()
        # THEN every byte of both is right, and digests agree across layouts
        source.agree()
        target.agree()
        assert source.pool.digest(froms).tolist() == target.pool.digest(tos).tolist()
    source.pool.check()
    target.pool.check()


@pytest.mark.parametrize("layout", ["block", "layer", "cross-layer"])
def test_rows_fit_every_layout_but_head(layout: str) -> None:
    # GIVEN rows of a pool WHEN another layout of the same order of slots and heads reads them
    source = Naive(KVCacheMemoryPool(6, **SHAPE, layout="block"))
    source.fill(0)
    target = KVCacheMemoryPool(6, **SHAPE, layout=layout)
    target.scatter([5, 1], source.pool.gather([0, 4]))
    # THEN the content has arrived
    assert target.digest([5, 1]).tolist() == source.pool.digest([0, 4]).tolist()


def test_gather_into_a_buffer_of_ones_own() -> None:
    pool = KVCacheMemoryPool(6, **SHAPE)
    Naive(pool).fill(0)
    out = np.zeros((2, pool.bytes_per_block), np.uint8)
    assert pool.gather([3, 1], out=out) is out
    assert (out == pool.gather([3, 1])).all()


def test_equal_content_has_equal_digests_and_other_content_others() -> None:
    # GIVEN blocks that differ in one bit each WHEN they are digested
    pool = KVCacheMemoryPool(65, num_layers=1, block_size=1, kv_heads=1, head_size=1)
    numbers = pool.memory.bytes.view(np.uint64)
    numbers[1:] = np.uint64(1) << np.arange(64, dtype=np.uint64)
    # THEN all digests differ, and a copy's is that of its source
    assert len(set(pool.digest(range(65)).tolist())) == 65
    pool.copy([17], [40])
    assert len(set(pool.digest([17, 40]).tolist())) == 1


@pytest.mark.parametrize("head_size", [*range(1, 20), 33])
def test_digests_are_xxhash(head_size: int) -> None:
    # GIVEN blocks of 4, 8, 12, ... bytes WHEN they are digested THEN by the published function
    pool = KVCacheMemoryPool(
        3, num_layers=1, block_size=1, kv_heads=1, head_size=head_size, dtype="fp16"
    )
    naive = Naive(pool)
    naive.fill(head_size)
    for block in range(3):
        held = naive.blocks[block].tobytes()
        assert int(pool.digest([block])[0]) == xxhash.xxh64_intdigest(held)
