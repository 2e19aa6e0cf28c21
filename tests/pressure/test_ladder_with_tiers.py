"""The ladder over the product's own tiers, host and disk: the same promises, with real bytes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from test_oom_handler import SIZE, make, prompts, require_all_right, run
from tiny_model import Engine

from kvatlas.defrag import MemoryDefragmenter
from kvatlas.jit import COMPILED
from kvatlas.pressure import OOMHandler
from kvatlas.tiers import SwapManager


@pytest.mark.parametrize("seed", range(12 if COMPILED else 2))
def test_host_and_disk_bring_back_what_went(seed: int, tmp_path: Path) -> None:
    """GIVEN a small host tier over a disk WHEN memory is short THEN every answer is right."""
    rng = random.Random(seed)
    plain = make(rng.randrange(16, 30), enable_prefix_caching=seed % 3 > 0)
    storage, manager = plain.storage, plain.manager
    swap = SwapManager(
        storage,
        host_bytes=rng.choice([4, 10, 500]) * storage.bytes_per_block,
        policy=rng.choice(["lru", "fifo"]),
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
