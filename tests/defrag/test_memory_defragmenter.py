"""The whole of it: real bytes under a served engine, moved at any moment, and nobody notices."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from profiles_defrag import EXAMPLES
from served import Served, storage_for
from test_events import some_goal
from test_relabel import small_config

from kvatlas.defrag import (
    Compact,
    ContiguousTables,
    FreeRun,
    MemoryDefragmenter,
    ReleasePages,
    Report,
)
from kvatlas.engine import BlockPool, EngineConfig, KVCacheManager, Replay, Request, Scheduler
from kvatlas.engine.nano import NanoConfig, NanoReplay
from kvatlas.engine.replay import free_queue
from kvatlas.errors import InputError, InvariantError
from kvatlas.storage import KVCacheMemoryPool
from kvatlas.workload import generate

pytestmark = pytest.mark.slow


def requests_of(rng: random.Random, count: int) -> list[Request]:
    """Prompts over few shared prefixes."""
    prefixes = [[rng.randrange(50) for _ in range(rng.randrange(0, 30))] for _ in range(3)]
    return [
        Request(
            f"r{i}",
            rng.choice(prefixes) + [rng.randrange(3) for _ in range(rng.randrange(1, 20))],
            rng.randrange(1, 25),
            priority=i % 3,
        )
        for i in range(count)
    ]


@pytest.mark.parametrize(
    "policy", ["lru", *(pytest.param(p, marks=pytest.mark.variants) for p in ("lfu", "s3-fifo"))]
)
@pytest.mark.parametrize("layout", ["block", "cross-layer"])
@settings(max_examples=max(3, EXAMPLES // 4), deadline=None)
@given(
    seed=st.integers(0, 10_000),
    blocks=st.integers(24, 90),
    hybrid=st.booleans(),
    ahead=st.booleans(),
    zeroing=st.booleans(),
)
def test_nobody_notices(
    policy: str, layout: str, seed: int, blocks: int, hybrid: bool, ahead: bool, zeroing: bool
) -> None:
    """GIVEN a served engine WHEN defragmented at any moment THEN it decides as its twin, and every
    byte that it reads is the one that was written for those tokens."""
    config = small_config(blocks, policy, hybrid, ahead)
    rng = random.Random(seed)
    twin = Served(Scheduler(config, secret=b"s"), requests_of(random.Random(seed), 12))
    scheduler = Scheduler(config, secret=b"s")
    storage = storage_for(scheduler, layout=layout, zero_on_free=zeroing)
    ours = Served(scheduler, requests_of(random.Random(seed), 12), storage)
    defragmenter = MemoryDefragmenter(scheduler, storage)
    names = np.arange(config.num_blocks)

    def defragment() -> None:
        nonlocal names
        if rng.random() < 0.5:
            return
        in_flight = {
            block
            for output in ours.pending
            for name in output.num_scheduled_tokens
            for table in scheduler.get_block_ids(name)
            for block in table
        }
        before = storage.stats().moved_bytes
        report = defragmenter.defragment(some_goal(rng, config.num_blocks))
        if report is not None:
            assert storage.stats().moved_bytes - before == report.moved_bytes
            assert not in_flight & set(report.plan.moves.sources.tolist())
            assert not in_flight & set(report.plan.moves.targets.tolist())
            names = report.new_id[names]

    while ours.step(defragment):
        assert twin.step()
        defragment()
        mapped = names[free_queue(twin.scheduler.state)]
        assert np.array_equal(mapped, free_queue(scheduler.state))
        for name in ours.requests:
            tables = [names[table].tolist() for table in twin.scheduler.get_block_ids(name)]
            assert tables == list(scheduler.get_block_ids(name))
    assert not twin.step()
    assert ours.decided == twin.decided
    assert scheduler.prefix_cache_stats == twin.scheduler.prefix_cache_stats
    assert ours.seen > 0


def checkerboard(manager: KVCacheManager, count: int = 6) -> list[Request]:
    """Let requests take turns at growing, so that each one's blocks lie between the others'."""
    requests = [Request(f"r{i}", list(range(100 * i, 100 * i + 40)), 4) for i in range(count)]
    for _ in range(10):
        for request in requests:
            assert manager.allocate_slots(request, 4) is not None
            request.num_computed_tokens += 4
    return requests


def small_manager(blocks: int = 100, **changes: Any) -> KVCacheManager:
    config = EngineConfig(num_blocks=blocks, block_size=4, max_num_seqs=8, max_model_len=64)
    return KVCacheManager(config, secret=b"t", **changes)


def test_a_table_in_one_piece() -> None:
    """GIVEN six tables of ten runs each WHEN all are to be contiguous THEN each is one run."""
    manager = small_manager()
    checkerboard(manager)
    defragmenter = MemoryDefragmenter(manager)
    assert defragmenter.detect().table_runs == 60
    report = defragmenter.defragment(ContiguousTables())
    assert report is not None
    assert report.after.table_runs == report.after.tables == 6
    assert report.plan.after.snapshot == report.after.snapshot
    one = defragmenter.plan(ContiguousTables(("r3",)))
    assert one is not None and one.moves.count == 0


def test_shared_blocks_move_once_and_all_owners_follow() -> None:
    """GIVEN a prefix that two requests share WHEN moved THEN it is copied once for both."""
    manager = small_manager()
    first = Request("a", list(range(24)), 4)
    assert manager.allocate_slots(first, 24) is not None
    first.num_computed_tokens = 24
    second = Request("b", [*range(20), 77, 78], 4)
    hits, tokens = manager.get_computed_blocks(second)
    assert tokens == 20
    assert manager.allocate_slots(second, 2, tokens, hits) is not None
    shared = manager.get_block_ids("a")[0][:5]
    pool = KVCacheMemoryPool(100, num_layers=2, block_size=4, kv_heads=1, head_size=3)
    pool.layers[1][shared[2]] = 5.0
    defragmenter = MemoryDefragmenter(manager, pool)
    report = defragmenter.defragment(Compact())
    assert report is not None and report.moved_blocks == 0  # they lie at the front already
    hole = manager.get_block_ids("a")[0][5]
    report = defragmenter.defragment(FreeRun(94))
    assert report is None  # six used blocks and the null block leave 93
    report = defragmenter.defragment(ReleasePages(4, 23))
    assert report is not None and hole > 0
    report = defragmenter.defragment(ContiguousTables(("b",)))
    assert report is not None
    now = manager.get_block_ids("a")[0][:5]
    assert now == manager.get_block_ids("b")[0][:5] == report.renamed(shared)
    assert (pool.layers[1][now[2]] == 5.0).all()


def test_pages_of_a_sparse_pool() -> None:
    """GIVEN one block left in each page WHEN pages are released THEN one page holds them all."""
    manager = small_manager(blocks=129)
    requests = [Request(f"r{i}", [i] * 60, 4) for i in range(8)]
    for request in requests:
        assert manager.allocate_slots(request, 60) is not None
    for request in requests[1:-1]:
        manager.free(request)
    defragmenter = MemoryDefragmenter(manager)
    before = defragmenter.detect()
    report = defragmenter.defragment(ReleasePages(16))
    assert report is not None
    after = defragmenter.detect()
    # 30 used blocks and the null block fill 2 of 8 pages.
    assert (before.free_pages(16), after.free_pages(16)) == (5, 6)
    assert report.released_pages(16) == 1
    assert "blocks moved in" in str(report)


def test_blocks_in_flight_stay() -> None:
    """GIVEN ids that somebody is reading WHEN defragmented THEN these are as they were."""
    manager = small_manager()
    requests = checkerboard(manager)
    busy = manager.get_block_ids("r0")[0]
    defragmenter = MemoryDefragmenter(manager, in_flight=lambda: busy)
    for goal in (ContiguousTables(), Compact(tables=True), FreeRun(39), ReleasePages(4)):
        defragmenter.defragment(goal)
        assert manager.get_block_ids("r0")[0] == busy
    for request in requests[1:]:
        manager.free(request)
    assert defragmenter.plan(FreeRun(95)) is None


def test_a_scheduled_step_pins_its_requests() -> None:
    """GIVEN a step without its output WHEN asked for a plan THEN its requests' blocks stay."""
    scheduler = Scheduler(small_config(60, "lru", False, False), secret=b"s")
    served = Served(scheduler, requests_of(random.Random(3), 4))
    served.scheduler.schedule()
    defragmenter = MemoryDefragmenter(scheduler)
    held = {b for name in served.requests for b in scheduler.get_block_ids(name)[0]}
    assert held
    plan = defragmenter.plan(Compact(tables=True))
    assert plan is not None and not held & set(plan.moves.sources.tolist())


