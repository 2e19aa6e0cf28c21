"""The curve on the public conversation trace: published figures, and a plain simulation."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.jit import COMPILED
from kvatlas.measure.curves import CapacityStudy, request_paths, spread
from kvatlas.workload import Workload, load

pytestmark = pytest.mark.skipif(not COMPILED, reason="too long without compiled kernels")

PUBLISHED_AT = (3_000, 6_000, 12_000, 25_000)


@pytest.fixture(scope="module")
def trace() -> Workload:
    folder = os.environ.get("KVATLAS_TRACES")
    beside = Path(__file__).resolve().parents[4] / "shared" / "traces"
    path = (Path(folder) if folder else beside) / "mooncake_conversation.jsonl"
    if not path.exists():
        pytest.skip("the conversation trace is not on this machine")
    return load(path)


def test_published_block_hit_rates(trace: Workload) -> None:
    study = CapacityStudy(trace, 512, count_partial=True)
    table = study.table(PUBLISHED_AT)
    percent = 100 / table.queried_blocks
    assert np.round(table.hit_blocks * percent, 2).tolist() == [6.53, 13.93, 23.03, 30.99]
    best = np.round(table.optimum_hit_blocks * percent, 2).tolist()
    assert best == [29.45, 35.51, 36.64, 36.64]
    ceiling = study.ceiling()
    assert round(100 * (ceiling.block_hit_rate or 0), 2) == 36.64
    assert round(100 * (ceiling.token_hit_rate or 0), 2) == 37.36


@pytest.mark.slow
def test_equal_to_a_plain_simulation_at_65_capacities(trace: Workload) -> None:
    study = CapacityStudy(trace, 512, count_partial=True)
    capacities = spread(study.lru.blocks, 65)
    assert capacities.size == 65
    ids, offsets = trace.ids.tolist(), trace.id_offsets.tolist()
    for capacity, hits in zip(
        capacities.tolist(), study.lru.blocks(capacities).tolist(), strict=True
    ):
        assert hits == _plain_lru(ids, offsets, capacity)


def _plain_lru(ids: list[int], offsets: list[int], capacity: int) -> int:
    """Count hit blocks of one request after the other, every identity a block."""
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for row in range(len(offsets) - 1):
        path = ids[offsets[row] : offsets[row + 1]]
        for block in path:
            if block not in cache:
                break
            hits += 1
        for block in reversed(path):
            cache[block] = None
            cache.move_to_end(block)
        while len(cache) > capacity:
            cache.popitem(last=False)
    return hits


@pytest.mark.parametrize(("block_size", "blocks"), [(512, 3_000), (512, 6_000), (16, 96_000)])
def test_outputs_one_request_at_a_time_equal_the_engine(
    trace: Workload, block_size: int, blocks: int
) -> None:
    # GIVEN the engine with one running request: the law of one pass holds for it
    engine = Replay(
        trace,
        EngineConfig(
            num_blocks=blocks, block_size=block_size, max_num_seqs=1, max_model_len=200_000
        ),
        DriveConfig(queue_depth=2),
    )
    for _ in engine.slices():
        pass
    study = CapacityStudy(trace, block_size, with_outputs=True)
    # THEN hits agree to the token: one block is vLLM's null block, one holds the running request's
    # unhashed end
    assert engine.result().decisions["prefix_hits"] == int(study.lru.tokens(blocks - 2)[0])


def test_smaller_blocks_cost_no_more_pieces(trace: Workload) -> None:
    whole = CapacityStudy(trace, 512).runs.end.size
    assert CapacityStudy(trace, 16).runs.end.size < 1.01 * whole
    assert request_paths(trace, 16).total_blocks > 30 * request_paths(trace, 512).total_blocks
