"""Verdicts on small policies: thresholds, the pool, and that off and on are what they say."""

from __future__ import annotations

from typing import Any

import pytest

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.engine.replay import blocks_needed
from kvatlas.errors import InputError
from kvatlas.plan.policy_trials import pool_under_pressure, try_policies
from kvatlas.plan.small_policies import SMALL_POLICIES, PolicyTrial, judged
from kvatlas.workload import Workload, generate

TIMED = DriveConfig(arrivals="timed")


def trial(**changes: Any) -> PolicyTrial:
    measured: dict[str, Any] = {
        "name": "off",
        "token_hit_rate": 0.5,
        "preemptions": 100,
        "recomputed_tokens": 50_000,
        "queue_mean_s": 2.0,
        "finish_mean_s": 10.0,
        "finished_after_s": 3600.0,
        "never_served": 0,
    }
    return PolicyTrial(**(measured | changes))


@pytest.mark.parametrize(
    ("changes", "word", "moved"),
    [
        ({}, "no gain", ()),
        ({"token_hit_rate": 0.5009}, "no gain", ()),
        ({"token_hit_rate": 0.5011}, "gain", ("hits +0.1 points",)),
        ({"token_hit_rate": 0.45}, "loss", ("hits -5.0 points",)),
        ({"preemptions": 96}, "no gain", ()),
        ({"preemptions": 95}, "gain", ("preemptions -5",)),
        ({"preemptions": 106}, "loss", ("preemptions +6",)),
        ({"recomputed_tokens": 47_000}, "gain", ("recomputed -3,000",)),
        ({"queue_mean_s": 2.01}, "no gain", ()),
        ({"queue_mean_s": 1.5}, "gain", ("queue -25.0%",)),
        ({"finish_mean_s": 10.3}, "loss", ("finish +3.0%",)),
        ({"finished_after_s": 3000.0}, "gain", ("end -16.7%",)),
        ({"preemptions": 0, "queue_mean_s": 3.0}, "mixed", ("preemptions -100", "queue +50.0%")),
        ({"token_hit_rate": None, "queue_mean_s": None}, "no gain", ()),
    ],
)
def test_a_verdict_goes_by_the_thresholds(
    changes: dict[str, Any], word: str, moved: tuple[str, ...]
) -> None:
    found = judged(trial(name="on", **changes), trial())
    assert (found.verdict, (*found.gains, *found.losses)) == (word, moved)
    assert found.name == "on"


def test_a_short_time_moves_by_milliseconds() -> None:
    """GIVEN a queue of 20 ms WHEN it moves by 9 ms THEN that says nothing, 11 ms does."""
    off = trial(queue_mean_s=0.020)
    assert judged(trial(queue_mean_s=0.029), off).verdict == "no gain"
    assert judged(trial(queue_mean_s=0.031), off).losses == ("queue +55.0%",)
    assert judged(trial(queue_mean_s=0.5), trial(queue_mean_s=0.0)).losses == ("queue +0.50 s",)


def conversation() -> Workload:
    return generate("conversation", seed=3, num_requests=150)


def test_the_pool_is_a_share_of_what_is_held() -> None:
    """GIVEN plenty of memory WHEN half of the peak is asked for THEN nobody is refused there."""
    workload, config = conversation(), EngineConfig(num_blocks=2, max_num_seqs=64)
    blocks, peak = pool_under_pressure(workload, config, TIMED, 0.5)
    largest = int(blocks_needed(workload, config).max())
    assert blocks == max(peak // 2, int(1.1 * largest) + 2)
    # AND the peak is what a pool without end would hold.
    endless = Replay(workload, config.with_(num_blocks=80_000), TIMED).run()
    assert peak == pytest.approx(float(endless.decisions["peak_usage"]) * 79_999, abs=8)
    assert not Replay(workload, config.with_(num_blocks=blocks), TIMED).run().rejected
    with pytest.raises(InputError, match="share"):
        pool_under_pressure(workload, config, TIMED, 0.0)


PLAIN = [
    name for name, policy in SMALL_POLICIES.items() if not policy.tiered and not policy.block_size
]


@pytest.mark.rare
def test_every_policy_is_tried_beside_off() -> None:
    """GIVEN a small pool WHEN all are tried THEN each row is that policy's own replay."""
    workload = conversation()
    config = EngineConfig(num_blocks=900, max_num_seqs=24)
    seen: list[str] = []
    found = try_policies(
        workload, config, TIMED, on_progress=lambda name, done: seen.append(name), peak_blocks=7
    )
    assert [trial.name for trial in found.trials] == list(SMALL_POLICIES)
    assert dict.fromkeys(seen) == dict.fromkeys(["off", *SMALL_POLICIES])
    assert (found.requests, found.num_blocks, found.peak_blocks) == (150, 900, 7)
    assert found.off.acted == 0 == len(found.off.verdict)
    trials = {each.name: each for each in found.trials}
    for name, each in trials.items():
        assert each.acted > 0, name
        assert each.verdict in ("gain", "mixed", "no gain", "loss")
        assert each.against == SMALL_POLICIES[name].against
    for name in PLAIN:
        settings = SMALL_POLICIES[name].settings
        alone = Replay(workload, config.with_(**settings), TIMED).run()
        assert trials[name].preemptions == alone.decisions["preemptions"]
        assert trials[name].token_hit_rate == pytest.approx(alone.decisions["hit_rate"], abs=1e-6)
    # AND what needs a tier below is judged beside that tier alone, not beside nothing
    tier = trials["host-tier"]
    for name in ("prefetch", "hybrid"):
        again = judged(trials[name], tier)
        assert (again.verdict, again.gains, again.losses) == (
            trials[name].verdict,
            trials[name].gains,
            trials[name].losses,
        )
    # AND a larger block is the same memory
    size = int(trials["block-size"].detail.partition("-")[0])
    larger = config.with_(block_size=size, num_blocks=900 * 16 // size)
    alone = Replay(workload, larger, TIMED).run()
    assert size > 16
    assert trials["block-size"].token_hit_rate == pytest.approx(
        alone.decisions["hit_rate"], abs=1e-6
    )
    assert "on the device and" in trials["hybrid"].detail


@pytest.mark.rare
def test_what_a_policy_is_held_against_is_tried_too() -> None:
    config = EngineConfig(num_blocks=900, max_num_seqs=24)
    found = try_policies(conversation(), config, TIMED, ["prefetch"])
    assert [(trial.name, trial.against) for trial in found.trials] == [
        ("host-tier", "off"),
        ("prefetch", "host-tier"),
    ]


def test_flags_are_those_of_replay() -> None:
    assert SMALL_POLICIES["lazy-free"].flags == "--lazy-free-steps 32"
    assert SMALL_POLICIES["predicted-ahead"].flags == "--preallocate-predicted"
    assert SMALL_POLICIES["admit-by-half"].flags == "--admission-growth 0.5"
    assert SMALL_POLICIES["block-size"].flags == "--block-size auto"
    assert SMALL_POLICIES["prefetch"].flags == "--protect-waiting 16"


def test_an_unknown_policy_is_one_line() -> None:
    with pytest.raises(InputError, match="use one of lazy-free, protect-waiting"):
        try_policies(conversation(), EngineConfig(num_blocks=900), TIMED, ["hope"])
