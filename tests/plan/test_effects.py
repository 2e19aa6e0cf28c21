"""Effects are what a replay of the changed flags measures, whichever way they point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from probes import effect_of, fired_on, judged, probe, small_chat, thrashing, to
from runs import Run, run, settings

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.measure import Conditions, measure_replay
from kvatlas.plan import Setup, WhatIf
from kvatlas.plan.effects import measure_effects
from kvatlas.plan.rules import Change, Gain
from kvatlas.plan.what_if import replay_figures
from kvatlas.workload import Workload


@pytest.fixture
def chat() -> Workload:
    return small_chat()


@pytest.fixture
def small_cache() -> Run:
    return thrashing()


def test_an_effect_is_what_a_direct_replay_measures(chat: Workload, small_cache: Run) -> None:
    # GIVEN a cache that is too small WHEN the finding says what twice the blocks do
    (finding,) = [one for one in judged(small_cache) if one.rule == "capacity-bound"]
    assert finding.effect is not None
    assert finding.change == "--blocks 4000"
    # THEN a replay of these flags, set up by hand, says the same
    conditions = Conditions(usable_blocks=3999, block_size=16, max_model_len=131072)
    config = EngineConfig(num_blocks=4000, max_num_seqs=16)
    figures = measure_replay(Replay(chat, config, DriveConfig()).run(), chat, conditions)
    assert finding.effect.figure == "prefix.token_hit_rate"
    assert finding.effect.after == figures["prefix.token_hit_rate"]
    assert finding.effect.before == small_cache.figures["prefix.token_hit_rate"]
    assert finding.effect.command == (
        "kvatlas replay --engine-version 0.32 --blocks 4000 --max-num-seqs 16"
    )
    assert "twice the memory" in finding.effect_note


def test_every_effect_of_a_verdict_is_a_replay_of_its_change(chat: Workload) -> None:
    for one in (
        run(chat, num_blocks=1000, block_size=256),
        run(chat, prefix_caching=False),
        run(chat, num_blocks=1500, watermark=0.4, arrivals="timed"),
        run(chat, engine="nano-vllm", num_blocks=150),
    ):
        before = replay_of(one.config, chat)
        for finding in judged(one):
            if finding.effect is None or finding.change is None:
                continue
            changed = with_flags(one.config, finding.change)
            after = replay_of(changed, chat)
            figure = finding.effect.figure
            assert finding.effect.before == before[figure], finding
            assert finding.effect.after == after[figure], finding
            for name, old, new in finding.effect.others:
                assert (old, new) == (before[name], after[name])


def replay_of(config: dict[str, object], workload: Workload) -> dict[str, float | None]:
    setup = Setup(config)
    replay = setup.replay(workload)
    replay.run()
    return dict(replay_figures(replay, setup).values)


def with_flags(config: dict[str, object], change: str) -> dict[str, object]:
    """Return the settings with the flags typed, by hand."""
    keys = {"blocks": "num_blocks"}
    words: Iterator[str] = iter(change.split())
    said = dict(config)
    for word in words:
        name = word.removeprefix("--").replace("-", "_")
        if isinstance(config.get(name.removeprefix("no_")), bool):
            said[name.removeprefix("no_")] = not name.startswith("no_")
        else:
            value = float(next(words))
            said[keys.get(name, name)] = value if name == "watermark" else int(value)
    said.pop("kv_cache_groups")
    return settings(**said)


def test_what_makes_things_worse_is_said_so(small_cache: Run) -> None:
    # GIVEN a change that halves a cache that is too small already
    finding = effect_of(small_cache, probe(to("num_blocks", 1000)))
    assert finding.effect is not None
    assert finding.effect.after < finding.effect.before
    # THEN nobody is told to make it, and the numbers say why
    assert (finding.tone, finding.title, finding.change) == ("watch", "A probe in vain", None)
    assert finding.effect_note.startswith("--blocks 1000 was tried: hit rate 42.20% -> ")
    assert "worse" in finding.effect_note


def test_what_does_nothing_is_said_so(small_cache: Run) -> None:
    finding = effect_of(small_cache, probe(to("watermark", 0.01)))
    assert (finding.tone, finding.change) == ("watch", None)
    assert finding.effect_note == "--watermark 0.01 was tried: hit rate 42.20% -> 42.20%: no gain."


def test_a_gain_with_a_price_is_something_to_watch(chat: Workload) -> None:
    # GIVEN a backlog in a small pool WHEN far fewer may run THEN less is evicted, but all is late
    crowded = run(chat, num_blocks=2000)
    finding = effect_of(
        crowded, probe(to("max_num_seqs", 10), moves="preemption.count", whither="down")
    )
    assert finding.effect is not None
    assert finding.effect.after < finding.effect.before
    assert "simulated time for the whole workload" in finding.effect_note
    assert finding.tone == "watch"


def test_of_several_changes_the_best_is_named_and_the_others_told(small_cache: Run) -> None:
    rule = probe(to("watermark", 0.02), to("num_blocks", 3000), to("num_blocks", 6000, "room"))
    finding = effect_of(small_cache, rule)
    assert finding.change == "--blocks 6000"
    assert finding.effect_note.startswith("It takes room. --blocks 3000 was tried, too: hit rate")
    assert "--watermark 0.02 was tried, too: hit rate 42.20% -> 42.20%" in finding.effect_note


def test_what_costs_memory_must_win_twice_as_much(small_cache: Run) -> None:
    # GIVEN the same change once at a price and once for nothing, and a slightly better one
    rule = probe(to("num_blocks", 3200, "memory"), to("num_blocks", 3000))
    assert effect_of(small_cache, rule).change == "--blocks 3000"


def test_a_change_that_refuses_requests_is_worse(chat: Workload) -> None:
    # GIVEN a pool that holds every request WHEN it is cut so that the longest fit no more
    roomy = run(chat, num_blocks=60_000, arrivals="timed")
    longest = int((chat.prompt_tokens.astype(np.int64) + chat.output_tokens).max())
    rule = probe(to("num_blocks", longest // 16 - 2), whither="keep")
    finding = effect_of(roomy, rule)
    assert finding.change is None
    assert "requests served 400 -> 399" in finding.effect_note


def test_what_was_won_comes_before_what_was_estimated(small_cache: Run) -> None:
    # GIVEN two rules, the one with the larger estimate with a change that does nothing
    vain = replace(probe(to("max_num_batched_tokens", 8000), whither="keep"), name="vain")
    good = replace(
        probe(to("num_blocks", 4000)), name="good", gain=Gain("usage.peak", 0.001, "little")
    )
    fired = [fired_on(small_cache, vain), fired_on(small_cache, good)]
    findings = measure_effects(fired, WhatIf(small_cache.workload, Setup(small_cache.config)))
    assert [(one.rule, one.tone) for one in findings] == [("good", "act"), ("vain", "act")]


def test_priorities_are_only_tried_where_there_are_any(small_cache: Run) -> None:
    change = Change("policy", "`--policy priority`", lambda _: "priority", needs_priorities=True)
    finding = effect_of(small_cache, probe(change))
    assert (finding.tone, finding.change) == ("watch", None)
    assert finding.effect_note == "Nothing to try: the requests carry no priorities."
