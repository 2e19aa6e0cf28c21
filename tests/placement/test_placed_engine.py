"""Placements in the engine: the same victims mean the same decisions, and fewer runs."""

from __future__ import annotations

import random

import numpy as np
import pytest

from kvatlas.engine import (
    EngineConfig,
    FullAttentionSpec,
    KVCacheManager,
    Replay,
    Request,
    Scheduler,
    SlidingWindowSpec,
)
from kvatlas.engine.kernels.state import NONE
from kvatlas.engine.replay import free_queue
from kvatlas.events import Chunk, schema
from kvatlas.jit import COMPILED
from kvatlas.placement import PLACEMENTS
from kvatlas.workload import generate

NAMES = [name for name in PLACEMENTS if name != "queue"]
SAME = [name for name in NAMES if PLACEMENTS[name].same_victims]
OTHER = [name for name in NAMES if not PLACEMENTS[name].same_victims]
REQUESTS = 150 if COMPILED else 12
_GROUPS = {
    "full": (FullAttentionSpec(block_size=16),),
    "hybrid": (
        FullAttentionSpec(block_size=16),
        SlidingWindowSpec(block_size=16, sliding_window=100),
    ),
}


def _queued_keys(replay: Replay) -> list[int]:
    """Return what the free queue would lose, in order."""
    keys = replay.engine.pool.blocks["key"][free_queue(replay.engine)]
    return [key for key in keys.tolist() if key != NONE]


@pytest.mark.variants
@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("groups", _GROUPS)
def test_the_same_victims_are_the_same_decisions(name: str, groups: str) -> None:
    """GIVEN random tight pools WHEN a placement keeps the victims THEN only names differ."""
    rng = random.Random(f"{name} {groups}")
    for _ in range(4 if COMPILED else 1):
        workload = generate("conversation", seed=rng.randrange(1000)).head(REQUESTS)
        config = EngineConfig(
            num_blocks=rng.randrange(800, 1500) * len(_GROUPS[groups]),
            kv_cache_groups=_GROUPS[groups],
            max_num_seqs=rng.choice([4, 24]),
            max_num_batched_tokens=rng.choice([512, 2048, 8192]),
            async_scheduling=rng.random() < 0.5,
            policy=rng.choice(["fcfs", "priority"]),
        )
        expected = Replay(workload, config)
        replay = Replay(workload, config.with_(placement=name))
        both = zip(expected.slices(max_steps=700), replay.slices(max_steps=700), strict=True)
        for _ in both:
            assert replay.sums() == expected.sums()
            assert _queued_keys(replay) == _queued_keys(expected)
            replay.check()
        assert replay.result().decisions == expected.result().decisions
        assert replay.sums() == expected.sums()
        assert replay.sums()["evictions"] > (1000 if COMPILED else 0)


@pytest.mark.variants
@pytest.mark.parametrize("name", OTHER)
def test_other_victims_keep_every_promise(name: str) -> None:
    """GIVEN a tight pool WHEN a placement evicts others THEN all are served and books are right."""
    workload = generate("conversation").head(REQUESTS)
    config = EngineConfig(num_blocks=900, max_num_seqs=24, placement=name)
    replay = Replay(workload, config)
    for _ in replay.slices(max_steps=500):
        replay.check()
    result = replay.result()
    assert result.decisions["finished"] == workload.num_requests - len(result.rejected)


@pytest.mark.variants
@pytest.mark.parametrize("name", NAMES)
def test_listening_changes_nothing_and_every_block_is_told(name: str) -> None:
    """GIVEN a placement WHEN somebody listens THEN decisions stay and events add up."""
    workload = generate("conversation").head(REQUESTS)
    config = EngineConfig(num_blocks=1200, max_num_seqs=24, placement=name)
    counted = dict.fromkeys((schema.EVICTED, schema.ALLOCATED), 0)

    def count(chunk: Chunk) -> None:
        for event in counted:
            counted[event] += int(chunk.rows["count"][chunk.rows["event"] == event].sum())

    heard = Replay(workload, config, on_events=count).run()
    silent = Replay(workload, config).run()
    assert heard.decisions == silent.decisions
    assert counted[schema.EVICTED] == silent.sums["evictions"]
    assert counted[schema.ALLOCATED] == silent.sums["allocations"]


@pytest.mark.rare
@pytest.mark.parametrize("eviction", ["lfu", "s3-fifo"])
def test_sorted_under_another_eviction_policy(eviction: str) -> None:
    """GIVEN a policy that evicts WHEN its victims are sorted THEN decisions are as without."""
    workload = generate("conversation").head(REQUESTS)
    config = EngineConfig(num_blocks=900, max_num_seqs=24, eviction_policy=eviction)
    expected = Replay(workload, config).run()
    replay = Replay(workload, config.with_(placement="sorted"))
    result = replay.run()
    replay.check()
    assert result.decisions == expected.decisions
    assert result.sums == expected.sums


def _runs_per_request(config: EngineConfig) -> float:
    """Return the mean ascending runs per block table, as they are when requests end."""
    replay = Replay(generate("conversation").head(REQUESTS), config)
    engine, runs, tables = replay.engine, 0, 0
    for _ in replay.slices(max_steps=20):
        for slot in np.flatnonzero(engine.requests["slot"] != NONE):
            at = int(engine.requests[slot].slot)
            table = engine.table[0, at, : int(engine.tables[0, at].length)]
            runs += 1 + int(np.count_nonzero(np.diff(table) != 1))
            tables += 1
    return runs / tables


@pytest.mark.variants
@pytest.mark.skipif(not COMPILED, reason="a statement about a long run")
def test_runs_get_fewer() -> None:
    """GIVEN one request after another WHEN placed THEN sorted has fewer runs than the queue.

    The window needs a pool that is large against a need to have a choice; here it does no harm.
    """
    config = EngineConfig(num_blocks=3000, max_num_seqs=1)
    queue, ascending, window = (
        _runs_per_request(config.with_(placement=name)) for name in ("queue", "sorted", "window")
    )
    assert window < 1.1 * ascending and 1.8 * ascending < queue


@pytest.mark.variants
@pytest.mark.parametrize("name", NAMES)
def test_a_manager_and_a_scheduler_take_a_placement(name: str) -> None:
    """GIVEN shared beginnings WHEN blocks are placed THEN managers serve and stay right."""
    config = EngineConfig(num_blocks=12, block_size=4, max_num_seqs=4, placement=name)
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


def test_off_is_off() -> None:
    """GIVEN vLLM's order WHEN an engine is made THEN there is no placement at all."""
    workload = generate("conversation").head(5)
    assert EngineConfig(num_blocks=900).placement == "queue"
    assert Replay(workload, EngineConfig(num_blocks=900)).engine.pool.placement is None
