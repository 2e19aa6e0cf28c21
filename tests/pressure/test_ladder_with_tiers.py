"""The ladder over the product's own tiers, host and disk: the same promises, with real bytes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from numpy.typing import ArrayLike
from test_oom_handler import SIZE, make, prompts, require_all_right, run
from tiny_model import Engine

from kvatlas.defrag import MemoryDefragmenter
from kvatlas.engine import Request
from kvatlas.errors import InputError
from kvatlas.jit import COMPILED
from kvatlas.pressure import OOMHandler
from kvatlas.tiers import SwapManager


@pytest.mark.parametrize("policy", ["lru", pytest.param("fifo", marks=pytest.mark.variants)])
@pytest.mark.parametrize("seed", range(6 if COMPILED else 1))
def test_host_and_disk_bring_back_what_went(seed: int, policy: str, tmp_path: Path) -> None:
    """GIVEN a small host tier over a disk WHEN memory is short THEN every answer is right."""
    rng = random.Random(seed)
    plain = make(rng.randrange(16, 30), enable_prefix_caching=seed % 3 > 0)
    storage, manager = plain.storage, plain.manager
    swap = SwapManager(
        storage,
        host_bytes=rng.choice([4, 10, 500]) * storage.bytes_per_block,
        policy=policy,
        disk_bytes=rng.choice([0, 300]) * storage.bytes_per_block,
        disk_path=tmp_path / "blocks",
    )
    handler = OOMHandler(manager, swap=swap, defragmenter=MemoryDefragmenter(manager, storage))
    engine = Engine(manager, handler, storage, contiguous=lambda r: r.request_id.endswith("0"))
    requests = prompts(rng, 20)
    run(engine, requests)
    require_all_right(engine, requests)
    swap.check()
    swap.close()
    stats = handler.stats
    assert stats.swaps + stats.preemptions == sum(r.num_preemptions for r in requests)
    assert stats.restored_blocks * SIZE <= sum(r.num_tokens for r in requests) * 10


def test_swapping_out_saves_computing(tmp_path: Path) -> None:
    """GIVEN the same load WHEN there is a host tier THEN fewer tokens are computed again."""
    computed = {}
    for room in (0, 1000):
        engine = make(16, room=0, enable_prefix_caching=False)
        swap = None
        if room:
            swap = SwapManager(engine.storage, host_bytes=room * engine.storage.bytes_per_block)
        engine.handler = OOMHandler(engine.manager, swap=swap)
        requests = prompts(random.Random(9), 20)
        engine.waiting, tokens = list(requests), 0
        while engine.waiting or engine.handler.running:
            tokens += engine.step()
        require_all_right(engine, requests)
        computed[room] = tokens
    assert computed[1000] < 0.95 * computed[0]


class _Failing(SwapManager):
    """A tier that cannot be read for a while."""

    broken = True

    def swap_in(self, keys: ArrayLike, block_ids: ArrayLike) -> None:
        if self.broken:
            raise InputError("the file cannot be used", field="disk_path")
        super().swap_in(keys, block_ids)


def test_what_was_not_brought_back_is_not_cached() -> None:
    """GIVEN hits on both levels WHEN the tier fails THEN only the device's stay."""
    engine = make(30)
    swap = _Failing(engine.storage, host_bytes=20 * engine.storage.bytes_per_block)
    handler, prompt = OOMHandler(engine.manager, swap=swap), list(range(4 * SIZE + 1))
    first = Request("first", prompt[: 2 * SIZE + 1], 4)
    assert handler.admit(first) is not None
    first.num_computed_tokens = first.num_tokens
    handler.finish(first)
    later = Request("later", prompt, 4)
    engine.manager.get_computed_blocks(later)  # names its blocks
    swap.swap_out(later.block_keys[2:4], [20, 21])
    handler.new_step()
    with pytest.raises(InputError, match="cannot be used"):
        handler.admit(later)
    handler.check()
    assert handler.running == ()
    assert engine.manager.usage == 0.0
    assert engine.manager.get_computed_blocks(Request("other", prompt, 4))[1] == 2 * SIZE
    swap.broken = False
    handler.new_step()
    got = handler.admit(later)
    assert got is not None
    assert (got.hit_tokens, got.restored_tokens, got.new_tokens) == (2 * SIZE, 2 * SIZE, 1)


def test_a_reset_reaches_the_tier() -> None:
    """GIVEN copies on the host WHEN the prefix cache is reset THEN nobody finds them."""
    engine = make(30)
    swap = SwapManager(engine.storage, host_bytes=20 * engine.storage.bytes_per_block)
    handler, prompt = OOMHandler(engine.manager, swap=swap), list(range(4 * SIZE + 1))
    request = Request("old", prompt, 4)
    got = handler.admit(request)
    assert got is not None
    swap.swap_out(request.block_keys[:4], got.block_ids[0][:4])
    assert not handler.reset_prefix_cache()
    assert swap.lookup(request.block_keys[:4]) == 4
    handler.finish(request)
    assert handler.reset_prefix_cache()
    handler.new_step()
    again = handler.admit(Request("new", prompt, 4))
    assert again is not None
    assert (again.hit_tokens, again.restored_tokens) == (0, 0)
