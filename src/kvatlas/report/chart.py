"""Charts as inline SVG that fill their box at any width, with the text beside them in HTML.

Owns: axes, ticks, step paths, and the data that the hover readout shows. Leaves to others: what is
plotted, and the page around it (`page`).

The SVG is stretched to its box (`preserveAspectRatio="none"`), lines keep their width
(`vector-effect`), and all text is HTML, so that it is as large on a phone as on a desk.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

__all__ = ["Curve", "chart", "time_unit"]

F64 = NDArray[np.float64]

_WIDTH, _HEIGHT = 1000.0, 200.0
_UNIT_LABEL_AT = 0.93 * _WIDTH  # further right stands the unit
_UNITS = ((1.0, "s"), (60.0, "min"), (3600.0, "h"))


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart: (K,) a value per interval, NaN where there is none.

    Attributes:
        name: for the legend.
        values: what is plotted.
        color: the number of the page's series colour.
        look: a line, a filled area, or separate marks for values that jump about.
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
) -> str:
    """Return a figure of `curves` over time as HTML.

    Args:
        title: what the values are.
        start_s, end_s: (K,) the intervals' bounds.
        curves: what is plotted over them.
        share: the values are shares of 1 and shown as percentages.
        whole: the axis runs to 1, however small the values are.
        level: a name and a value to draw as a dashed line across.
    """
    first_s, last_s = float(start_s[0]), float(end_s[-1])
    tops = [float(np.nanmax(curve.values, initial=0.0)) for curve in curves]
    top = 1.0 if whole else max([*tops, 0.0 if level is None else level[1]])
    y_ticks = _ticks(0.0, max(top, 1e-9))
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
    for curve in curves:
        shapes.append(_shape(curve, bounds, [y(value) for value in curve.values.tolist()]))
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
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<div class="legend">{legend}<span class="at"></span></div>'
        f'<div class="frame"><div class="ys">{y_labels}</div><div class="plot">'
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}">{"".join(shapes)}</svg><div class="cursor"></div></div>'
        f'<div class="xs">{x_labels}<em>{unit}</em></div></div>'
        f'<script type="application/json">{_data(first_s, end_s, curves, share, per_unit, unit)}'
        "</script></figure>"
    )


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
