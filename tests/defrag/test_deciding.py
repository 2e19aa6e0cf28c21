"""Whether it pays: figures worked out by hand, and the sentence that gives them."""

from __future__ import annotations

import math

import pytest
from test_memory_defragmenter import checkerboard, small_manager

from kvatlas.defrag import (
    Compact,
    ContiguousTables,
    Costs,
    DefragmentationLoop,
    FragmentationAwareManager,
    FreeRun,
    MemoryDefragmenter,
    ReleasePages,
    Report,
)
from kvatlas.engine import EngineConfig
from kvatlas.errors import InputError
from kvatlas.storage import KVCacheMemoryPool

BLOCK_BYTES = 1 * 2 * 4 * 1 * 256 * 4


def defragmenter() -> MemoryDefragmenter:
    manager = small_manager()
    checkerboard(manager)
    pool = KVCacheMemoryPool(100, num_layers=1, block_size=4, kv_heads=1, head_size=256)
    assert pool.bytes_per_block == BLOCK_BYTES
    return MemoryDefragmenter(manager, pool)


def test_equal_blocks_need_no_neighbours() -> None:
    """GIVEN nobody who needs neighbours WHEN asked THEN it says no, and why."""
    ours = defragmenter()
    decision = ours.should_defragment(Compact(tables=True), Costs(copy_bandwidth=1e9))
    assert not decision.worth and decision.saving_s == 0 and decision.cost_s > 0
    assert "any free block serves" in decision.why and decision.why.startswith("No: ")


def test_transfers() -> None:
    """GIVEN transfers of broken tables WHEN runs get fewer THEN their descriptors are saved."""
    ours = defragmenter()
    plan = ours.plan(ContiguousTables())
    assert plan is not None
    costs = Costs(copy_bandwidth=1e9, fixed_s=1e-3, transfers=10, descriptor_s=1e-4)
    decision = ours.weigh(plan, costs)
    assert decision.saving_s == pytest.approx(10 * 54 * 1e-4)
    assert decision.cost_s == pytest.approx(1e-3 + plan.moves.count * BLOCK_BYTES / 1e9)
    assert decision.worth
    assert "54 descriptors fewer each save 54 ms" in decision.why
    rarely = ours.weigh(plan, Costs(copy_bandwidth=1e6, transfers=1, descriptor_s=1e-6))
    assert not rarely.worth and rarely.saving_s == pytest.approx(54e-6)
    assert ours.plan(FreeRun(60)) is None  # 39 blocks are free
    report = ours.run(plan, costs=costs)
    assert report.paid is not None and report.paid.saving_s == decision.saving_s
    assert report.paid.cost_s == report.copied_s + report.relabelled_s
    assert report.paid.why in str(report)


def test_pages_and_puts() -> None:
    manager = small_manager(blocks=129)
    requests = checkerboard(manager, 8)
    for request in requests[::2]:
        manager.free(request)
    ours = MemoryDefragmenter(manager)
    costs = Costs(copy_bandwidth=1e9, blocks_per_page=16, page_s=0.5, put_blocks=80, put_s=2.0)
    goal = ReleasePages(16)
    plan = ours.plan(goal)
    assert plan is not None
    pages = plan.after.free_pages(16) - plan.before.free_pages(16)
    assert pages > 0
    decision = ours.weigh(plan, costs)
    fits = plan.after.largest_free_run >= 80 > plan.before.largest_free_run
    assert decision.saving_s == 0.5 * pages + 2.0 * fits
    assert f"{pages:+,} free pages are worth {0.5 * pages:.3g} s" in decision.why
    for length, saving, said in (
        (20, 0.0, "is there already"),
        (88, 2.0, "saves 2 s"),
        (120, 0.0, "is not there even then"),
    ):
        wants = Costs(copy_bandwidth=1e9, put_blocks=length, put_s=2.0)
        run = ours.plan(FreeRun(88))
        assert run is not None
        decision = ours.weigh(run, wants)
        assert decision.saving_s == saving
        assert said in decision.why
    impossible = ours.should_defragment(FreeRun(120), costs)
    assert not impossible.worth and "no moves" in impossible.why


@pytest.mark.parametrize(
    "wrong",
    [
        {"copy_bandwidth": 0},
        {"copy_bandwidth": math.inf},
        {"copy_bandwidth": 1e9, "page_s": -1},
        {"copy_bandwidth": 1e9, "transfers": math.nan},
    ],
)
def test_what_cannot_be_a_cost(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Costs(**wrong)  # type: ignore[arg-type]


def test_the_loop_looks_at_its_interval() -> None:
    """GIVEN an interval and a threshold WHEN steps pass THEN it plans and moves only then."""
    ours = defragmenter()
    pays = Costs(copy_bandwidth=1e9, transfers=100, descriptor_s=1e-3)
    loop = DefragmentationLoop(ours, ContiguousTables(), pays, interval_steps=3, least_breaks=55)
    assert [loop.step() for _ in range(3)] == [None] * 3
    assert loop.looks[-1].breaks == 54 and loop.looks[-1].decision is None
    loop.least_breaks = 10
    reports = [loop.step() for _ in range(6)]
    assert [report is not None for report in reports] == [False, False, True, False, False, False]
    assert [look.breaks for look in loop.looks] == [54, 54, 0]
    for field in ("interval_steps", "least_breaks"):
        with pytest.raises(InputError, match=field):
            DefragmentationLoop(ours, Compact(), pays, **{field: -1})  # type: ignore[arg-type]


def test_a_manager_that_defragments_itself() -> None:
    """GIVEN the manager WHEN its steps begin THEN broken tables become runs, owners know."""
    config = EngineConfig(num_blocks=100, block_size=4, max_num_seqs=8, max_model_len=64)
    told: list[Report] = []
    manager = FragmentationAwareManager(
        config,
        goal=ContiguousTables(),
        costs=Costs(copy_bandwidth=1e9, transfers=1, descriptor_s=1e-3),
        interval_steps=5,
        on_moved=told.append,
        secret=b"t",
    )
    checkerboard(manager)
    before = manager.get_block_ids("r5")[0]
    for _ in range(5):
        manager.new_step_starts()
    assert len(told) == 1
    after = manager.get_block_ids("r5")[0]
    assert told[0].renamed(before) == after
    assert after == list(range(after[0], after[0] + 10))
    manager.check()
