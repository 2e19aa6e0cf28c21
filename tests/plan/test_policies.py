"""Policies compared on one trace: LRU first, bounds last, and a verdict that follows from them."""

from __future__ import annotations

import numpy as np
import pytest

from kvatlas.errors import InputError
from kvatlas.eviction import POLICIES, simulate
from kvatlas.measure.curves import CapacityStudy
from kvatlas.plan.policies import (
    NEVER_WORSE_POINTS,
    PolicyComparison,
    compare_policies,
    verdict,
)
from kvatlas.report.curve_document import PolicyRow
from kvatlas.workload import generate


@pytest.fixture(scope="module")
def study() -> CapacityStudy:
    return CapacityStudy(generate("conversation", seed=1, num_requests=300), 16)


def test_every_policy_lies_between_nothing_and_the_optimum(study: CapacityStudy) -> None:
    comparison = compare_policies(study, [4_000, 500, 1_500, 500])
    assert comparison.capacity_blocks.tolist() == [500, 1_500, 4_000]
    names = [row.name for row in comparison.rows]
    assert names == [*POLICIES, "optimum", "ceiling"]
    assert names[0] == "lru"
    rows = {row.name: row for row in comparison.rows}
    for name in POLICIES:
        assert (rows[name].hit_blocks <= rows["optimum"].hit_blocks).all()
        assert rows[name].kind == "policy"
        assert (rows[name].gap_closed <= 1).all()
    assert (rows["optimum"].hit_blocks <= rows["ceiling"].hit_blocks).all()
    assert (rows["lru"].gap_closed == 0).all()
    assert (rows["optimum"].gap_closed == 1).all()
    assert comparison.partial == ""


def test_the_curve_and_the_simulated_lru_agree(study: CapacityStudy) -> None:
    for capacity in (100, 1_000, 5_000):
        found = simulate(study.workload, "lru", capacity, block_size=16)
        assert found.hit_blocks == int(study.lru.blocks(capacity)[0])
        assert found.hit_tokens == int(study.lru.tokens(capacity)[0])
        best = simulate(study.workload, "optimum", capacity, block_size=16)
        blocks, tokens = study.optimum_hits([capacity])
        assert (best.hit_blocks, best.hit_tokens) == (int(blocks[0]), int(tokens[0]))


def test_some_policies_only_and_unknown_ones(study: CapacityStudy) -> None:
    comparison = compare_policies(study, [1_000], ["sieve", "lru", "sieve"])
    assert [row.name for row in comparison.rows] == ["lru", "sieve", "optimum", "ceiling"]
    with pytest.raises(InputError, match="unknown eviction policy"):
        compare_policies(study, [1_000], ["mru"])
    with pytest.raises(InputError, match="at least 1 block"):
        compare_policies(study, [0], ["sieve"])


def test_a_stopped_comparison_says_what_is_missing(study: CapacityStudy) -> None:
    comparison = compare_policies(study, [1_000], ["fifo", "sieve"], should_stop=lambda: True)
    names = [row.name for row in comparison.rows]
    assert {"lru", "optimum", "ceiling"} <= set(names)
    for name in {"fifo", "sieve"} - set(names):
        assert name in comparison.partial


def made(name: str, *hits: int, kind: str = "policy") -> PolicyRow:
    best, lru = np.array(BEST), np.array(LRU)
    return PolicyRow(
        name=name,
        title=name,
        summary="",
        kind="bound" if kind == "bound" else "policy",
        hit_blocks=np.array(hits),
        hit_tokens=np.array(hits),
        gap_closed=(np.array(hits) - lru) / (best - lru),
        seconds=0.0,
    )


LRU, BEST = (100, 200, 300), (200, 300, 310)


def judged(*others: PolicyRow) -> tuple[str, ...]:
    rows = (made("lru", *LRU), *others, made("optimum", *BEST, kind="bound"))
    comparison = PolicyComparison(np.array([10, 20, 30]), rows)
    return verdict(comparison, 1_000, 20)


def test_a_policy_that_wins_and_never_loses_is_recommended() -> None:
    said = judged(made("good", 110, 240, 299), made("better-but-loses", 150, 290, 200))
    assert said[0].startswith("good is worth it: +4.0 points at 20 blocks, 40%")
    assert "0.1 points below LRU" in said[0]
    assert "better-but-loses wins 9.0 points at 20 blocks and loses 10.0 at 30." in said[1]


def test_what_loses_more_than_allowed_is_not() -> None:
    below = 300 - int(10 * NEVER_WORSE_POINTS) - 1
    said = judged(made("loses", 110, 240, below))
    assert said[0].startswith("Stay on LRU: the optimum is 10.0 points above LRU at 20 blocks, but")
    assert "loses wins 4.0 points" in said[1]


def test_without_a_gap_there_is_nothing_to_win() -> None:
    rows = (made("lru", *LRU), made("optimum", 100, 201, 300, kind="bound"))
    said = verdict(PolicyComparison(np.array([10, 20, 30]), rows), 1_000, 20)
    assert said == (
        "Stay on LRU: the optimum is 0.1 points above LRU at 20 blocks, so no policy can gain much "
        "there.",
    )


def test_what_wins_elsewhere_and_never_loses_is_told() -> None:
    said = judged(made("steady", 150, 201, 300))
    assert said[0].startswith("Stay on LRU: the optimum is 10.0 points above LRU at 20 blocks, but")
    assert said[1] == "steady wins 5.0 points at 10 blocks and is never far below LRU."
