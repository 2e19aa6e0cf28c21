"""Trying changes ends: after so many replays, after a time, or when somebody stops it."""

from __future__ import annotations

from itertools import count

import pytest
from probes import effect_of, fired_on, probe, small_chat, thrashing, to
from runs import Run

from kvatlas.plan import Budget, Setup, WhatIf
from kvatlas.plan.effects import measure_effects
from kvatlas.plan.what_if import replay_figures
from kvatlas.workload import Workload


@pytest.fixture
def chat() -> Workload:
    return small_chat()


@pytest.fixture
def small_cache() -> Run:
    return thrashing()


def test_no_replay_is_made_twice_and_the_workload_is_shared(small_cache: Run) -> None:
    begun: list[int] = []
    what_if = WhatIf(
        small_cache.workload,
        Setup(small_cache.config),
        on_progress=lambda number, most, flags: begun.append(number),
    )
    two = [fired_on(small_cache, probe(to("num_blocks", 4000)))] * 2
    first, second = measure_effects(two, what_if)
    assert first.effect == second.effect
    assert second.effect_note == f"The same change as above. {first.effect_note}".rstrip()
    assert begun == [0, 1]
    assert what_if.workload is small_cache.workload


def test_figures_at_hand_save_a_replay(small_cache: Run) -> None:
    setup = Setup(small_cache.config)
    replay = setup.replay(small_cache.workload)
    replay.run()
    before = replay_figures(replay, setup)
    given = effect_of(
        small_cache, probe(to("num_blocks", 4000)), before=before, budget=Budget(replays=1)
    )
    assert given == effect_of(small_cache, probe(to("num_blocks", 4000)))


def test_the_limit_of_replays_holds(small_cache: Run) -> None:
    rule = probe(to("num_blocks", 3000), to("num_blocks", 4000))
    # GIVEN two replays: one as it was, one change
    finding = effect_of(small_cache, rule, budget=Budget(replays=2))
    assert finding.change == "--blocks 3000"
    assert "Not every change was tried: the limit of 2 replays was reached." in finding.effect_note
    # GIVEN only the one as it was
    finding = effect_of(small_cache, rule, budget=Budget(replays=1))
    assert (finding.change, finding.effect) == ("--blocks 3000", None)
    assert finding.effect_note == "Not replayed: the limit of 1 replays was reached."


def test_the_time_for_it_holds(small_cache: Run) -> None:
    # GIVEN a clock that jumps a second whenever it is asked, and two seconds; compiling is free
    clock = count()
    finding = effect_of(
        small_cache,
        probe(to("num_blocks", 3000)),
        budget=Budget(seconds=2),
        now_s=lambda: float(next(clock)),
    )
    assert (finding.tone, finding.effect) == ("act", None)
    assert finding.effect_note == "Not replayed: the time for it (2 s) was used up."


def test_stopping_leaves_the_findings_as_they_are(small_cache: Run) -> None:
    finding = effect_of(small_cache, probe(to("num_blocks", 3000)), should_stop=lambda: True)
    assert (finding.tone, finding.change, finding.effect) == ("act", "--blocks 3000", None)
    assert finding.effect_note == "Not replayed: interrupted."


def test_stopping_after_the_first_change_keeps_its_effect(small_cache: Run) -> None:
    tried: list[str] = []
    finding = effect_of(
        small_cache,
        probe(to("num_blocks", 3000), to("num_blocks", 4000)),
        on_progress=lambda number, most, flags: tried.append(flags),
        should_stop=lambda: "--blocks 4000" in tried,
    )
    assert finding.change == "--blocks 3000"
    assert finding.effect is not None
    assert "Not every change was tried: interrupted." in finding.effect_note


def test_stopping_in_the_middle_of_a_replay_gives_it_up(
    small_cache: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvatlas.plan.what_if._SLICE_STEPS", 50)
    asked = count()
    finding = effect_of(
        small_cache,
        probe(to("num_blocks", 3000)),
        should_stop=lambda: next(asked) > 3,
    )
    assert finding.effect is None
    assert finding.effect_note == "Not replayed: interrupted."


def test_a_pool_too_large_for_this_machine_is_not_tried(small_cache: Run) -> None:
    finding = effect_of(small_cache, probe(to("num_blocks", 2**31 - 2)))
    assert finding.effect is None
    assert "too much of this machine's memory" in finding.effect_note
