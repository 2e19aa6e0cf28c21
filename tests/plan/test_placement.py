"""Placement policies side by side: what is compared, and what is made of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from placement_documents import nobody, row

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.errors import InputError
from kvatlas.placement import PLACEMENTS
from kvatlas.plan.placement import compare_placements, open_loop, pool_size
from kvatlas.plan.placement_verdict import placement_verdict
from kvatlas.workload import Workload, generate


def small(requests: int = 60) -> Workload:
    return generate("conversation", seed=3, num_requests=requests)


@pytest.mark.variants
def test_every_policy_is_compared_in_the_open_loop() -> None:
    workload = small()
    size, _ = pool_size(workload, 16)
    found = compare_placements(workload, EngineConfig(num_blocks=size))
    assert [each.name for each in found.rows] == list(PLACEMENTS)
    assert found.partial == ""
    queue = found.rows[0]
    assert queue.measured.tables.requests == workload.num_requests
    assert queue.queried_tokens == workload.total_prompt_tokens
    for each in found.rows:
        assert each.same_hits or not PLACEMENTS[each.name].same_victims
        assert each.same_hits == (each.hit_tokens == queue.hit_tokens) or not each.same_hits
        assert each.preemptions == each.never_served == 0
        assert each.measured.tables.blocks.tolist() == queue.measured.tables.blocks.tolist()
        assert each.ns_per_block > 0
    assert all(
        each.runs_per_request < queue.runs_per_request
        for each in found.rows
        if each.name in ("sorted", "window")
    )


def test_the_open_loop_is_one_request_at_a_time_without_answers() -> None:
    workload = small(30)
    inputs, config, drive = open_loop(workload, EngineConfig(num_blocks=3000))
    result = Replay(inputs, config, drive).run()
    blocks = -(-workload.prompt_tokens.astype(np.int64) // 16)
    assert result.decisions["finished"] == 30
    assert float(result.decisions["mean_running"]) <= 1
    assert result.decisions["peak_usage"] == round(int(blocks.max()) / 2999, 4)
    # Every step serves one prompt whole; the last one finds nothing left to do.
    assert int(result.decisions["steps"]) - int(result.decisions["empty_steps"]) == 30


@pytest.mark.variants
def test_the_scheduler_is_the_engine_as_configured() -> None:
    workload = small()
    config = EngineConfig(num_blocks=1200, max_num_seqs=16, max_num_batched_tokens=512)
    found = compare_placements(workload, config, ["sorted"], drive=DriveConfig())
    assert [each.name for each in found.rows] == ["queue", "sorted"]
    result = Replay(workload, config, DriveConfig()).run()
    for each in found.rows:
        assert each.preemptions == result.decisions["preemptions"]
        assert each.hit_tokens == result.decisions["prefix_hits"]
        assert each.queried_tokens == result.decisions["prefix_queries"]


@pytest.mark.variants
def test_it_stops_with_what_is_whole() -> None:
    asked: list[str] = []

    def stop() -> bool:
        return "Sorted" in asked

    found = compare_placements(
        small(),
        EngineConfig(num_blocks=1200),
        ["sorted"],
        on_progress=lambda done, total, title: asked.append(title),
        should_stop=stop,
    )
    assert [each.name for each in found.rows] == ["queue"]
    assert found.partial == "interrupted: without sorted"


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(InputError, match="unknown placement"):
        compare_placements(small(5), EngineConfig(num_blocks=1200), ["sortd"])


@pytest.mark.parametrize(
    ("prompts", "size", "why"),
    [
        ([160] * 2, 25, "twice the largest request"),
        ([160] * 400, 500, "an eighth of the trace's different blocks"),
        ([160_000] * 400, 187_500, "3 million tokens in blocks of 16"),
    ],
)
def test_the_pool_is_small_enough_to_matter(prompts: list[int], size: int, why: str) -> None:
    workload = small(len(prompts)).with_(
        prompt_tokens=np.array(prompts, np.int32),
        output_tokens=np.full(len(prompts), 20, np.int32),
        prefix_known=False,
    )
    assert pool_size(workload, 16) == (size, why)


def test_a_shared_block_counts_once() -> None:
    workload = small(400)
    different = -(-workload.num_ids * workload.tokens_per_id // 16)
    assert different < int((-(-workload.prompt_tokens.astype(np.int64) // 16)).sum())
    assert pool_size(workload, 16) == (different // 8, "an eighth of the trace's different blocks")


def test_the_verdict_names_the_best_with_equal_hits_and_the_best_of_all() -> None:
    queue, sorted_ = row("queue", [40]), row("sorted", [8], pool_s=2e-4)
    window, greedy = row("window", [4], hit=319), row("greedy", [1], hit=200)
    said = placement_verdict((queue, sorted_, window, greedy), ())
    assert said[0].startswith("One request after another: Sorted has 5.0 times fewer runs")
    assert "(40.0 to 8.00), with exactly the same hits, at 200 ns per block" in said[0]
    assert said[0].endswith("instead of 100.")
    assert "Window has 10.0 times fewer" in said[1]
    assert "at -0.156 points" in said[1]
    assert not any("Greedy" in each for each in said)
    assert said[-1].startswith("All blocks are equal")


def test_the_verdict_says_stay_where_little_is_won() -> None:
    rows = (row("queue", [30]), row("sorted", [25]))
    said = placement_verdict(rows, rows)
    assert said[0].startswith("One request after another: stay on the queue")
    assert said[1].startswith("In the full scheduler: stay on the queue")
    assert any("order alone" in each for each in said)


def test_the_verdict_of_one_policy_or_of_nothing() -> None:
    assert "no other policy was tried" in placement_verdict((row("queue", [9]),), ())[0]
    assert placement_verdict((), ())[0].startswith("No request ran to its end")
    assert placement_verdict((nobody(), replace(nobody(), name="sorted")), ())[0].startswith("No")