def test_a_bare_pool() -> None:
    """GIVEN a pool alone WHEN a run is wanted THEN whoever holds ids can translate them."""
    pool = BlockPool(20)
    ids = pool.get_new_blocks(19)
    assert ids is not None
    pool.free_blocks(ids[::2])
    kept = ids[1::2]
    defragmenter = MemoryDefragmenter(pool)
    assert defragmenter.detect().largest_free_run == 1
    report = defragmenter.defragment(FreeRun(10))
    assert report is not None
    assert defragmenter.detect().largest_free_run == 10
    pool.free_blocks(report.renamed(kept))
    pool.check()
    with pytest.raises(InputError, match="a bare pool knows no block tables"):
        defragmenter.plan(ContiguousTables(("r",)))
    with pytest.raises(InputError, match="no such block"):
        report.renamed([20])


def test_a_plan_is_for_its_moment() -> None:
    """GIVEN a plan WHEN the pool goes on first THEN it is refused and nothing has moved."""
    manager = small_manager()
    requests = checkerboard(manager)
    manager.free(requests[0])
    manager.reset_prefix_cache()
    defragmenter = MemoryDefragmenter(manager)
    plan = defragmenter.plan(ContiguousTables(("r3",)))
    assert plan is not None and plan.moves.count
    late = Request("late", list(range(500, 560)), 4)
    while not set(plan.moves.targets.tolist()) & set(manager.get_block_ids("late")[0]):
        assert manager.allocate_slots(late, 4) is not None
        late.num_computed_tokens += 4
        if late.num_computed_tokens == 60:
            break
    before = defragmenter.detect()
    with pytest.raises(InputError, match="the pool has changed since the plan was made"):
        defragmenter.run(plan)
    assert defragmenter.detect().snapshot == before.snapshot


