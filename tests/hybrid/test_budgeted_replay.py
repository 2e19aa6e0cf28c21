"""A replay under one budget: a division that stays is two sizes, one that moves keeps books."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.errors import InputError
from kvatlas.jit import COMPILED
from kvatlas.measure.curves import lru_curve, request_paths, reuse_runs
from kvatlas.pressure.hybrid import BudgetedReplay, MemoryBudget, Tuning
from kvatlas.pressure.hybrid.trace_evidence import TraceEvidence
from kvatlas.workload import Workload, generate

BLOCK = 2 << 20
COUNT, DEVICE = (150, 900) if COMPILED else (40, 400)
HOST = 4 * DEVICE
TIMED = DriveConfig(arrivals="timed")
CONFIG = EngineConfig(num_blocks=2, max_num_seqs=24, host_bandwidth=25e9, host_block_bytes=BLOCK)


def hurried(seed: int = 3) -> Workload:
    """Return conversations that come seven times as fast, so that some have to wait."""
    workload = generate("conversation", seed=seed, num_requests=COUNT)
    return workload.with_(arrival_s=workload.arrival_s * 0.15)


def budget(**changes: Any) -> MemoryBudget:
    given: dict[str, Any] = {
        "budget_bytes": (8 * DEVICE + HOST) * BLOCK,
        "block_bytes": BLOCK,
        "device_price": 8,
        "device_blocks": DEVICE,
        "tuning": Tuning(interval=8, step_share=1 / 24, least_requests=8, least_gain=0.001),
    }
    return MemoryBudget(**(given | changes))


@pytest.mark.variants
def test_a_division_that_stays_is_the_same_as_two_sizes() -> None:
    """GIVEN blocks that are parked for good THEN every decision is that of a pool without them."""
    workload = hurried()
    plain = Replay(workload, CONFIG.with_(num_blocks=DEVICE + 1, host_blocks=HOST), TIMED)
    wanted = plain.run()
    still = BudgetedReplay(workload, CONFIG, TIMED, budget=budget(tuning=None))
    found = still.run()
    assert found.decisions == wanted.decisions
    assert found.sums == wanted.sums
    np.testing.assert_array_equal(found.finished_ms, wanted.finished_ms)
    assert still.device_blocks == DEVICE == still.mean_device_blocks()
    assert not still.loop.looks
    still.check()


@pytest.mark.variants
@pytest.mark.parametrize("arrivals", ["timed", "backlog"])
@pytest.mark.parametrize("price", [1, 8])
def test_books_hold_while_the_division_moves(arrivals: Any, price: int) -> None:
    """GIVEN a loop that moves often WHEN slices are short THEN nothing is lost, budget included."""
    given = budget(device_price=price, budget_bytes=(price * DEVICE + HOST) * BLOCK)
    drive = DriveConfig(arrivals=arrivals)
    replay = BudgetedReplay(hurried(), CONFIG, drive, budget=given)
    for _ in replay.slices(max_steps=100):
        replay.check()
    replay.check()
    result = replay.result()
    assert result.decisions["finished"] == COUNT
    assert 0 <= float(result.decisions["peak_usage"]) <= 1
    assert replay.loop.moves == sum(look.moved is not None for look in replay.loop.looks) > 0
    assert len(replay.clock_s) == len(replay.loop.looks)
    for earlier, later in zip(replay.loop.looks, list(replay.loop.looks)[1:], strict=False):
        assert earlier.after == later.before
    assert all(replay.loop.space.holds(look.after) for look in replay.loop.looks)
    # AND the mean size of the device lies between the smallest and the largest that it had
    sizes = [DEVICE, *(look.after.device_blocks for look in replay.loop.looks)]
    assert min(sizes) <= replay.mean_device_blocks() <= max(sizes)


@pytest.mark.variants
def test_results_do_not_depend_on_the_slices() -> None:
    workload = hurried()
    runs = []
    for steps in (64, 1000, 37):
        replay = BudgetedReplay(workload, CONFIG, TIMED, budget=budget())
        for _ in replay.slices(max_steps=steps):
            pass
        runs.append((replay.result().decisions, list(replay.loop.looks), list(replay.clock_s)))
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.variants
def test_at_one_price_the_device_gets_what_there_is() -> None:
    """GIVEN one price for a byte anywhere WHEN requests wait for blocks THEN the host gives."""
    given = budget(device_price=1, budget_bytes=2 * DEVICE * BLOCK, device_blocks=None)
    replay = BudgetedReplay(hurried(), CONFIG, DriveConfig(), budget=given)
    assert replay.device_blocks == DEVICE
    replay.run()
    assert replay.device_blocks > 1.1 * DEVICE
    assert any(look.moved == "host -> device" for look in replay.loop.looks)


def test_found_is_what_the_curve_says() -> None:
    """GIVEN everybody admitted THEN what a size would have found is the LRU curve's, to a block."""
    workload = generate("conversation", seed=5, num_requests=200)
    runs = reuse_runs(request_paths(workload, 16, with_outputs=True))
    curve = lru_curve(runs)
    evidence = TraceEvidence(runs, recompute_s=1.0, restore_s=0.25, step_s=0.0)
    assert evidence.found(10_000) == 0
    evidence.admitted(np.ones(200, np.bool_))
    for size in (100, 1_000, 5_000, 50_000):
        assert 16 * evidence.found(size) == curve.tokens(size)[0]
    device, both = evidence.found(1_000), evidence.found(5_000)
    assert evidence.value_s(1_000, 4_000) == pytest.approx(device + 0.75 * (both - device))
    # AND what is old weighs half, then less
    evidence.fade()
    assert evidence.found(1_000) == device / 2


