"""The block sizer: its sums beside slow ones, its prediction beside replays, what it chooses."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvatlas.engine import DriveConfig, EngineConfig
from kvatlas.errors import InputError
from kvatlas.plan import AdaptiveBlockSizer, expected_waste, measure_block_sizes
from kvatlas.plan.block_size_steps import schedule_steps
from kvatlas.workload import Workload, generate, load

SIZES = (16, 64, 256, 512)
TENTH_OF_A_POINT = 0.001


def public_trace(name: str, limit: int) -> Workload:
    """Load a public trace from `KVATLAS_TRACES` or `shared/traces` beside the repository."""
    folder = os.environ.get("KVATLAS_TRACES")
    beside = Path(__file__).resolve().parents[3] / "shared" / "traces"
    path = (Path(folder) if folder else beside) / name
    if not path.exists():
        pytest.skip(f"the public trace {name} is not on this machine")
    return load(path, limit=limit)


@given(
    lengths=st.lists(st.tuples(st.integers(1, 200), st.integers(0, 60)), min_size=1, max_size=12),
    block_size=st.integers(1, 70),
)
def test_the_sums_are_those_of_every_step(lengths: list[tuple[int, int]], block_size: int) -> None:
    live = allocated = 0
    for prompt, output in lengths:
        for held in range(prompt, prompt + max(1, output)):
            live += held
            allocated += -(-held // block_size) * block_size
    prompts, outputs = zip(*lengths, strict=True)
    assert expected_waste(prompts, outputs, block_size) == pytest.approx(
        1 - live / allocated, abs=1e-12
    )


def same_as_replay(workload: Workload, sizes: Sequence[int], drive: DriveConfig) -> list[float]:
    """Return by block size how far the prediction is from what a replay measures."""
    # Room for everything, so that nobody loses blocks; no sharing, which lengths do not tell.
    config = EngineConfig(num_blocks=1_000_000, enable_prefix_caching=False)
    sizer = AdaptiveBlockSizer.of(workload, sizes)
    measured = measure_block_sizes(workload, config, drive, candidates=sizes)
    apart = []
    for row in measured:
        assert row.preemptions == 0
        assert row.waste is not None
        apart.append(abs(row.waste - sizer.estimate(row.block_size).expected_waste))
    return apart


@pytest.mark.parametrize("arrivals", ["timed", "backlog"])
@pytest.mark.parametrize("name", ["azure_llm_2023_conversation.csv", "mooncake_conversation.jsonl"])
def test_public_traces_within_a_tenth_of_a_point_of_a_replay(name: str, arrivals: str) -> None:
    # GIVEN lengths alone WHEN the engine replays them THEN its waste is the predicted one
    workload = public_trace(name, 6_000 if name.startswith("azure") else 1_500)
    drive = DriveConfig(arrivals="timed" if arrivals == "timed" else "backlog")
    assert max(same_as_replay(workload, SIZES, drive)) < TENTH_OF_A_POINT


def test_a_generated_workload_within_a_tenth_of_a_point_of_a_replay() -> None:
    workload = generate("conversation", seed=3, num_requests=600)
    assert max(same_as_replay(workload, SIZES, DriveConfig(arrivals="timed"))) < TENTH_OF_A_POINT


@pytest.mark.parametrize("arrivals", ["timed", "backlog"])
@pytest.mark.parametrize("limits", [(256, 8192, 0), (12, 700, 0), (40, 900, 128), (1, 64, 0)])
def test_a_schedule_gives_the_waste_of_the_replay(
    limits: tuple[int, int, int], arrivals: str
) -> None:
    # GIVEN bursts, chunks and idle hours WHEN the steps are known THEN the waste is the replay's
    workload = generate("conversation", seed=1, num_requests=120)
    drive = DriveConfig(arrivals="timed" if arrivals == "timed" else "backlog")
    seats, budget, threshold = limits
    config = EngineConfig(
        num_blocks=500_000,
        enable_prefix_caching=False,
        max_num_seqs=seats,
        max_num_batched_tokens=budget,
        long_prefill_token_threshold=threshold,
    )
    sizer = AdaptiveBlockSizer.of(workload, (16, 48, 512), config=config, drive=drive)
    apart = 1e-5 if threshold else 1e-9  # with a threshold who goes without is not told exactly
    for row in measure_block_sizes(workload, config, drive, candidates=sizer.candidates):
        assert row.waste == pytest.approx(sizer.estimate(row.block_size).expected_waste, abs=apart)
    sizer.observe([100], [100])
    assert sizer.requests == 120  # and from now on it goes by lengths
    assert sizer.estimate(16).expected_waste != row.waste


def test_a_burst_is_told_by_its_schedule() -> None:
    workload = public_trace("sharegpt_llama3_300.jsonl.gz", 300)
    config = EngineConfig(num_blocks=1_000_000, enable_prefix_caching=False)
    sizer = AdaptiveBlockSizer.of(workload, SIZES, config=config)
    for row in measure_block_sizes(workload, config, candidates=SIZES):
        assert row.waste == pytest.approx(sizer.estimate(row.block_size).expected_waste, abs=1e-6)


def test_the_final_waste_is_exact() -> None:
    sizer = AdaptiveBlockSizer((16, 256))
    sizer.observe([1_000, 16], [24, 1])
    found = sizer.estimate(256)
    assert found.final_waste == (1_280 - 1_041) / 1_280 + 0.0
    assert found.mean_blocks == 2.5
    assert found.efficiency == 1 - found.expected_waste
    assert sizer.estimate(16).books_bytes_per_token == 68 / 16


def test_the_largest_that_is_nearly_free_is_chosen() -> None:
    # GIVEN long requests THEN large blocks; GIVEN short ones THEN small ones
    sizer = AdaptiveBlockSizer(window=100)
    sizer.observe(np.full(100, 50_000), np.full(100, 500))
    long = sizer.recommend()
    assert long.block_size == 256
    assert "times as many blocks" in long.reason
    sizer.observe(np.full(100, 500), np.full(100, 100))
    short = sizer.recommend()
    assert (short.block_size, short.requests) == (16, 100)
    assert "32 would waste" in short.reason
    wastes = [each.expected_waste for each in short.estimates]
    assert all(small < large for small, large in pairwise(wastes))
    assert sizer.current == 16


def test_noise_does_not_change_the_choice() -> None:
    # GIVEN 128-token blocks in use WHEN 256 would cost 0.6 points THEN they are kept; at 0.2 not
    kept = AdaptiveBlockSizer(current=128)
    kept.observe(np.full(50, 19_000), np.full(50, 256))
    fresh = AdaptiveBlockSizer()
    fresh.observe(np.full(50, 19_000), np.full(50, 256))
    assert (fresh.recommend().block_size, kept.recommend().block_size) == (256, 128)
    assert kept.recommend().reason.endswith("the gain of a change is too small")
    kept.observe(np.full(50_000, 90_000), np.full(50_000, 256))
    assert kept.recommend().block_size == 256


def test_hits_hold_the_block_size_down() -> None:
    # GIVEN prompts that share much WHEN larger blocks round it away THEN they are not chosen
    workload = generate("conversation", seed=0, num_requests=800)
    advice = AdaptiveBlockSizer.of(workload).recommend()
    rates = [each.ceiling_token_hit_rate for each in advice.estimates]
    assert all(rate is not None for rate in rates)
    assert rates[0] is not None
    assert rates[-1] is not None
    assert rates[0] - rates[-1] > 0.01 > 0
    blind = AdaptiveBlockSizer()
    blind.observe(workload.prompt_tokens, workload.output_tokens)
    assert blind.recommend().block_size >= advice.block_size
    assert blind.recommend().estimate.ceiling_token_hit_rate is None
    assert "ceiling of the hit rate" in advice.reason


def test_a_ceiling_that_stays_is_not_said_to_fall(tmp_path: Path) -> None:
    # GIVEN prompts that share nothing WHEN advised THEN no word of a ceiling from 0% to 0%
    path = tmp_path / "alone.jsonl"
    row = {"timestamp": 0, "input_length": 640, "output_length": 40}
    rows = [row | {"hash_ids": [2 * i, 2 * i + 1]} for i in range(9)]
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    advice = AdaptiveBlockSizer.of(load(path), (16, 32, 64)).recommend()
    assert advice.estimate.ceiling_token_hit_rate == 0
    assert "would waste" in advice.reason
    assert "ceiling" not in advice.reason


def test_measuring_keeps_the_memory() -> None:
    workload = generate("conversation", seed=0, num_requests=200)
    rows = measure_block_sizes(workload, EngineConfig(num_blocks=4_000), candidates=(16, 64))
    assert [row.num_blocks for row in rows] == [4_000, 1_000]
    assert rows[0].token_hit_rate > rows[1].token_hit_rate > 0
    assert rows[0].simulated_s > 0


def test_what_cannot_be_is_refused_in_a_line() -> None:
    workload = generate("conversation", seed=0, num_requests=20)
    for call in (
        lambda: AdaptiveBlockSizer(()),
        lambda: AdaptiveBlockSizer((16, 0)),
        lambda: AdaptiveBlockSizer(tolerance=2),
        lambda: AdaptiveBlockSizer(window=0),
        lambda: AdaptiveBlockSizer(current=48),
        lambda: AdaptiveBlockSizer().recommend(),
        lambda: AdaptiveBlockSizer().observe([0], [1]),
        lambda: AdaptiveBlockSizer().observe([1], [-1]),
        lambda: AdaptiveBlockSizer().observe([1.5], [1]),
        lambda: AdaptiveBlockSizer().observe([1, 2], [1]),
        lambda: expected_waste([], [], 16),
        lambda: schedule_steps(workload, EngineConfig(num_blocks=9, policy="priority")),
        lambda: schedule_steps(
            workload, EngineConfig(num_blocks=9, max_num_seqs=9, max_num_batched_tokens=8)
        ),
        lambda: expected_waste([1], [1], 0),
        lambda: measure_block_sizes(workload, EngineConfig(num_blocks=2), candidates=(64,)),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given", [{"candidates": (16.5,)}, {"candidates": (float("nan"),)}, {"window": 2.5}]
)
def test_sizes_are_whole_numbers(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be a whole number of at least 1"):
        AdaptiveBlockSizer(**given)


def test_a_length_beyond_all_is_told_the_limit() -> None:
    with pytest.raises(InputError, match="whole numbers from 1 to 1,099,511,627,776"):
        AdaptiveBlockSizer().observe([1 << 62], [1])
