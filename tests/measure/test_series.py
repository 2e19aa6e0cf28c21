"""The recorder: bounded, and exact however much it was thinned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcomes import SUMS

from kvatlas.measure import Recorder


def running_sums(steps: int, seed: int = 0) -> list[dict[str, float]]:
    """Sums after each of `steps` steps, all of them growing; some but the last take no time."""
    rng = np.random.default_rng(seed)
    grown = {name: np.cumsum(rng.integers(0, 4, steps)).astype(float) for name in SUMS}
    grown["clock_ms"][-1] += 1.0
    return [{name: float(column[i]) for name, column in grown.items()} for i in range(steps)]


@given(steps=st.integers(2, 700), most=st.integers(2, 40), seed=st.integers(0, 5))
def test_thinning_loses_nothing(steps: int, most: int, seed: int) -> None:
    # GIVEN a run of any length, sampled as the recorder asks
    sums = running_sums(steps, seed)
    recorder = Recorder(most_points=most)
    at = 0
    while at < steps:
        at = min(steps, at + recorder.steps_per_sample)
        recorder.add(sums[at - 1])
    series = recorder.series(100, sums[-1])
    # THEN there are few intervals, one after the other, and they add up to the run
    assert series.end_s.size <= most + 1
    assert series.start_s[1:].tolist() == series.end_s[:-1].tolist()
    span_s = series.end_s - series.start_s
    assert (span_s > 0).all()
    assert float(span_s.sum()) == pytest.approx(sums[-1]["clock_ms"] / 1e3)
    for column, name in (
        (100 * series.usage, "used_block_ms"),
        (series.running, "running_ms"),
        (series.waiting, "waiting_ms"),
    ):
        assert float((column * span_s).sum()) * 1e3 == pytest.approx(sums[-1][name])


def test_hit_rate_of_the_interval_and_so_far() -> None:
    recorder = Recorder()
    nothing = dict.fromkeys(SUMS, 0.0)
    recorder.add(nothing | {"clock_ms": 1000.0, "queries": 100.0, "hits": 10.0})
    recorder.add(nothing | {"clock_ms": 2000.0, "queries": 100.0, "hits": 10.0})
    end = nothing | {"clock_ms": 3000.0, "queries": 200.0, "hits": 60.0, "evictions": 8.0}
    series = recorder.series(10, end)
    assert series.hit_rate[[0, 2]].tolist() == [0.1, 0.5]
    assert np.isnan(series.hit_rate[1])
    assert series.hit_rate_so_far.tolist() == [0.1, 0.1, 0.3]
    assert series.evicted_blocks_per_s.tolist() == [0.0, 0.0, 8.0]


def test_without_a_clock_there_are_no_intervals() -> None:
    recorder = Recorder()
    recorder.add(dict.fromkeys(SUMS, 0.0))
    assert recorder.series(10, dict.fromkeys(SUMS, 0.0)).end_s.size == 0
