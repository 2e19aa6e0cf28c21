"""Charts as inline SVG that fill their box at any width, with the text beside them in HTML.

Owns: axes, ticks, step paths, and the data that the hover readout shows. Leaves to others: what is
plotted, and the page around it (`page`).

The SVG is stretched to its box (`preserveAspectRatio="none"`), lines keep their width
(`vector-effect`), and all text is HTML, so that it is as large on a phone as on a desk. All charts
of a page have one time axis and one cursor (`assets/page.js`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

__all__ = ["AXIS_HELP", "Curve", "chart", "stack", "time_unit"]

F64 = NDArray[np.float64]

_WIDTH, _HEIGHT = 1000.0, 200.0
_UNIT_LABEL_AT = 0.93 * _WIDTH  # further right stands the unit
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
    y_ticks = _ticks(0.0, max(top, 1e-9) if top > 0 else 0.01 if share else 1.0)
    if y_ticks[-1] < top:
        y_ticks.append(y_ticks[-1] + y_ticks[1])
    top = y_ticks[-1]
    per_unit, unit = time_unit(last_s)
    x_ticks = _ticks(first_s / per_unit, last_s / per_unit, most=6)
    span_s = last_s - first_s

    def x(second: float) -> float:
        return (second - first_s) / span_s * _WIDTH

    def y(value: float) -> float:
        return (1 - value / top) * _HEIGHT

    shapes = [f'<line class="grid" x1="0" x2="{_WIDTH:g}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
              for t in y_ticks]  # fmt: skip
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
        shapes.append(f'<line class="level" x1="0" x2="{_WIDTH:g}" y1="{at:.1f}" y2="{at:.1f}"/>')
    y_labels = "".join(
        f'<span style="top:{100 * y(t) / _HEIGHT:.2f}%">{_label(t, share)}</span>' for t in y_ticks
    )
    x_labels = "".join(
        f'<span style="left:{100 * x(t * per_unit) / _WIDTH:.2f}%">{t:g}</span>'
        for t in x_ticks
        if x(t * per_unit) < _UNIT_LABEL_AT
    )
    legend = "".join(
        f'<span class="key"><i class="c{c.color} {c.look}"></i>{escape(c.name)} <b></b></span>'
        for c in curves
    )
    if level is not None:
        said = f"{escape(level[0])} {_label(level[1], share)}"
        legend += f'<span class="key"><i class="dash"></i>{said}</span>'
    said_note = f'<p class="note">{escape(note)}</p>' if note else ""
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>{said_note}'
        f'<div class="legend">{legend}<span class="at"></span></div>'
        f'<div class="frame"><div class="ys">{y_labels}</div><div class="plot" tabindex="0" '
        f'role="application" aria-label="{escape(title)}: arrow keys move the cursor">'
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}">{"".join(shapes)}</svg><div class="band"></div>'
        '<div class="pin"></div><div class="cursor"></div></div>'
        f'<div class="xs">{x_labels}<em>{unit}</em></div></div>'
        f'<script type="application/json">{_data(first_s, end_s, curves, share, per_unit, unit)}'
        "</script></figure>"
    )


def stack(start_s: F64, end_s: F64, curves: Sequence[Curve]) -> str:
    """Return only the drawing of stacked curves, their highest sum at the top."""
    first_s, span_s = float(start_s[0]), float(end_s[-1] - start_s[0])
    bounds = [(s - first_s) / span_s * _WIDTH for s in (first_s, *end_s.tolist())]
    layers = list(_layers(curves))
    top = max(float(layers[-1][1].max(initial=0.0)), 1e-9)
    lower, shapes = np.zeros_like(end_s), []
    for curve, values in layers:
        heights = ([(1 - v / top) * _HEIGHT for v in part.tolist()] for part in (lower, values))
        shapes.append(_band(curve, bounds, *heights))
        lower = values
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" preserveAspectRatio="none" aria-hidden="true">'
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
        path = f'<path class="area c{curve.color}" d="M0 {_HEIGHT:g}{steps}V{_HEIGHT:g}Z"/>'
    line, pen_down = "", False
    for i, value in enumerate(y):
        if math.isnan(value):
            pen_down = False
            continue
        line += f"V{value:.1f}" if pen_down else f"M{x[i]:.1f} {value:.1f}"
        line += f"H{x[i + 1]:.1f}"
        pen_down = True
    return path + f'<path class="line c{curve.color}" d="{line}"/>'


def _ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round values from `low` to `high`, at most `most` + 1 of them."""
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    ticks = [number * step for number in range(first, first + most + 2)]
    return [float(f"{tick:.12g}") for tick in ticks if tick <= high * (1 + 1e-9)]


def _label(value: float, share: bool) -> str:
    if share:
        return f"{100 * value:.3g}%"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"


def _data(
    first_s: float, end_s: F64, curves: Sequence[Curve], share: bool, per_unit: float, unit: str
) -> str:
    """Return what the hover readout needs; no text in it comes from a trace."""
    return json.dumps(
        {
            "start": float(f"{first_s:.6g}"),
            "end": [float(f"{second:.6g}") for second in end_s.tolist()],
            "values": [
                [None if math.isnan(v) else float(f"{v:.4g}") for v in curve.values.tolist()]
                for curve in curves
            ],
            "share": share,
            "perUnit": per_unit,
            "unit": unit,
        },
        separators=(",", ":"),
    )
