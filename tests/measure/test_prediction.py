"""A prediction held against a run: equal courses differ nowhere, shifted ones by their shift."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kvatlas.measure.course import CourseResult
from kvatlas.measure.prediction import predict


def course(
    *, used: float = 0.5, hit_rate: float = 0.4, first_ms: float = 0.0, preemptions: int = 10
) -> CourseResult:
    """A run of 100 s that keeps `used` of 200 blocks and hits `hit_rate` of what is asked for."""
    clock = np.linspace(0.0, 100_000.0, 501)
    return CourseResult(
        sums={
            "clock_ms": clock + first_ms,
            "used_block_ms": used * 200 * clock,
            "wasted_slot_ms": 0.0 * clock,
            "running_ms": 3.0 * clock,
            "waiting_ms": 0.0 * clock,
            "busy_ms": 1.0 * clock,
            "tokens": 7.0 * clock,
            "hits": hit_rate * 5 * clock,
            "queries": 5.0 * clock,
            "preemptions": preemptions * clock / clock[-1],
            "failures": 0.0 * clock,
            "evictions": 0.0 * clock,
        },
        usable_blocks=200,
        block_size=16,
    )


def test_the_same_course_has_no_error() -> None:
    """GIVEN a run whose clock begins later WHEN held against itself THEN nothing differs."""
    found = predict(course(first_ms=4000.0), course(), first_ms=4000.0, end_ms=104_000.0)
    assert found.bounds_s[-1] == pytest.approx(100.0)
    for each in found.compared:
        assert each.mean_error == pytest.approx(0.0, abs=1e-9)
        assert each.worst_error == pytest.approx(0.0, abs=1e-9)
    for recorded, predicted in found.totals.values():
        assert recorded == pytest.approx(predicted)


def test_errors_are_absolute_and_in_the_quantitys_unit() -> None:
    """GIVEN a prediction off by known amounts WHEN compared THEN the errors are those."""
    found = predict(
        course(), course(used=0.7, hit_rate=0.25, preemptions=30), first_ms=0.0, end_ms=100_000.0
    )
    usage, hit_rate, preemptions = found.compared
    assert usage.mean_error == pytest.approx(0.2)
    assert hit_rate.worst_error == pytest.approx(0.15)
    assert preemptions.worst_error == pytest.approx(20.0)
    assert preemptions.mean_error == pytest.approx(10.0, rel=0.05)
    assert found.totals["token_hit_rate"] == pytest.approx((0.4, 0.25))
    assert found.totals["preemptions"] == pytest.approx((10.0, 30.0))


def test_the_json_has_no_number_that_is_none() -> None:
    """GIVEN a prediction that ends early WHEN said as JSON THEN what is unknown is null."""
    short = course()
    cut = CourseResult(
        {name: values[:100] for name, values in short.sums.items()}, 200, block_size=16
    )
    said = predict(course(), cut, first_ms=0.0, end_ms=100_000.0, step_time={"r2": None}).said()
    text = json.dumps(said, allow_nan=False)
    assert said["predicted"]["hit_rate"][-1] is None
    assert said["recorded"]["hit_rate"][-1] == pytest.approx(0.4)
    assert said["step_time"] == {"r2": None}
    assert "NaN" not in text
