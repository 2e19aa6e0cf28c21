"""Charts as inline SVG that fill their box at any width, with the text beside them in HTML.

Owns: the time axis, step paths, and the data that the hover readout shows. Leaves to others: what
is plotted, the figure around it (`chart_frame`), and the page around that (`page`).

Lines keep their width however far the drawing is stretched (`vector-effect`). All charts over time
of a page have one time axis and one cursor (`assets/page.js`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.report.chart_frame import (
    HEIGHT,
    WIDTH,
    Frame,
    figure,
    grid,
    round_ticks,
    value_label,
    y_ticks,
)

__all__ = ["AXIS_HELP", "Curve", "chart", "stack", "time_unit"]

F64 = NDArray[np.float64]

_UNIT_LABEL_AT = 0.93 * WIDTH  # further right stands the unit
AXIS_HELP = (
    "Point at a chart to read all of them at that moment; drag to zoom in, double-click to see the "
    "whole run. With the keyboard: <kbd>Tab</kbd> to a chart, <kbd>←</kbd> <kbd>→</kbd> to move, "
    "<kbd>+</kbd> <kbd>−</kbd> to zoom, <kbd>0</kbd> for the whole run. "
    "<button data-whole-run hidden>Whole run</button>"
)
"""How to use the charts, as HTML."""
_UNITS = ((1.0, "s"), (60.0, "min"), (3600.0, "h"))


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart: (K,) a value per interval, NaN where there is none.

    Attributes:
        name: for the legend.
        values: what is plotted.
        color: the number of the page's series colour.
        look: `line`, a filled `area`, separate `marks` for values that jump about, or `stack`: an
            area on top of the curve before it.
    """

    name: str
    values: F64
    color: int
    look: str = "line"


def time_unit(span_s: float) -> tuple[float, str]:
    """Return seconds per unit, and its name, in which `span_s` is read best."""
    return next((unit for unit in reversed(_UNITS) if span_s >= 2 * unit[0]), _UNITS[0])


def chart(
    title: str,
    start_s: F64,
    end_s: F64,
    curves: Sequence[Curve],
    *,
    share: bool = False,
    whole: bool = False,
    level: tuple[str, float] | None = None,
    note: str = "",
) -> str:
    """Return a figure of `curves` over time as HTML.

    Args:
        title: what the values are.
        start_s, end_s: (K,) the intervals' bounds.
        curves: what is plotted over them.
        share: the values are shares of 1 and shown as percentages.
        whole: the axis runs to 1, however small the values are.
        level: a name and a value to draw as a dashed line across.
        note: what a reader looks for in it.
    """
    first_s, last_s = float(start_s[0]), float(end_s[-1])
    tops = [float(np.nanmax(values, initial=0.0)) for _, values in _layers(curves)]
    top = 1.0 if whole else max([*tops, 0.0 if level is None else level[1]])
    ticks = y_ticks(top, share=share)
    top = ticks[-1]
    per_unit, unit = time_unit(last_s)
    x_ticks = round_ticks(first_s / per_unit, last_s / per_unit, most=6)
    span_s = last_s - first_s

    def x(second: float) -> float:
        return (second - first_s) / span_s * WIDTH

    def y(value: float) -> float:
        return (1 - value / top) * HEIGHT

    shapes = grid(y(tick) for tick in ticks)
    bounds = [x(second) for second in (first_s, *end_s.tolist())]
    lower = np.zeros_like(end_s)
    for curve, values in _layers(curves):
        if curve.look == "stack":
            heights = ([y(value) for value in part.tolist()] for part in (lower, values))
            shapes.append(_band(curve, bounds, *heights))
            lower = values
        else:
            shapes.append(_shape(curve, bounds, [y(value) for value in values.tolist()]))
    if level is not None:
        at = y(level[1])
        shapes.append(f'<line class="level" x1="0" x2="{WIDTH:g}" y1="{at:.1f}" y2="{at:.1f}"/>')
    y_labels = "".join(
        f'<span style="top:{100 * y(t) / HEIGHT:.2f}%">{value_label(t, share)}</span>'
        for t in ticks
    )
    x_labels = "".join(
        f'<span style="left:{100 * x(t * per_unit) / WIDTH:.2f}%">{t:g}</span>'
        for t in x_ticks
        if x(t * per_unit) < _UNIT_LABEL_AT
    )
    legend = "".join(
        f'<span class="key"><i class="c{c.color} {c.look}"></i>{escape(c.name)} <b></b></span>'
        for c in curves
    )
    if level is not None:
        said = f"{escape(level[0])} {value_label(level[1], share)}"
        legend += f'<span class="key"><i class="dash"></i>{said}</span>'
    return figure(
        Frame(
            title=title,
            note=note,
            legend=legend,
            y_labels=y_labels,
            x_labels=x_labels,
            unit=unit,
            shapes=shapes,
            data=_data(first_s, end_s, curves, share, per_unit, unit),
        )
    )