def test_steps_that_would_not_fit_cost_time() -> None:
    evidence = TraceEvidence(None, recompute_s=1.0, restore_s=0.0, step_s=0.01)
    evidence.stepped(100, 0.0, held=50, device_blocks=80)
    assert evidence.value_s(80, 1) == evidence.value_s(50, 1) == 0
    assert evidence.value_s(25, 1) == pytest.approx(-0.01 * 100)  # twice as many steps
    evidence.stepped(100, 1.0, held=80, device_blocks=80)  # somebody waited for blocks
    assert evidence.value_s(80, 1) == 0
    assert evidence.value_s(160, 1) == pytest.approx(0.01 * 50)
    assert evidence.value_s(40, 1) == pytest.approx(-0.01 * (25 + 100))


@pytest.mark.variants
def test_who_does_not_fit_the_device_at_first_is_set_aside() -> None:
    workload = hurried()
    small = BudgetedReplay(workload, CONFIG, TIMED, budget=budget(device_blocks=60))
    plain = Replay(workload, CONFIG.with_(num_blocks=61), TIMED)
    assert sorted(small.run().rejected) == sorted(plain.run().rejected) != []
    small.check()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"budget_bytes": BLOCK}, "memory_budget: room for less than one block"),
        ({"device_blocks": 2 * DEVICE}, "device_blocks: this budget buys 1 to"),
        ({"device_blocks": 0}, "device_blocks"),
        ({"block_bytes": 0}, "block_bytes: must be at least 1"),
        ({"device_price": 0}, "device_price"),
    ],
)
def test_a_budget_that_cannot_be_is_one_line(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        budget(**changes)


@pytest.mark.parametrize("setting", [{"eviction_policy": "lfu"}, {"host_policy": "lfu"}])
def test_what_a_budget_does_not_go_with_is_one_line(setting: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="LRU cache"):
        BudgetedReplay(hurried(), CONFIG.with_(**setting), TIMED, budget=budget())


@pytest.mark.variants
def test_a_budget_is_not_recorded() -> None:
    replay = BudgetedReplay(hurried(), CONFIG, TIMED, budget=budget())
    with pytest.raises(InputError, match="changed its size"):
        replay.listen(lambda chunk: None)
