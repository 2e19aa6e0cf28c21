"""Two sheets beside each other: what counts as a gain, a price, nothing, worse."""

from __future__ import annotations

import pytest

from kvatlas.measure import Figures
from kvatlas.plan.compare import Moved, compare
from kvatlas.plan.words import figure_name, from_to, is_ratio

HITS, TIME, FLOW = "prefix.token_hit_rate", "clock.simulated_s", "latency.tpot_p99_s"
TWICE, SERVED = "preemption.waste", "decisions.finished"


def figures(**values: float) -> Figures:
    made = Figures()
    for name, value in values.items():
        made.put(
            {"hits": HITS, "time": TIME, "flow": FLOW, "twice": TWICE}.get(name, SERVED), value
        )
    return made


BEFORE = figures(hits=0.40, time=100.0, flow=0.010, twice=0.05, served=50)


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        ({"hits": 0.50}, "gain"),
        ({"hits": 0.409}, "gain"),
        ({"hits": 0.407}, "nothing"),
        ({"hits": 0.30}, "worse"),
        ({"hits": 0.50, "time": 90.0}, "gain"),
        ({"hits": 0.50, "time": 101.9}, "gain"),
        ({"hits": 0.50, "time": 102.2}, "gain"),  # a price, but a fair one
        ({"hits": 0.50, "time": 105.0}, "trade"),
        ({"hits": 0.50, "time": 115.0}, "worse"),  # a price above the gain
        ({"hits": 0.401, "time": 103.0}, "worse"),
        ({"hits": 0.50, "flow": 0.0109}, "gain"),
        ({"hits": 0.50, "flow": 0.0400}, "trade"),  # slower tokens alone never make it worse
        ({"hits": 0.50, "twice": 0.10}, "trade"),
        ({"hits": 0.50, "served": 49}, "worse"),
    ],
)
def test_verdicts_on_a_figure_that_should_rise(after: dict[str, float], verdict: str) -> None:
    values = {"hits": 0.40, "time": 100.0, "flow": 0.010, "twice": 0.05, "served": 50.0} | after
    outcome = compare(BEFORE, figures(**values), (HITS,), "up")
    assert outcome is not None
    assert outcome.verdict == verdict


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        ({}, "gain"),
        ({"hits": 0.395}, "gain"),
        ({"hits": 0.30}, "worse"),
        ({"time": 110.0}, "worse"),
        ({"served": 49}, "worse"),
    ],
)
def test_verdicts_on_a_cheaper_setting(after: dict[str, float], verdict: str) -> None:
    values = {"hits": 0.40, "time": 100.0, "flow": 0.010, "twice": 0.05, "served": 50.0} | after
    outcome = compare(BEFORE, figures(**values), (HITS, TIME), "keep")
    assert outcome is not None
    assert outcome.verdict == verdict


def test_a_figure_that_should_fall() -> None:
    outcome = compare(figures(time=100.0), figures(time=60.0), (TIME,), "down")
    assert outcome is not None
    assert outcome.verdict == "gain"
    assert outcome.better == pytest.approx(0.4)
    worse = compare(figures(time=60.0), figures(time=100.0), (TIME,), "down")
    assert worse is not None
    assert worse.verdict == "worse"


def test_the_first_figure_that_both_know_is_the_target() -> None:
    before, after = figures(time=100.0, hits=0.4), figures(time=90.0)
    after.lack("prefix caching is off", HITS)
    outcome = compare(before, after, (HITS, TIME), "down")
    assert outcome is not None
    assert outcome.target == Moved(TIME, 100.0, 90.0)
    assert compare(before, after, (HITS,), "up") is None


def test_what_got_worse_is_shown_first() -> None:
    outcome = compare(
        BEFORE, figures(hits=0.6, time=80.0, flow=0.02, twice=0.05, served=50), (HITS,), "up"
    )
    assert outcome is not None
    assert [moved.figure for moved in outcome.spoilt] == [FLOW]
    assert [moved.figure for moved in outcome.others] == [FLOW, TIME]


def test_from_nothing_to_something_and_back() -> None:
    assert Moved("preemption.count", 0, 3).felt
    assert Moved("preemption.count", 0, 3).rise() == 1
    assert not Moved("preemption.count", 0, 0).felt
    assert Moved("preemption.count", 0, 0).rise() == 0


@pytest.mark.parametrize(
    ("figure", "before", "after", "text"),
    [
        (HITS, 0.0441, 0.0440, "hit rate 4.41% -> 4.40%"),
        (HITS, 0.04411, 0.04409, "hit rate 4.411% -> 4.409%"),
        (HITS, 0.5, 0.5, "hit rate 50.00% -> 50.00%"),
        (TIME, 57.7058, 57.7083, "simulated time for the whole workload 57.7058 s -> 57.7083 s"),
        (TIME, 51.7, 84.5, "simulated time for the whole workload 51.7 s -> 84.5 s"),
        ("preemption.count", 1388, 30, "preemptions 1,388 -> 30"),
        ("queue.length_time_weighted", 3.25, 1.0, "queue.length_time_weighted 3.2 -> 1"),
    ],
)
def test_a_difference_is_seen_where_there_is_one(
    figure: str, before: float, after: float, text: str
) -> None:
    assert from_to(figure, before, after) == text


def test_shares_are_told_from_counts_and_times() -> None:
    assert is_ratio("usage.time_weighted")
    assert is_ratio(TWICE)
    for name in ("running.time_weighted", TIME, "preemption.count", "prefix.evicted_blocks"):
        assert not is_ratio(name)
    assert figure_name("churn.new") == "churn.new"