class Forgetful:
    """Memory that loses what it is asked to move."""

    bytes_per_block, num_blocks, device = 8, 100, "cpu"

    def __init__(self) -> None:
        self.values = np.arange(100, dtype=np.uint64)

    def move(self, source_ids: Any, target_ids: Any) -> None:
        self.values[target_ids] = 0

    def digest(self, block_ids: Any) -> NDArray[np.uint64]:
        found: NDArray[np.uint64] = self.values[block_ids].copy()
        return found


def test_lost_bytes_are_found_out() -> None:
    manager = small_manager()
    checkerboard(manager)
    defragmenter = MemoryDefragmenter(manager, Forgetful())
    with pytest.raises(InvariantError, match="bytes are not what they were"):
        defragmenter.defragment(ContiguousTables())


def test_times_and_bandwidth() -> None:
    """GIVEN a clock that ticks WHEN moved THEN bytes, seconds and bandwidth are in the report."""
    manager = small_manager()
    checkerboard(manager)
    ticks = iter(range(100))
    pool = KVCacheMemoryPool(100, num_layers=1, block_size=4, kv_heads=1, head_size=8)
    defragmenter = MemoryDefragmenter(manager, pool, clock=lambda: float(next(ticks)))
    plan = defragmenter.plan(ContiguousTables())
    assert plan is not None
    report: Report = defragmenter.run(plan)
    assert report.moved_bytes == report.moved_blocks * 256 == plan.bytes
    assert report.copied_s == report.relabelled_s == 1.0
    assert report.bandwidth == report.moved_bytes
    assert report.verified_s == 2.0
    again = defragmenter.plan(ContiguousTables())
    assert again is not None
    assert defragmenter.run(again, verify=False).verified_s is None


def test_who_cannot_be_defragmented() -> None:
    with pytest.raises(InputError, match="nothing that owns blocks"):
        MemoryDefragmenter(object())  # type: ignore[arg-type]
    nano = NanoReplay(generate("conversation").head(3), NanoConfig(num_blocks=5000))
    with pytest.raises(InputError, match="without a null block"):
        MemoryDefragmenter(nano)
    pool = KVCacheMemoryPool(9, num_layers=1, block_size=4, kv_heads=1, head_size=1)
    with pytest.raises(InputError, match="another number of blocks"):
        MemoryDefragmenter(BlockPool(10), pool)
    with pytest.raises(InputError, match="no such block"):
        MemoryDefragmenter(BlockPool(10), in_flight=lambda: [10]).plan(FreeRun(2))
    replay = Replay(generate("conversation").head(3), EngineConfig(num_blocks=5000))
    with pytest.raises(InputError, match="no such request"):
        MemoryDefragmenter(replay).plan(ContiguousTables((3,)))
