"""Our BlockPool against vLLM's, operation by operation, with duplicates, evictions and resets."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm.v1.core.block_pool", reason="the real vLLM is not installed here")

from vllm.v1.core.block_pool import BlockPool as RealBlockPool

from kvatlas.engine import BlockPool

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

OPERATIONS, GROUPS, KEYS = 1500, 3, 40


class PoolPair:
    """Both pools, and who owns what."""

    def __init__(self, rng: Random, num_blocks: int, caching: bool) -> None:
        self.rng = rng
        self.real: Any = RealBlockPool(num_blocks, caching, hash_block_size=4)
        self.ours = BlockPool(num_blocks, caching, num_groups=GROUPS)
        self.owned: list[int] = []  # a block stands here once per owner

    def step(self) -> None:
        """Do one random operation on both pools and compare everything."""
        operations = (self._get, self._free, self._cache, self._find_and_touch, self._evict)
        self.rng.choices(operations, weights=(4, 4, 4, 3, 1))[0]()
        if not self.owned or self.rng.random() < 0.01:
            assert self.ours.reset_prefix_cache() == self.real.reset_prefix_cache()
        self.compare()

    def compare(self) -> None:
        """Compare the free queue and every block."""
        real = self.real.blocks
        queue = [b.block_id for b in self.real.free_block_queue.get_all_free_blocks()]
        assert self.ours.get_all_free_blocks() == queue
        assert self.ours.get_num_free_blocks() == self.real.get_num_free_blocks()
        assert self.ours.get_usage() == self.real.get_usage()
        for block in range(1, len(real)):
            ours = self.ours.block(block)
            assert ours.ref_cnt == real[block].ref_cnt
            assert (ours.block_hash is None) == (real[block].block_hash is None)
            assert ours.is_null == real[block].is_null

    def _get(self) -> None:
        count = self.rng.randrange(1, 9)
        ours = self.ours.get_new_blocks(count)
        if count > self.real.get_num_free_blocks():
            assert ours is None
            return
        assert ours == [block.block_id for block in self.real.get_new_blocks(count)]
        self.owned += ours

    def _free(self) -> None:
        count = min(len(self.owned), self.rng.randrange(1, 9))
        blocks = list(dict.fromkeys(self.rng.sample(self.owned, count)))
        for block in blocks:
            self.owned.remove(block)
        blocks += [0] * (self.rng.random() < 0.2)  # null blocks are passed over
        self.ours.free_blocks(blocks)
        self.real.free_blocks([self.real.blocks[block] for block in blocks])

    def _cache(self) -> None:
        fresh = {block for block in self.owned if self.real.blocks[block].block_hash is None}
        count = min(len(fresh), self.rng.randrange(1, 5))
        if count == 0 or not self.ours.enable_caching:
            return
        blocks = self.rng.sample(sorted(fresh), count)
        keys = [self.rng.randrange(KEYS) for _ in blocks]
        group = self.rng.randrange(GROUPS)
        self.ours.cache_full_blocks(blocks, keys, group)
        self.real.cache_full_blocks(
            request=SimpleNamespace(block_hashes=[_hash(key) for key in keys]),
            blocks=[self.real.blocks[block] for block in blocks],
            num_cached_blocks=0,
            num_full_blocks=count,
            block_size=4,
            kv_cache_group_id=group,
        )

    def _find_and_touch(self) -> None:
        key = self.rng.randrange(KEYS)
        groups = self.rng.sample(range(GROUPS), self.rng.choice((1, 1, 2)))
        ours = self.ours.get_cached_block(key, groups)
        found = self.real.get_cached_block(_hash(key), groups)
        assert ours == (found and [block.block_id for block in found])
        if ours and self.rng.random() < 0.7:
            self.ours.touch(ours)
            self.real.touch(found)
            self.owned += ours

    def _evict(self) -> None:
        blocks = self.rng.sample(range(1, self.ours.num_gpu_blocks), 2)
        self.ours.evict_blocks(blocks)
        self.real.evict_blocks(set(blocks))


def _hash(key: int) -> bytes:
    return key.to_bytes(32, "little")


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("num_blocks", [4, 20, 70])
def test_every_operation_leaves_the_same_pool(num_blocks: int, caching: bool) -> None:
    pair = PoolPair(Random(f"pool/{num_blocks}/{caching}"), num_blocks, caching)
    for _ in range(OPERATIONS):
        pair.step()
    pair.ours.check()
