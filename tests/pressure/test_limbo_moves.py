"""Blocks that wait to come back stay where they are when memory is defragmented."""

from __future__ import annotations

import pytest
from streams import small_workload

from kvatlas.defrag import Compact, MemoryDefragmenter
from kvatlas.defrag.books import Books
from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.jit import COMPILED

pytestmark = pytest.mark.variants


@pytest.mark.parametrize("seed", range(8 if COMPILED else 3))
def test_moving_changes_no_decision(seed: int) -> None:
    """GIVEN finished requests in limbo WHEN all is compacted between steps THEN nothing changes."""
    config = EngineConfig(
        num_blocks=60,
        block_size=4,
        max_num_seqs=5,
        max_num_batched_tokens=40,
        max_model_len=128,
        lazy_free_steps=6,
        protect_waiting=2,
    )
    drive = DriveConfig(queue_depth=5)
    still = Replay(small_workload(seed), config, drive).run()
    moved = Replay(small_workload(seed), config, drive)
    mover = MemoryDefragmenter(moved)
    blocks = waiting = pins = 0
    for _ in moved.slices(max_steps=3):
        assert moved.engine.pressure is not None
        waiting += int(moved.engine.pressure.info.limbo_count)
        left = _in_limbo(moved)
        assert Books(moved).pinned()[left].all()
        report = mover.defragment(Compact())
        blocks += 0 if report is None else report.moved_blocks
        moved.check()
        assert _in_limbo(moved) == left
        pins += len(left)
    assert pins > 0
    assert blocks > 0 < waiting
    assert moved.result().decisions == still.decisions


def _in_limbo(replay: Replay) -> list[int]:
    """Return the blocks of finished requests that come back later."""
    engine = replay.engine
    assert engine.pressure is not None
    info, limbo = engine.pressure.info, engine.pressure.limbo
    slots = [
        int(limbo[(info.limbo_head + place) % limbo.shape[0]].slot)
        for place in range(info.limbo_count)
    ]
    return [
        block
        for slot in slots
        for group, length in enumerate(engine.tables["length"][:, slot].tolist())
        for block in engine.table[group, slot, :length].tolist()
    ]
