"""Policies in the embedded classes: any keys, any order of calls."""

from __future__ import annotations

import random

import pytest

from kvatlas.engine import BlockPool, EngineConfig, KVCacheManager, Request, Scheduler
from kvatlas.eviction import POLICIES

pytestmark = pytest.mark.variants

NAMES = list(POLICIES)
_BLOCKS = 24


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(2))
def test_any_order_of_calls_keeps_the_books(name: str, seed: int) -> None:
    """GIVEN a pool WHEN blocks come and go in any order THEN all stays right."""
    rng = random.Random(seed)
    pool = BlockPool(_BLOCKS, eviction_policy=name)
    owned: list[list[int]] = []
    keys: dict[int, int] = {}
    for _ in range(250):
        what = rng.random()
        if what < 0.4:
            count = rng.randint(1, 6)
            new = pool.get_new_blocks(count)
            free = _BLOCKS - 1 - len({block for table in owned for block in table})
            assert (new is None) == (count > free)
            if new is not None:
                taken = {block for table in owned for block in table}
                assert len(set(new)) == count and not taken & set(new)
                for block in new:
                    keys.pop(block, None)
                full = rng.randint(0, count)
                fresh = [rng.getrandbits(62) for _ in range(full)]
                pool.cache_full_blocks(new[:full], fresh)
                keys |= dict(zip(new, fresh, strict=False))
                owned.append(new)
        elif what < 0.55 and keys:
            key = rng.choice(list(keys.values()))
            found = pool.get_cached_block(key)
            if found is not None:
                pool.touch(found)
                owned.append(found)
        elif what < 0.9 and owned:
            table = owned.pop(rng.randrange(len(owned)))
            if rng.random() < 0.3:
                rng.shuffle(table)
            pool.free_blocks(reversed(table))
        elif what < 0.97 and keys:
            pool.evict_blocks([block := rng.choice(list(keys))])
            keys.pop(block)
        else:
            assert pool.reset_prefix_cache() == (not owned)
            if not owned:
                keys.clear()
        pool.check()
        for table in owned:
            for block in table:
                assert pool.block(block).block_hash == keys.get(block)


@pytest.mark.parametrize("name", NAMES)
def test_a_manager_and_a_scheduler_take_a_policy(name: str) -> None:
    """GIVEN shared beginnings WHEN a policy evicts THEN managers serve and stay right."""
    config = EngineConfig(num_blocks=12, block_size=4, max_num_seqs=4, eviction_policy=name)
    manager = KVCacheManager(config)
    for i in range(30):
        tokens = [1, 2, 3, 4, *range(10 * (i % 7), 10 * (i % 7) + 9)]
        request = Request(f"r{i}", prompt_token_ids=tokens, max_tokens=4)
        hits, num_hit = manager.get_computed_blocks(request)
        assert manager.allocate_slots(request, len(tokens) - num_hit, num_hit, hits) is not None
        request.num_computed_tokens = len(tokens)
        manager.check()
        manager.free(request)
        manager.check()
    scheduler = Scheduler(config)
    for i in range(12):
        tokens = [1, 2, 3, 4, *range(10 * (i % 5), 10 * (i % 5) + 9)]
        scheduler.add_request(Request(f"s{i}", prompt_token_ids=tokens, max_tokens=3))
    finished = 0
    while scheduler.has_requests():
        output = scheduler.schedule()
        finished += len(scheduler.update_from_output(output, dict.fromkeys(output.sampling, 7)))
        scheduler.check()
    assert finished == 12
