"""`LazyDeallocator` against a list of who is due when."""

from __future__ import annotations

import random

import pytest

from kvatlas.engine import EngineConfig, KVCacheManager, Request
from kvatlas.errors import InputError
from kvatlas.pressure import LazyDeallocator


def manager(blocks: int = 60) -> KVCacheManager:
    return KVCacheManager(
        EngineConfig(num_blocks=blocks, block_size=4, max_num_seqs=16, max_model_len=64)
    )


@pytest.mark.parametrize("seed", range(6))
def test_blocks_come_back_when_said(seed: int) -> None:
    """GIVEN random work WHEN steps go by THEN what is free is what a naive list says."""
    rng = random.Random(seed)
    blocks, steps = manager(), rng.randrange(1, 6)
    lazy = LazyDeallocator(blocks, steps)
    running: list[Request] = []
    due: list[tuple[int, int]] = []  # step, blocks
    held = 0
    for step in range(1, 300):
        back = [count for at, count in due if at < step]
        due = [(at, count) for at, count in due if at >= step]
        held -= sum(back)
        assert lazy.step() == len(back)
        assert blocks.get_num_free_blocks() == 59 - held
        if rng.random() < 0.6 and len(running) + len(lazy) < 14:
            # Nobody shares anything, so that every block has one owner.
            prompt = [step * 1000 + i for i in range(rng.randrange(1, 12))]
            request = Request(f"r{step}", prompt, 1)
            if blocks.allocate_slots(request, len(prompt)) is not None:
                running.append(request)
                held += -(-len(prompt) // 4)
        if running and rng.random() < 0.5:
            done = running.pop(rng.randrange(len(running)))
            count = len(blocks.get_block_ids(done.request_id)[0])
            lazy.free(done)
            due.append((step + steps, count))
        lazy.check()
    assert lazy.flush() == len(due)
    assert len(lazy) == 0
    lazy.check()


def test_in_need_the_oldest_come_back_at_once() -> None:
    """GIVEN three that wait WHEN 20 blocks are needed THEN no more come back than must."""
    blocks = manager(32)
    lazy = LazyDeallocator(blocks, 100)
    for i in range(3):
        request = Request(f"r{i}", [i * 100 + j for j in range(40)], 1)
        assert blocks.allocate_slots(request, 40) is not None
        lazy.free(request)
    assert blocks.get_num_free_blocks() == 1
    assert lazy.hurry(20)
    assert (blocks.get_num_free_blocks(), len(lazy)) == (21, 1)
    assert not lazy.hurry(32)
    assert len(lazy) == 0


def test_misuse_is_one_line() -> None:
    blocks = manager()
    with pytest.raises(InputError, match="at least 1"):
        LazyDeallocator(blocks, 0)
    lazy, request = LazyDeallocator(blocks, 2), Request("a", [1], 1)
    blocks.allocate_slots(request, 1)
    lazy.free(request)
    with pytest.raises(InputError, match="freed twice"):
        lazy.free(request)
