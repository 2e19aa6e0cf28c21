"""Trends and bursts of made-up series: the verdicts, and the numbers by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kvatlas.measure.trends import bursts_of, trend_of

F64 = NDArray[np.float64]


def hours(count: int, noise: float = 0.0, seed: int = 0) -> tuple[F64, F64]:
    """Return `count` times over three hours, and noise."""
    rng = np.random.default_rng(seed)
    return np.linspace(0.0, 10_800.0, count), noise * rng.standard_normal(count)


@pytest.mark.parametrize(
    ("shape", "verdict"),
    [
        (lambda t: 0.2 * t, "builds up"),
        (lambda t: -0.2 * t, "falls"),
        (lambda t: 0 * t, "steady"),
        (lambda t: 0.01 * t, "steady"),  # too little
        (lambda t: np.minimum(1.0, 40 * t), "steady"),  # the pool fills up during the warm-up
        (lambda t: np.minimum(0.3, t), "steady"),  # levels off
        (lambda t: 0.3 * np.sin(60 * t), "steady"),
        (lambda t: np.where((t > 0.4) & (t < 0.5), 1.0, 0.0), "steady"),  # a burst
        (lambda t: np.where(np.arange(t.size) % 9 == 0, 5.0, 0.2 * t), "builds up"),  # outliers
    ],
)
def test_verdicts(shape: Callable[[F64], F64], verdict: str) -> None:
    times_s, noise = hours(300, noise=0.01)
    assert trend_of(times_s, shape(times_s / 10_800) + noise).verdict == verdict


def test_slope_is_theil_and_sens() -> None:
    times_s, noise = hours(40, noise=0.05)
    values = 0.1 * times_s / 3600 + noise
    trend = trend_of(times_s, values)
    after = times_s >= 0.1 * times_s[-1]
    times_s, values = times_s[after], values[after]
    slopes = [
        (values[j] - values[i]) / (times_s[j] - times_s[i])
        for i in range(times_s.size)
        for j in range(i + 1, times_s.size)
    ]
    assert trend.slope_per_h == pytest.approx(float(np.median(slopes)) * 3600)
    assert trend.points == times_s.size


@given(st.integers(0, 200))
@settings(max_examples=100)
def test_noise_is_no_trend(seed: int) -> None:
    times_s, noise = hours(400, noise=0.2, seed=seed)
    assert trend_of(times_s, noise).verdict == "steady"


@pytest.mark.parametrize(("count", "span_s"), [(0, 0.0), (1, 0.0), (5, 9000.0), (400, 500.0)])
def test_too_short_to_say(count: int, span_s: float) -> None:
    trend = trend_of(np.linspace(0, span_s, count), np.linspace(0, 1, count))
    assert (trend.verdict, trend.slope_per_h) == ("too short to say", None)


def test_unseen_intervals_do_not_count() -> None:
    times_s, _ = hours(100)
    values = np.where(np.arange(100) % 2 == 0, times_s / 10_800, np.nan)
    assert trend_of(times_s, values).slope_per_h == pytest.approx(1 / 3)


def test_bursts_by_hand() -> None:
    even = bursts_of(np.full(20, 3.0))
    assert (even.verdict, even.fano, even.peak_to_mean, even.events) == ("spread", 0.0, 1.0, 60)
    assert even.busiest_share == pytest.approx(0.1)
    lump = bursts_of(np.array([40.0] + [0.0] * 19))
    assert (lump.verdict, lump.peak_to_mean, lump.busiest_share) == ("clustered", 20.0, 1.0)
    assert lump.fano == pytest.approx((1600 / 20 - 4) / 2)
    assert bursts_of(np.array([4.0] + [0.0] * 19)).verdict == "too few to say"
    assert bursts_of(np.zeros(20)).fano is None
