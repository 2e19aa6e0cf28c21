"""Advice on capacity: exact needs, an honest interval and flag, bounds in order, tiers, replays."""

from __future__ import annotations

import numpy as np
import pytest

from kvatlas.engine import EngineConfig
from kvatlas.errors import InputError
from kvatlas.measure.curves import CapacityStudy, spread
from kvatlas.plan.capacity import (
    HELD_OUT_TOLERANCE,
    advise,
    bounds_at,
    engine_points,
    headline,
    marks,
    prefill_speedup,
)
from kvatlas.workload import Workload, generate


def study_of(name: str, rows: int = 400, **knobs: object) -> CapacityStudy:
    return CapacityStudy(generate(name, seed=1, num_requests=rows, **knobs), 16)


def rate(study: CapacityStudy, capacity: int) -> float:
    return int(study.lru.tokens(capacity)[0]) / study.lru.queried_tokens


@pytest.mark.parametrize("name", ["conversation", "agents", "retrieval", "bursts"])
def test_the_advised_capacity_is_the_smallest_that_reaches_the_target(name: str) -> None:
    study = study_of(name)
    ceiling = study.ceiling().token_hit_rate or 0.0
    for advice in advise(study, [0.3 * ceiling, 0.9 * ceiling], 1000):
        capacity = advice.capacity_blocks
        assert capacity is not None
        assert rate(study, capacity) >= advice.target > rate(study, capacity - 1)
        assert advice.memory_bytes == 1000 * capacity


@pytest.mark.parametrize("name", ["conversation", "agents", "retrieval", "bursts"])
def test_converged_means_within_two_percent_of_the_held_out_need(name: str) -> None:
    study = study_of(name, rows=2000)
    ceiling = study.ceiling().token_hit_rate or 0.0
    for advice in advise(study, [share * ceiling for share in (0.1, 0.3, 0.5, 0.8, 0.9, 0.99)]):
        mine, theirs = advice.first_half_blocks, advice.second_half_blocks
        if advice.converged:
            assert mine is not None
            assert theirs is not None
            assert abs(mine / theirs - 1) <= HELD_OUT_TOLERANCE
            assert advice.reason == ""
        else:
            assert advice.reason


def test_a_long_steady_trace_converges() -> None:
    study = CapacityStudy(generate("conversation", num_requests=40_000), 16)
    ceiling = study.ceiling().token_hit_rate or 0.0
    assert all(advice.converged for advice in advise(study, [0.5 * ceiling, 0.9 * ceiling]))


def test_the_interval_holds_the_need_and_says_when_it_has_no_end() -> None:
    study = study_of("bursts", rows=2000)
    ceiling = study.ceiling().token_hit_rate or 0.0
    half, nearly_all, too_much = advise(study, [0.5 * ceiling, 0.9999 * ceiling, 1.1 * ceiling])
    assert half.low_blocks is not None
    assert half.high_blocks is not None
    assert half.capacity_blocks is not None
    assert half.low_blocks <= half.capacity_blocks <= half.high_blocks
    assert nearly_all.high_blocks is None
    assert too_much.capacity_blocks is None
    assert not too_much.converged
    assert "at most" in too_much.reason


def test_the_same_trace_gives_the_same_advice() -> None:
    assert advise(study_of("bursts"), [0.2]) == advise(study_of("bursts"), [0.2])


def test_one_request_has_nothing_to_say() -> None:
    study = CapacityStudy(generate("conversation", num_requests=1), 16)
    (advice,) = advise(study, [0.5])
    assert advice.capacity_blocks is None
    assert not advice.converged
    assert bounds_at(study, 100).bottleneck == "traffic"


@pytest.mark.parametrize("capacity", [1, 100, 2_000, 10_000, 10**7])
def test_bounds_come_in_order_and_name_the_largest_gap(capacity: int) -> None:
    study = study_of("conversation", rows=1000)
    bounds = bounds_at(study, capacity)
    assert bounds.content >= bounds.ceiling >= bounds.optimum >= bounds.lru
    gaps = {
        "capacity": bounds.ceiling - bounds.optimum,
        "policy": bounds.optimum - bounds.lru,
        "configuration": bounds.content - bounds.ceiling,
    }
    if bounds.bottleneck != "traffic":
        assert gaps[bounds.bottleneck] == max(gaps.values())
    assert bounds.reason


