"""Two runs compared: who is held against whom, what moved, and which way is better."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from streams import Stream, record, small_workload, streams

from kvatlas.engine import DriveConfig, EngineConfig
from kvatlas.events import Header, schema
from kvatlas.measure import Figures
from kvatlas.measure.diff import changed_figures, changed_settings, why_not_comparable
from kvatlas.measure.outcomes import OutcomeCollector, Outcomes
from kvatlas.measure.request_changes import changed_requests, size_classes

INF = float("nan")


def outcomes_of(stream: Stream) -> Outcomes:
    collector = OutcomeCollector(stream.header)
    for chunk in stream.raw:
        collector.feed(chunk)
    return collector.result()


def outcomes(**columns: list[float]) -> Outcomes:
    """Return outcomes by hand; what is not given is plain."""
    size = len(next(iter(columns.values())))
    floats = {"arrived_s": 0.0, "admitted_s": 1.0, "finished_s": 2.0, "hit_tokens": 0.0}
    whole = {"prompt_tokens": 10, "session": -1, "preemptions": 0, "lost_tokens": 0}
    given: dict[str, Any] = {
        name: np.full(size, value, np.float64) for name, value in floats.items()
    }
    given |= {name: np.full(size, value, np.int64) for name, value in whole.items()}
    for name, values in columns.items():
        given[name] = np.array(values, given[name].dtype)
    return Outcomes(**given)


@settings(max_examples=15)
@given(streams())
def test_outcomes_as_read_row_by_row(stream: Stream) -> None:
    found = outcomes_of(stream)
    size = stream.header.num_requests
    slow: dict[str, list[Any]] = {
        "arrived_s": [INF] * size, "admitted_s": [INF] * size, "finished_s": [INF] * size,
        "prompt_tokens": [-1] * size, "session": [-1] * size, "hit_tokens": [INF] * size,
        "preemptions": [0] * size, "lost_tokens": [0] * size,
    }  # fmt: skip
    for row in stream.rows():
        request, kind, cause = int(row["request"]), int(row["event"]), int(row["cause"])
        second = float(row["time_ms"]) / 1e3
        if kind == schema.ARRIVED:
            slow["arrived_s"][request] = second
            slow["prompt_tokens"][request] = int(row["tokens"])
            slow["session"][request] = int(row["session"])
        elif kind == schema.LOOKED_UP and cause == schema.BY_NEW and row["computed_tokens"] >= 0:
            slow["hit_tokens"][request] = int(row["computed_tokens"])
        elif kind == schema.ADMITTED and cause == schema.BY_NEW:
            slow["admitted_s"][request] = second
        elif kind == schema.PREEMPTED:
            slow["preemptions"][request] += 1
            slow["lost_tokens"][request] += int(row["computed_tokens"])
        elif kind == schema.FINISHED and cause == schema.BY_LENGTH:
            slow["finished_s"][request] = second
    for name, values in slow.items():
        np.testing.assert_array_equal(getattr(found, name), values, err_msg=name)
    totals = stream.replay.result().decisions
    assert found.preemptions.sum() == totals["preemptions"]
    assert np.isfinite(found.finished_s).sum() == totals["finished"]
    if stream.header.caching:
        assert np.nansum(found.hit_tokens) == totals["prefix_hits"]


def test_a_run_against_itself_shows_nothing() -> None:
    stream = record(small_workload(3), EngineConfig(num_blocks=60, block_size=4))
    found = outcomes_of(stream)
    assert why_not_comparable(stream.header, stream.header, found, found) == ""
    assert changed_settings(stream.header, stream.header) == {}
    for change in changed_requests(found, found, timed=True):
        assert (change.better, change.worse, change.winners, change.losers) == (0, 0, (), ())


def test_more_blocks_help_the_same_requests() -> None:
    # GIVEN one workload on a small pool and on a large one
    workload, drive = small_workload(5, rows=40), DriveConfig(arrivals="timed")
    small, large = (
        record(workload, EngineConfig(num_blocks=blocks, block_size=4, max_model_len=128), drive)
        for blocks in (26, 400)
    )
    before, after = outcomes_of(small), outcomes_of(large)
    assert why_not_comparable(small.header, large.header, before, after) == ""
    changes = {each.quantity.name: each for each in changed_requests(before, after, timed=True)}
    # THEN nobody waits longer, and the counts add up
    queue = changes["queue_time_s"]
    assert queue.better > 0
    assert queue.worse == 0
    gains = np.round(before.queue_s - after.queue_s, 9)
    assert queue.better == (gains > 0).sum()
    assert [row for row, _, _ in queue.winners] == np.argsort(-gains, kind="stable")[:5].tolist()
    assert queue.before is not None
    assert queue.before == pytest.approx(before.queue_s.mean())
    classes = size_classes(before, after, timed=True)
    assert sum(each.requests for each in classes) == 40
    assert all(one.most < other.least for one, other in pairwise(classes))


def test_better_and_worse_by_hand() -> None:
    before = outcomes(hit_tokens=[5, 5, 5, INF], finished_s=[1, 2, 3, 4], preemptions=[0, 2, 0, 0])
    after = outcomes(hit_tokens=[9, 5, 4, 1], finished_s=[1, 1, INF, 4], preemptions=[0, 0, 1, 0])
    changes = {each.quantity.name: each for each in changed_requests(before, after, timed=False)}
    assert set(changes) == {"hit_tokens", "preemptions", "lost_tokens", "end_s"}
    hits = changes["hit_tokens"]
    assert (hits.compared, hits.better, hits.worse, hits.only_after) == (3, 1, 1, 1)
    assert hits.winners == ((0, 5.0, 9.0),)
    assert hits.losers == ((2, 5.0, 4.0),)
    assert (hits.before, hits.after) == (5.0, 6.0)
    spared = changes["preemptions"]
    assert (spared.better, spared.worse) == (1, 1)
    assert spared.winners == ((1, 2.0, 0.0),)
    ends = changes["end_s"]
    assert (ends.compared, ends.better, ends.worse) == (3, 1, 0)
    assert (ends.only_before, ends.only_after) == (1, 0)


def header(**changes: Any) -> Header:
    from kvatlas.events import Group

    given: dict[str, Any] = {
        "schema": 1, "kvatlas": "1", "producer": "replay", "engine": "vLLM 0.32",
        "num_blocks": 8, "has_null": True, "caching": True,
        "groups": (Group("FullAttentionSpec", 4),), "hash_block_size": 4, "max_num_seqs": 4,
        "max_table_blocks": 8, "num_requests": 3, "config": {"num_blocks": 8, "policy": "fcfs"},
        "workload": {"requests": 3},
    }  # fmt: skip
    return Header(**(given | changes))


@pytest.mark.parametrize(
    ("other", "after", "said"),
    [
        ({"workload": {"requests": 4}}, {}, "not the same workload: 3 and 4 requests"),
        ({"workload": {}}, {"prompt_tokens": [1] * 5}, "not the same workload: 3 and 5 requests"),
        ({}, {"prompt_tokens": [10, 11, 10]}, "request 1 has 10 and 11 prompt tokens"),
        ({}, {"prompt_tokens": [-1, -1, -1]}, "no request arrived in both runs"),
        ({}, {"prompt_tokens": [10, -1, -1]}, ""),
    ],
)
def test_when_requests_cannot_be_compared(
    other: dict[str, Any], after: dict[str, list[float]], said: str
) -> None:
    one = outcomes(prompt_tokens=[10, 10, 10])
    two = outcomes(**(after or {"prompt_tokens": [10, 10, 10]}))
    reason = why_not_comparable(header(), header(**other), one, two)
    assert reason.endswith(said) if said else reason == ""


def test_settings_that_differ() -> None:
    other = header(engine="nano-vLLM", config={"num_blocks": 9, "policy": "fcfs", "new": 1})
    assert changed_settings(header(), other) == {
        "engine": ("vLLM 0.32", "nano-vLLM"),
        "num_blocks": (8, 9),
        "new": (None, 1),
    }


def test_figures_that_moved() -> None:
    a, b = Figures(), Figures()
    for name, before, after in (
        ("prefix.token_hit_rate", 0.1, 0.2),
        ("queue.time_p99_s", 2.0, 3.0),
        ("usage.peak", 0.5, 0.6),
        ("clock.simulated_s", 1.0, 1.0 + 1e-12),
        ("preemption.count", 0, 4),
    ):
        a.put(name, before)
        b.put(name, after)
    a.lack("no", "waste.temporal")
    b.put("waste.temporal", 0.5)
    a.lack("no", "life.idle_p50_s")
    b.lack("no", "life.idle_p50_s")
    moved = {each.name: each for each in changed_figures(a, b)}
    assert set(moved) == {
        "prefix.token_hit_rate", "queue.time_p99_s", "usage.peak", "preemption.count",
        "waste.temporal",
    }  # fmt: skip
    assert moved["prefix.token_hit_rate"].better is True
    assert moved["prefix.token_hit_rate"].relative == pytest.approx(1.0)
    assert moved["queue.time_p99_s"].better is False
    assert moved["usage.peak"].better is None
    assert moved["preemption.count"].relative is None
    assert moved["preemption.count"].change == 4
    assert (moved["waste.temporal"].before, moved["waste.temporal"].better) == (None, None)
