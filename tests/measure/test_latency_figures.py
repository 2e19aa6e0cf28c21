"""Queue time, TTFT, TPOT and end-to-end from the times of three requests."""

from __future__ import annotations

import numpy as np
import pytest
from outcomes import MadeUp, three_requests

from kvatlas.measure import Figures
from kvatlas.measure.latency import measure_latency


def measured(outcome: MadeUp, *, timed: bool = True, max_model_len: int | None = None) -> Figures:
    figures = Figures()
    measure_latency(figures, outcome, three_requests(), timed, max_model_len)
    return figures


SERVED = MadeUp(
    first_scheduled_ms=np.array([0.0, 150.0, 300.0]),
    first_token_ms=np.array([50.0, 200.0, 400.0]),
    finished_ms=np.array([50.0, 260.0, 480.0]),
)


def test_spans_from_arrival() -> None:
    # GIVEN arrivals at 0, 100 and 200 ms
    values = measured(SERVED).values
    assert values["queue.time_mean_s"] == pytest.approx(0.05)
    assert values["queue.time_p50_s"] == pytest.approx(0.05)
    assert values["queue.time_p99_s"] == pytest.approx(0.099)
    assert values["latency.ttft_p50_s"] == pytest.approx(0.1)
    assert values["latency.e2e_p50_s"] == pytest.approx(0.16)


def test_time_per_token_leaves_out_the_first_token_and_answers_of_one() -> None:
    # GIVEN answers of 1, 3 and 5 tokens THEN 60 ms / 2 and 80 ms / 4
    assert measured(SERVED)["latency.tpot_mean_s"] == pytest.approx(0.025)


def test_time_per_token_counts_what_was_really_answered() -> None:
    # GIVEN room for 43 tokens: the last answer ends after 3 of its 5
    assert measured(SERVED, max_model_len=43)["latency.tpot_mean_s"] == pytest.approx(0.035)


def test_requests_that_did_not_get_there_do_not_count() -> None:
    half = MadeUp(first_scheduled_ms=np.array([0.0, 150.0, np.nan]))
    figures = measured(half)
    assert figures["queue.time_mean_s"] == pytest.approx(0.025)
    assert figures["latency.ttft_mean_s"] is None
    assert figures.unavailable["latency.ttft_mean_s"] == "no request got that far"


def test_a_backlog_has_no_arrivals_but_time_per_token() -> None:
    figures = measured(SERVED, timed=False)
    assert figures["queue.time_mean_s"] is None
    assert "--arrivals timed" in figures.unavailable["latency.ttft_p50_s"]
    assert figures["latency.tpot_mean_s"] == pytest.approx(0.025)
