"""Charts over capacity: shapes within their box, exact numbers for the readout, names that fit."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kvatlas.report.capacity_axis import CapacityAxis, CapacityUnits
from kvatlas.report.capacity_chart import Series, Upright, capacity_chart

UNITS = CapacityUnits(16, 2 << 20)


def drawn(blocks: list[int], *values: list[float], look: str = "line", **options: Any) -> str:
    at = np.array(blocks, np.int64)
    series = [
        Series(f"line {number}", number, at, np.array(each), look)
        for number, each in enumerate(values, 1)
    ]
    return capacity_chart("title", CapacityAxis.over(at), UNITS, series, **options)


def data(html: str) -> Any:
    found = re.search(r'<script type="application/json">(.*?)</script>', html)
    assert found is not None
    return json.loads(found[1])


@given(
    points=st.dictionaries(
        st.integers(1, 10**8), st.floats(0, 1) | st.just(float("nan")), min_size=1, max_size=20
    ),
    look=st.sampled_from(["line", "bold", "dotted", "points"]),
)
def test_any_values_make_a_chart(points: dict[int, float], look: str) -> None:
    blocks = sorted(points)
    html = drawn(blocks, [points[each] for each in blocks], look=look)
    for path in re.findall(r' d="([^"]*)"', html):
        numbers = [float(each) for each in re.findall(r"-?[\d.]+", path.replace("h0", ""))]
        assert all(-0.1 <= x <= 1000.1 for x in numbers[::2])
        assert all(-0.1 <= y <= 200.1 for y in numbers[1::2])
    said = data(html)
    assert said["blocks"] == blocks
    unknown = sum(each != each for each in points.values())
    assert sum(value is None for value in said["values"][0]) == unknown
    assert said["end"] == sorted(said["end"])


def test_the_nearest_capacity_answers() -> None:
    said = data(drawn([10, 100, 1000], [0.1, 0.2, 0.3]))
    assert said["log"] is True
    assert said["at"] == [1.0, 2.0, 3.0]
    assert said["start"] == 1.0
    assert said["end"] == [1.5, 2.5, 3.0]
    assert said["values"] == [[0.1, 0.2, 0.3]]


def test_series_of_their_own_capacities_are_joined_in_the_readout() -> None:
    axis = CapacityAxis.over([10, 30])
    engine = Series("engine", 2, np.array([20]), np.array([0.5]), "points")
    lru = Series("LRU", 1, np.array([10, 30]), np.array([0.1, 0.3]))
    said = data(capacity_chart("t", axis, UNITS, [lru, engine]))
    assert said["blocks"] == [10, 20, 30]
    assert said["values"] == [[0.1, None, 0.3], [None, 0.5, None]]


def test_layers_lie_on_each_other_and_fill_the_box() -> None:
    html = drawn([1, 10], [0.25, 0.5], [0.75, 0.5], look="stack", whole=True)
    paths = re.findall(r'class="stack c\d" d="([^"]*)"', html)
    assert paths == [
        "M0.0 150.0L1000.0 100.0L1000.0 200.0L0.0 200.0Z",
        "M0.0 0.0L1000.0 0.0L1000.0 100.0L0.0 150.0Z",
    ]


def test_names_of_marks_do_not_overlap() -> None:
    marks = [Upright("HBM", 2000), Upright("--blocks", 2010), Upright("knee", 900_000)]
    html = drawn([1000, 1_000_000], [0.1, 0.4], uprights=marks)
    tops = {name: top for top, name in re.findall(r'top:(-\d+)px;height:\d+px">([^<]*)<', html)}
    assert set(tops) == {"HBM", "--blocks", "knee"}
    assert tops["HBM"] != tops["--blocks"]
    assert 'class="left"' in html  # the knee's stands on the side where there is room
    assert "names-2" in html


def test_marks_beyond_the_axis_are_left_out() -> None:
    html = drawn([10, 1000], [0.1, 0.4], uprights=[Upright("far", 5000), Upright("no", 0)])
    assert "far" not in html
    assert "names-0" in html


def test_text_is_escaped() -> None:
    html = drawn([10, 1000], [0.1, 0.4], uprights=[Upright("<b>", 50)], note="a < b")
    assert "&lt;b&gt;" in html
    assert "a &lt; b" in html
