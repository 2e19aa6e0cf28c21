"""Figures of a run against values worked out by hand from its sums."""

from __future__ import annotations

from dataclasses import replace

import pytest
from outcomes import MadeUp, three_requests

from kvatlas.measure import Conditions, Figures, measure_replay
from kvatlas.measure.replay import lack_tier_and_pressure

PLAIN = Conditions(usable_blocks=100, block_size=16)


def measured(outcome: MadeUp | None = None, conditions: Conditions = PLAIN) -> Figures:
    return measure_replay(outcome or MadeUp(), three_requests(), conditions)


def test_every_figure_from_its_sums() -> None:
    # GIVEN 1,000 ms in which 50 blocks of 16 tokens were in use on average, 40 slots of them empty
    values = measured().values
    # THEN
    assert values["usage.time_weighted"] == pytest.approx(50 / 100)
    assert values["waste.internal_time_weighted"] == pytest.approx(40 / (50 * 16))
    assert values["waste.internal_mean_slots"] == pytest.approx(40)
    # 41, 43 and 45 tokens in three blocks of 16 each
    assert values["waste.final_length_share"] == pytest.approx(1 - (41 + 43 + 45) / (3 * 48))
    assert values["running.time_weighted"] == pytest.approx(2)
    assert values["queue.length_time_weighted"] == pytest.approx(0.5)
    assert values["queue.head_refused_s"] == pytest.approx(0.1)
    assert values["queue.head_refused_share"] == pytest.approx(0.1)
    assert values["prefix.token_hit_rate"] == pytest.approx(30 / 120)
    assert values["prefix.evicted_blocks"] == 5
    assert values["attribution.cold"] == pytest.approx(60 / 90)
    assert values["attribution.capacity"] == pytest.approx(20 / 90)
    assert values["attribution.granularity"] == pytest.approx(10 / 90)
    assert values["attribution.configuration"] == 0
    assert values["preemption.count"] == 2
    assert values["preemption.waste"] == pytest.approx(7 / 140)
    assert values["allocation.failed_running"] == 3
    assert values["allocation.failed_waiting"] == 4
    assert values["clock.simulated_s"] == pytest.approx(1)
    assert values["clock.idle_s"] == 0


def test_ceiling_is_that_of_an_unbounded_cache() -> None:
    # GIVEN three prompts of 40 tokens: the second shares 32 full-block tokens, the third 16
    values = measured().values
    assert values["prefix.ceiling_hit_tokens"] == 48
    assert values["prefix.ceiling_token_hit_rate"] == pytest.approx(48 / 120)


def test_the_span_runs_from_the_first_arrival() -> None:
    # GIVEN a timed run whose first request comes at 400 ms, and 100 ms without any step later
    outcome = MadeUp(sums=MadeUp().sums | {"clock_ms": 1500.0})
    workload = three_requests(arrival_s=(0.4, 0.5, 0.6))
    values = measure_replay(outcome, workload, replace(PLAIN, timed=True)).values
    assert values["clock.simulated_s"] == pytest.approx(1.1)
    assert values["clock.idle_s"] == pytest.approx(0.1)
    assert values["usage.time_weighted"] == pytest.approx(50_000 / 100 / 1100)


def test_a_clock_that_stands_still_gives_no_means_over_time() -> None:
    still = {name: 0.0 for name in MadeUp().sums if name.endswith("_ms")}
    figures = measured(MadeUp(sums=MadeUp().sums | still))
    for name in ("usage.time_weighted", "waste.internal_time_weighted", "queue.head_refused_s"):
        assert figures[name] is None
        assert "clock stood still" in figures.unavailable[name]
    assert figures["usage.peak"] == 0.75