def stack(start_s: F64, end_s: F64, curves: Sequence[Curve]) -> str:
    """Return only the drawing of stacked curves, their highest sum at the top."""
    first_s, span_s = float(start_s[0]), float(end_s[-1] - start_s[0])
    bounds = [(s - first_s) / span_s * WIDTH for s in (first_s, *end_s.tolist())]
    layers = list(_layers(curves))
    top = max(float(layers[-1][1].max(initial=0.0)), 1e-9)
    lower, shapes = np.zeros_like(end_s), []
    for curve, values in layers:
        heights = ([(1 - v / top) * HEIGHT for v in part.tolist()] for part in (lower, values))
        shapes.append(_band(curve, bounds, *heights))
        lower = values
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(shapes)}</svg>"
    )


def _layers(curves: Sequence[Curve]) -> Iterator[tuple[Curve, F64]]:
    """Yield each curve with what is drawn: stacked ones on the sum of those before."""
    total: F64 | None = None
    for curve in curves:
        if curve.look == "stack":
            known = np.nan_to_num(curve.values)
            total = known if total is None else total + known
            yield curve, total
        else:
            yield curve, curve.values


def _band(curve: Curve, x: list[float], lower: list[float], upper: list[float]) -> str:
    there = "".join(f"V{y:.1f}H{x[i + 1]:.1f}" for i, y in enumerate(upper))
    back = "".join(f"V{lower[i]:.1f}H{x[i]:.1f}" for i in range(len(lower) - 1, -1, -1))
    return f'<path class="stack c{curve.color}" d="M{x[0]:.1f} {lower[0]:.1f}{there}{back}Z"/>'


def _shape(curve: Curve, x: list[float], y: list[float]) -> str:
    if curve.look == "marks":
        dots = "".join(
            f"M{(x[i] + x[i + 1]) / 2:.1f} {value:.1f}h0"
            for i, value in enumerate(y)
            if not math.isnan(value)
        )
        return f'<path class="marks c{curve.color}" d="{dots}"/>'
    path = ""
    if curve.look == "area":
        known = [(i, value) for i, value in enumerate(y) if not math.isnan(value)]
        steps = "".join(f"H{x[i]:.1f}V{value:.1f}H{x[i + 1]:.1f}" for i, value in known)
        path = f'<path class="area c{curve.color}" d="M0 {HEIGHT:g}{steps}V{HEIGHT:g}Z"/>'
    line, pen_down = "", False
    for i, value in enumerate(y):
        if math.isnan(value):
            pen_down = False
            continue
        line += f"V{value:.1f}" if pen_down else f"M{x[i]:.1f} {value:.1f}"
        line += f"H{x[i + 1]:.1f}"
        pen_down = True
    return path + f'<path class="line c{curve.color}" d="{line}"/>'


def _data(
    first_s: float, end_s: F64, curves: Sequence[Curve], share: bool, per_unit: float, unit: str
) -> dict[str, Any]:
    """Return what the hover readout needs; no text in it comes from a trace."""
    return {
        "start": float(f"{first_s:.6g}"),
        "end": [float(f"{second:.6g}") for second in end_s.tolist()],
        "values": [
            [None if math.isnan(v) else float(f"{v:.4g}") for v in curve.values.tolist()]
            for curve in curves
        ],
        "share": share,
        "perUnit": per_unit,
        "unit": unit,
    }
