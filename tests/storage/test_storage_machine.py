"""Every layout under random operations holds, byte for byte, what the naive model holds."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from naive_storage import Naive, random_operation

from kvatlas.storage import LAYOUTS, KVCacheMemoryPool

SHAPES: tuple[dict[str, Any], ...] = (
    {"num_layers": 3, "block_size": 4, "kv_heads": 2, "head_size": 8, "dtype": "float32"},
    {"num_layers": 1, "block_size": 1, "kv_heads": 1, "head_size": 1, "dtype": "float16"},
    {"num_layers": 2, "block_size": 3, "kv_heads": 5, "head_size": 7, "dtype": "fp16"},
)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("zero_on_free", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_random_operations(layout: str, zero_on_free: bool, seed: int) -> None:
    # GIVEN a small pool full of random bytes WHEN operations come at random
    rng = Random(seed)
    pool = KVCacheMemoryPool(
        rng.choice((1, 2, 9, 24)), **rng.choice(SHAPES), layout=layout, zero_on_free=zero_on_free
    )
    pool.check()
    naive = Naive(pool)
    naive.fill(seed)
    for _ in range(60):
        random_operation(rng, naive)
        # THEN every byte is where the model has it, and the books are right
        naive.agree()
        pool.check()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_views_share_the_memory(layout: str) -> None:
    # GIVEN a pool WHEN one number is written through a layer, a key or a value
    pool = KVCacheMemoryPool(5, num_layers=2, block_size=4, kv_heads=3, head_size=2, layout=layout)
    pool.layers[1][3, 0, 2, 1, 0] = 7.0
    pool.value(0)[4, 3, 2, 1] = -2.5
    # THEN the others see it, and exactly eight bytes of the memory are not zero
    assert pool.key(1)[3, 2, 1, 0] == 7.0
    assert pool.layers[0][4, 1, 3, 2, 1] == -2.5
    assert pool.key(0).shape == pool.value(1).shape == (5, 4, 3, 2)
    assert int((pool.memory.bytes.view("float32") != 0).sum()) == 2
    assert pool.memory.bytes.nbytes == pool.total_bytes == 5 * 2 * 2 * 4 * 3 * 2 * 4


def test_bytes_are_counted_to_the_last() -> None:
    # GIVEN a pool of 96-byte blocks that zeroes on free
    sizes: dict[str, Any] = {"num_layers": 1, "block_size": 3, "kv_heads": 2, "head_size": 2}
    pool = KVCacheMemoryPool(10, **sizes, zero_on_free=True)
    other = KVCacheMemoryPool(4, **sizes, layout="head")
    size = pool.bytes_per_block
    assert size == 96
    # WHEN each operation runs once
    pool.copy([0, 0], [1, 2])
    pool.move([1, 2, 3, 4, 5], [2, 1, 6, 4, 3])  # a cycle, a chain of two, one that stays
    pool.copy_to(other, [1], [0])
    pool.scatter([7, 8, 9], pool.gather([1, 2, 3]))
    pool.free([8, 9])
    pool.zero([7])
    pool.digest([1, 1])
    # THEN the statistics say so, to the byte
    stats = pool.stats()
    assert stats.calls == 8
    assert stats.copied_bytes == 3 * size
    assert (stats.moved_blocks, stats.staged_bytes) == (4, size)
    assert stats.zeroed_bytes == (1 + 2 + 1) * size  # block 5 was left, two freed, one zeroed
    assert stats.gathered_bytes == stats.scattered_bytes == 3 * size
    assert (stats.freed_blocks, stats.digested_blocks) == (2, 2)
    assert (other.stats().received_bytes, other.stats().calls) == (size, 1)
    pool.check()
    other.check()