def test_the_bottleneck_moves_from_capacity_over_policy_to_traffic() -> None:
    study = study_of("conversation", rows=1000)
    named = [bounds_at(study, capacity).bottleneck for capacity in (20, 3_000, 10**7)]
    assert named == ["capacity", "policy", "traffic"]


def test_an_engine_far_below_lru_is_a_matter_of_configuration() -> None:
    study = study_of("conversation", rows=1000)
    assert bounds_at(study, 10**7, engine=0.1).bottleneck == "configuration"
    assert bounds_at(study, 10**7, engine=0.9).bottleneck == "traffic"


def test_tiers_add_up() -> None:
    study = study_of("conversation")
    found = marks(study, {"HBM": 1 << 20, "host": 3 << 20}, 1 << 10, 0.5)
    assert [mark.name for mark in found] == ["HBM", "HBM + host"]
    assert [mark.capacity_blocks for mark in found] == [1 << 10, 4 << 10]
    for mark in found:
        assert mark.lru == rate(study, mark.capacity_blocks)
        assert mark.lru <= mark.optimum
        assert mark.prefill_speedup == pytest.approx(1 / (1 - 0.5 * mark.lru))
    assert marks(study, {}, 1 << 10) == ()
    with pytest.raises(InputError, match="bytes_per_block"):
        marks(study, {"HBM": 1}, 0)


def test_the_ideal_speedup() -> None:
    assert prefill_speedup(0.5) == 2.0
    assert prefill_speedup(0.5, 0.0) == 1.0
    for hits, share in ((0.5, 1.5), (0.5, -0.1), (1.0, 1.0)):
        with pytest.raises(InputError, match="prefill_share"):
            prefill_speedup(hits, share)


def chat() -> Workload:
    return generate("conversation", seed=1, num_requests=300)


def test_engine_points_are_replays() -> None:
    config = EngineConfig(num_blocks=2, max_num_seqs=8)
    points = engine_points(chat(), [1_000, 20_000], config)
    assert [point.num_blocks for point in points] == [1_001, 20_001]
    assert points[0].token_hit_rate < points[1].token_hit_rate
    assert points[1].hit_tokens == round(points[1].token_hit_rate * points[1].queried_tokens)
    # Nothing is evicted from the larger pool: every miss is one of the ceiling's
    study = CapacityStudy(chat(), 16, with_outputs=True)
    assert points[1].hit_tokens <= study.lru.most_tokens


def test_stopped_replays_leave_whole_points() -> None:
    seen: list[int] = []
    points = engine_points(
        chat(),
        [1_000, 2_000],
        EngineConfig(num_blocks=2),
        on_progress=lambda done, _: seen.append(done),
        should_stop=lambda: 1 in seen,
    )
    assert len(points) == 1


def test_the_headline_says_what_to_do() -> None:
    study = study_of("conversation", rows=1000)
    table = study.table(spread(study.lru.blocks, 65))
    knee = bounds_at(study, study.knee_blocks)
    said = " ".join(headline(table, knee, bounds_at(study, 3_000, 0.2), 1 << 20))
    assert f"{study.knee_blocks:,} blocks (" in said
    assert "What limits it: policy" in said
    assert "the engine as configured hits 20.0%" in said
    assert "points at most" in said
    nothing = CapacityStudy(generate("comb", num_requests=20), 16)
    empty = headline(nothing.table([1]), bounds_at(nothing, 1), None)
    assert "no cache can help" in empty[0]


def test_what_repeats_in_less_than_a_block_is_no_matter_of_memory() -> None:
    # GIVEN prompts of 8 tokens that repeat, in blocks of 16
    chat_like = generate("conversation", num_requests=4)
    workload = chat_like.with_(
        prompt_tokens=np.full(4, 8, np.int32),
        ids=np.zeros(4, np.int32),
        id_offsets=np.arange(5),
        num_ids=1,
        outputs_identified=False,
    )
    study = CapacityStudy(workload, 16)
    said = headline(study.table([1]), bounds_at(study, study.knee_blocks), None)
    assert "smaller blocks could help" in said[0]


def test_more_memory_than_can_be_is_refused() -> None:
    with pytest.raises(InputError, match="more blocks than can be asked about"):
        marks(study_of("conversation"), {"HBM": 8 << 62, "disk": 8 << 62}, 1 << 10)
