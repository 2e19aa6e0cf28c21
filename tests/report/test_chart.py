"""Charts: axes that a person can read, shapes within their box."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvatlas.report.chart import Curve, chart, stack, time_unit


def drawn(values: list[float], span_s: float = 100.0, **options: object) -> str:
    bounds = np.linspace(0.0, span_s, len(values) + 1)
    curve = Curve("some", np.array(values), 1, "area")
    return chart("title", bounds[:-1], bounds[1:], [curve], **options)  # type: ignore[arg-type]


def y_labels(html: str) -> list[str]:
    return re.findall(r"<span style=\"top:[^>]*>([^<]*)<", html)


@given(
    values=st.lists(st.floats(0, 1e12) | st.just(np.nan), min_size=1, max_size=30),
    span_s=st.floats(1e-3, 1e7),
)
def test_any_values_make_a_chart(values: list[float], span_s: float) -> None:
    html = drawn(values, span_s)
    assert 2 <= len(y_labels(html)) <= 8
    heights = [float(y) for y in re.findall(r"V(-?[\d.]+)", html)]
    assert all(-0.1 <= y <= 200.1 for y in heights)
    assert "nan" not in html.replace("NaN", "")


def test_shares_run_to_all() -> None:
    assert y_labels(drawn([0.1, 0.2], share=True, whole=True)) == [
        "0%",
        "20%",
        "40%",
        "60%",
        "80%",
        "100%",
    ]
    assert y_labels(drawn([0.1, 0.2], share=True))[-1] == "20%"


def test_the_level_is_on_the_chart() -> None:
    html = drawn([0.01, 0.04], share=True, level=("ceiling", 0.32))
    assert y_labels(html)[-1] == "40%"
    assert "ceiling 32%" in html


def test_counts_have_round_ticks() -> None:
    assert y_labels(drawn([30.0, 278.0])) == ["0", "100", "200", "300"]


@pytest.mark.parametrize(
    ("span_s", "unit"), [(5, "s"), (119, "s"), (120, "min"), (7199, "min"), (7200, "h")]
)
def test_time_is_read_in_a_fitting_unit(span_s: float, unit: str) -> None:
    assert time_unit(span_s)[1] == unit


def test_a_gap_lifts_the_pen() -> None:
    line = re.search(r'class="line c1" d="([^"]*)"', drawn([1.0, np.nan, 1.0]))
    assert line is not None
    assert line[1].count("M") == 2


def test_stacked_curves_lie_on_each_other() -> None:
    """GIVEN parts of a whole WHEN stacked THEN each begins where the one before it ends."""
    bounds = np.linspace(0.0, 30.0, 4)
    curves = [Curve(str(n), np.array([n, np.nan, n + 1.0]), n, "stack") for n in (1, 2, 3)]
    html = chart("title", bounds[:-1], bounds[1:], curves)
    assert y_labels(html)[-1] == "10"  # 2 + 3 + 4 = 9
    paths = re.findall(r'class="stack c(\d)" d="M[\d.]+ ([\d.]+)V([\d.]+)', html)
    assert [path[0] for path in paths] == ["1", "2", "3"]
    assert [path[1] for path in paths] == ["200.0", paths[0][2], paths[1][2]]
    assert stack(bounds[:-1], bounds[1:], curves).count("<path") == 3


def test_charts_can_be_reached_and_read_without_a_mouse() -> None:
    html = drawn([1.0, 2.0], note="when to <worry>")
    assert 'tabindex="0"' in html
    assert "aria-label" in html
    assert "when to &lt;worry&gt;" in html


def test_nothing_but_zeros_has_an_axis_for_people() -> None:
    assert y_labels(drawn([0.0, 0.0], share=True))[-1] == "1%"
    assert y_labels(drawn([0.0, 0.0]))[-1] == "1"