@pytest.mark.parametrize(
    ("conditions", "names", "reason"),
    [
        (replace(PLAIN, caching=False), ["prefix.token_hit_rate"], "prefix caching is off"),
        (
            replace(PLAIN, block_size=None),
            ["waste.internal_time_weighted", "prefix.ceiling_token_hit_rate"],
            "",
        ),
        (replace(PLAIN, windowed=True), ["prefix.ceiling_token_hit_rate"], "windows"),
        (replace(PLAIN, slots_hold_tokens=False), ["waste.internal_mean_slots"], "state"),
        (replace(PLAIN, block_size=24), ["prefix.ceiling_hit_tokens"], "do not fit"),
        (PLAIN, ["queue.time_p50_s", "latency.ttft_p99_s", "latency.e2e_mean_s"], "backlog"),
        (PLAIN, ["queue.head_of_line_s"], "--events"),
        (PLAIN, ["clock.step_time_error"], "not calibrated"),
        (PLAIN, ["prefix.readmission_token_hit_rate"], "no preempted request"),
    ],
)
def test_what_cannot_be_known_says_why(
    conditions: Conditions, names: list[str], reason: str
) -> None:
    figures = measured(conditions=conditions)
    for name in names:
        assert figures[name] is None
        assert reason in figures.unavailable[name]


def test_lengths_alone_say_nothing_of_reuse() -> None:
    figures = measure_replay(MadeUp(), three_requests(prefix_known=False), PLAIN)
    for name in ("prefix.token_hit_rate", "prefix.ceiling_token_hit_rate"):
        assert figures[name] is None
        assert "lengths only" in figures.unavailable[name]


def test_the_same_names_whatever_can_be_known() -> None:
    names = list(measured().values)
    for conditions in (replace(PLAIN, timed=True), replace(PLAIN, block_size=None)):
        assert list(measured(conditions=conditions).values) == names


HOST = {
    "host_capacity": 8.0, "host_used": 2.0, "host_moving_ms": 0.0, "host_restored": 3.0,
    "host_written": 4.0, "host_kept": 0.0, "host_saved_at_preemption": 0.0, "host_evictions": 0.0,
    "host_refusals": 0.0, "restored": 15.0, "preempted_restored": 0.0,
}  # fmt: skip
CHOICES = tuple(
    f"{part}.{name}_requests" for part in ("tier", "pressure") for name in ("swapped", "recomputed")
)


@pytest.mark.parametrize(
    ("preemptions", "chosen", "said"),
    [
        (2, (1, 1), (1, 1, 1, 1)),
        (2, (0, 2), (0, 2, 0, 2)),
        (0, (0, 0), (0, 0, 0, 0)),
        (2, (0, 0), (None, None, None, None)),
    ],
    ids=["both", "recomputed", "no preemption", "written on eviction"],
)
def test_tier_and_rungs_say_one_thing_of_preempted_requests(
    preemptions: int, chosen: tuple[int, int], said: tuple[int | None, ...]
) -> None:
    # GIVEN two preemptions; a tier that writes on eviction chooses nothing at them
    swapped, recomputed = chosen
    sums = MadeUp().sums | HOST | {"host_swapped": swapped, "host_recomputed": recomputed}
    decisions = MadeUp().decisions | {"preemptions": preemptions}
    figures = measured(MadeUp(decisions=decisions, sums=sums))
    assert tuple(figures[name] for name in CHOICES) == said
    for name in CHOICES:
        if figures[name] is None:
            assert "--host-write-back evict" in figures.unavailable[name]


def test_without_a_tier_whoever_is_preempted_computes_again() -> None:
    figures = measured()
    assert figures["pressure.recomputed_requests"] == 2
    assert figures["pressure.swapped_requests"] is None


def test_a_rung_that_the_engine_does_not_have_is_no_zero() -> None:
    figures = measured()
    assert figures["pressure.defragmentations"] is None
    assert "side by side" in figures.unavailable["pressure.defragmentations"]


def test_what_a_report_lacks_is_all_that_a_replay_says_of_tier_and_pressure() -> None:
    lacking = Figures()
    lack_tier_and_pressure(lacking, "nobody counted")
    names = {name for name in measured().values if name.startswith(("tier.", "pressure."))}
    assert set(lacking.values) == set(lacking.unavailable) == names
    assert set(lacking.unavailable.values()) == {"nobody counted"}
