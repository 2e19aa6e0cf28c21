"""The plot of characters: within its width, every line where its values are, ASCII on demand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from kvatlas.report.capacity_axis import CapacityAxis
from kvatlas.report.terminal_plot import PlotLine, plot, plot_legend


def lines(values: list[float], texture: str = "solid") -> tuple[list[PlotLine], CapacityAxis]:
    blocks = np.array([10 * 3**at for at in range(len(values))], np.int64)
    line = PlotLine("LRU", "blue", texture, blocks, np.array(values))
    return [line], CapacityAxis.over(blocks)


@given(
    values=st.lists(st.floats(0, 1) | st.just(float("nan")), min_size=1, max_size=12),
    columns=st.integers(20, 120),
    rows=st.integers(3, 30),
    ascii_only=st.booleans(),
    texture=st.sampled_from(["solid", "dotted", "dashed", "points"]),
)
def test_any_values_make_a_picture(
    values: list[float], columns: int, rows: int, ascii_only: bool, texture: str
) -> None:
    drawn, axis = lines(values, texture)
    picture = plot(
        drawn, axis, columns, rows, uprights=[("knee", 90), ("far", 10**9)], ascii_only=ascii_only
    )
    assert len(picture) == rows + 2
    assert all(cell_len(text.plain) <= columns for text in picture)
    text = "\n".join(each.plain for each in picture)
    assert "far" not in text
    assert not ascii_only or text.isascii()


def test_a_rising_line_rises_and_has_no_gap() -> None:
    drawn, axis = lines([0.0, 0.1, 0.9, 1.0])
    picture = [text.plain for text in plot(drawn, axis, 60, 12)]
    area = [line.split("│")[1].ljust(53) for line in picture[:12]]
    heights = []
    for column in range(52):
        filled = [row for row in range(12) if area[row][column] != " "]
        assert filled, f"nothing in column {column}"
        heights.append(filled[0])
    assert heights == sorted(heights, reverse=True)
    assert heights[0] == 11
    assert heights[-1] == 0
    assert picture[0].startswith(" 100%")
    assert "   0%" in picture[11]


def test_marks_are_named_below_the_axis() -> None:
    drawn, axis = lines([0.1, 0.2, 0.3])
    picture = [text.plain for text in plot(drawn, axis, 70, 8, uprights=[("knee", 30)])]
    assert "knee" in picture[-1]
    assert any("┊" in line for line in picture)


@pytest.mark.parametrize("ascii_only", [False, True])
def test_lines_differ_without_colour(ascii_only: bool) -> None:
    both = [lines([0.2, 0.3], texture)[0][0] for texture in ("solid", "dotted", "dashed", "points")]
    legend = plot_legend(both, ascii_only=ascii_only).plain
    keys = [part.split()[0] for part in legend.split("LRU")[:-1]]
    assert len(set(keys)) == 4
    assert not ascii_only or legend.isascii()
