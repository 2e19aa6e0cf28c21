"""Charts over capacity: hit rates as lines and points, misses as layers, tiers as upright lines.

Owns: shapes and labels over a `CapacityAxis`, and the data that the hover readout shows. Leaves to
others: what is plotted (`curve_html`, `policies_html`), the figure around it (`chart_frame`),
moving and zooming (`assets/page.js`, the same as over time).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.report.capacity_axis import CapacityAxis, CapacityUnits, short_count
from kvatlas.report.chart_frame import HEIGHT, WIDTH, Frame, figure, grid, value_label, y_ticks

__all__ = ["CAPACITY_HELP", "Series", "Upright", "capacity_chart"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

CAPACITY_HELP = (
    "Point at a chart to read all of them at that capacity; drag to zoom in, double-click to see "
    "everything. With the keyboard: <kbd>Tab</kbd> to a chart, <kbd>←</kbd> <kbd>→</kbd> to move, "
    "<kbd>+</kbd> <kbd>−</kbd> to zoom, <kbd>0</kbd> for everything. "
    "<button data-whole-curve hidden>Everything</button>"
)
"""How to use the charts, as HTML."""
_CHARACTER = 0.011  # of the axis, where it is narrow
_ROWS, _NAME_ROW_PX = 3, 17
_UNIT_LABEL_AT = 0.88  # further right stands the unit


@dataclass(frozen=True, slots=True)
class Series:
    """One line: shares of 1 at some capacities.

    Attributes:
        name: for the legend; color: the number of the page's series colour.
        blocks, values: (K,) each; NaN lifts the pen.
        look: `line`, `bold`, `dotted`, separate `points`, or `stack`: a layer on the one before it.
    """

    name: str
    color: int
    blocks: I64
    values: F64
    look: str = "line"


@dataclass(frozen=True, slots=True)
class Upright:
    """A capacity that is marked across a chart, and its name."""

    name: str
    blocks: int


def capacity_chart(
    title: str,
    axis: CapacityAxis,
    units: CapacityUnits,
    series: Sequence[Series],
    *,
    note: str = "",
    levels: Sequence[tuple[str, float]] = (),
    uprights: Sequence[Upright] = (),
    between: tuple[int, int] | None = None,
    whole: bool = False,
    tall: bool = False,
    noun: str = "blocks",
) -> str:
    """Return a figure of shares over capacity as HTML.

    Args:
        title, note: what is shown, and what a reader looks for.
        axis, units: of all charts of a page.
        series: what is plotted; `stack` layers share their capacities.
        levels: names and values of dashed lines across.
        uprights: capacities to mark.
        between: two series (by number) with the same capacities; the room between is shaded.
        whole: the axis runs to 1, however small the values are.
        tall: more room.
        noun: what the axis counts; another than blocks has an axis of its own on the page.
    """
    series = [_within(axis, each) for each in series]
    layers = _layers(series)
    known = [float(np.nanmax(each, initial=0.0)) for each in layers]
    top = 1.0 if whole else max([*known, *(value for _, value in levels)])
    ticks = y_ticks(top, share=True)
    top = ticks[-1]

    def y(values: F64) -> F64:
        return (1 - np.asarray(values, np.float64) / top) * HEIGHT

    shapes = grid(y(np.array(ticks)).tolist())
    if between is not None:
        low, high = (series[number] for number in between)
        shapes.append(_band("between", axis, low.blocks, y(low.values), y(high.values)))
    lower = np.zeros(0)
    # What matters most lies on top, wherever it stands in the legend.
    pairs = sorted(zip(series, layers, strict=True), key=lambda pair: pair[0].look == "bold")
    for each, values in pairs:
        if each.look == "stack":
            before = lower if lower.size else np.zeros_like(values)
            name = f"stack c{each.color}"
            shapes.append(_band(name, axis, each.blocks, y(before), y(values)))
            lower = values
        else:
            shapes.append(_line(each, axis, y(values)))
    for _, value in levels:
        at = float(y(np.array([value]))[0])
        shapes.append(f'<line class="level" x1="0" x2="{WIDTH:g}" y1="{at:.1f}" y2="{at:.1f}"/>')
    y_labels = "".join(
        f'<span style="top:{100 * (1 - tick / top):.2f}%">{value_label(tick, True)}</span>'
        for tick in ticks
    )
    marks, name_rows = _uprights(axis, uprights)
    kind = f"capacity names-{name_rows}"
    kind += (" tall" if tall else "") + (" memory" if units.bytes_per_block else "")
    kind += "" if noun == "blocks" else f" {noun}"
    return figure(
        Frame(
            title=title,
            note=note,
            legend=_legend(series, levels),
            y_labels=y_labels,
            x_labels=_x_labels(axis, units),
            unit=noun,
            shapes=shapes,
            overlay=marks,
            data=_data(axis, units, series),
            kind=kind,
        )
    )


def _within(axis: CapacityAxis, each: Series) -> Series:
    """Return the part of a series that the axis holds; 0 has no place on a logarithmic one."""
    held = (each.blocks >= axis.first) & (each.blocks <= axis.last)
    return replace(each, blocks=each.blocks[held], values=np.asarray(each.values)[held])


def _layers(series: Sequence[Series]) -> list[F64]:
    """Return what is drawn of each: layers on the sum of those before."""
    drawn: list[F64] = []
    total: F64 | None = None
    for each in series:
        values = np.asarray(each.values, np.float64)
        if each.look == "stack":
            total = values if total is None else total + values
            values = total
        drawn.append(values)
    return drawn


def _legend(series: Sequence[Series], levels: Sequence[tuple[str, float]]) -> str:
    keys = [
        f'<span class="key"><i class="c{each.color} {each.look}"></i>{escape(each.name)} '
        "<b></b></span>"
        for each in series
    ]
    keys += [
        f'<span class="key"><i class="dash"></i>{escape(name)} {100 * value:.3g}%</span>'
        for name, value in levels
    ]
    return "".join(keys)


def _band(name: str, axis: CapacityAxis, blocks: I64, lower: F64, upper: F64) -> str:
    x = (axis.places(blocks) * WIDTH).tolist()
    there = [f"{at:.1f} {y:.1f}" for at, y in zip(x, upper.tolist(), strict=True)]
    back = [f"{at:.1f} {y:.1f}" for at, y in zip(x, lower.tolist(), strict=True)]
    return f'<path class="{name}" d="M{"L".join([*there, *reversed(back)])}Z"/>'


def _line(each: Series, axis: CapacityAxis, y: F64) -> str:
    x = (axis.places(each.blocks) * WIDTH).tolist()
    known = [None if math.isnan(value) else value for value in y.tolist()]
    if each.look == "points" or sum(value is not None for value in known) == 1:
        dots = "".join(
            f"M{at:.1f} {value:.1f}h0"
            for at, value in zip(x, known, strict=True)
            if value is not None
        )
        return f'<path class="points c{each.color}" d="{dots}"/>'
    path, pen_down = "", False
    for at, value in zip(x, known, strict=True):
        if value is not None:
            path += f"{'L' if pen_down else 'M'}{at:.1f} {value:.1f}"
        pen_down = value is not None
    return f'<path class="line {each.look} c{each.color}" d="{path}"/>'


def _x_labels(axis: CapacityAxis, units: CapacityUnits) -> str:
    labels = []
    for tick in axis.ticks():
        at = axis.place(tick)
        if at < _UNIT_LABEL_AT:
            below = f"<br>{units.memory(tick)}" if units.bytes_per_block else ""
            labels.append(f'<span style="left:{100 * at:.2f}%">{short_count(tick)}{below}</span>')
    return "".join(labels)


def _uprights(axis: CapacityAxis, uprights: Sequence[Upright]) -> tuple[str, int]:
    """Return the marks, and the rows of names above the plot: those that would overlap need two."""
    free_from = [-1.0] * _ROWS
    marks, rows = [], 0
    for mark in sorted(uprights, key=lambda each: each.blocks):
        at = axis.place(mark.blocks)
        if not axis.first <= mark.blocks <= axis.last:
            continue
        wide = _CHARACTER * (len(mark.name) + 1)
        left = at + wide > 1  # its name stands on the other side, where there is room
        begin, end = (at - wide, at) if left else (at, at + wide)
        row = next((r for r in range(_ROWS) if free_from[r] <= begin), _ROWS - 1)
        free_from[row], rows = end, max(rows, row + 1)
        side, high = ' class="left"' if left else "", _NAME_ROW_PX * (row + 1)
        marks.append(
            f'<div class="upright" data-at="{axis.at(mark.blocks):.6f}" '
            f'style="left:{100 * at:.3f}%"><span{side} style="top:{-high}px;height:{high}px">'
            f"{escape(mark.name)}</span></div>"
        )
    return "".join(marks), rows


def _data(axis: CapacityAxis, units: CapacityUnits, series: Sequence[Series]) -> dict[str, Any]:
    """Return what the hover readout needs; no text in it comes from a trace.

    Each capacity owns the axis halfway to its neighbours, so that the nearest one answers.
    """
    blocks = sorted({capacity for each in series for capacity in each.blocks.tolist()})
    at = [axis.at(each) for each in blocks]
    ends = [(left + right) / 2 for left, right in pairwise(at)]
    values = []
    for each in series:
        known = dict(zip(each.blocks.tolist(), each.values.tolist(), strict=True))
        row = [known.get(capacity, math.nan) for capacity in blocks]
        values.append([None if math.isnan(v) else float(f"{v:.6g}") for v in row])
    return {
        "start": axis.at(axis.first),
        "end": [*ends, axis.at(axis.last)],
        "at": at,
        "values": values,
        "share": True,
        "blocks": blocks,
        "log": axis.log,
        "blockSize": units.block_size,
        "bytesPerBlock": units.bytes_per_block,
    }
