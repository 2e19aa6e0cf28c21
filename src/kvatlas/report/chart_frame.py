"""What all charts have in common: the figure around the drawing, round ticks, labels.

Owns: the HTML of a chart whose SVG is stretched to its box (`preserveAspectRatio="none"`) and whose
texts are HTML, so that they are as large on a phone as on a desk. Leaves to others: axes and shapes
(`chart` over time, `capacity_chart` over capacity), moving and zooming (`assets/page.js`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

__all__ = ["HEIGHT", "WIDTH", "Frame", "figure", "grid", "round_ticks", "value_label", "y_ticks"]

WIDTH, HEIGHT = 1000.0, 200.0
"""The drawing's own units."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A chart in pieces, all of them HTML or SVG that its maker has escaped.

    Attributes:
        title, note: plain text; the note says what a reader looks for.
        legend: keys; y_labels, x_labels: spans at their places; unit: of the x axis.
        shapes: SVG; overlay: HTML on the plot, under the cursor.
        data: what the hover readout needs (`assets/page.js`).
        kind: further classes of the figure.
    """

    title: str
    note: str
    legend: str
    y_labels: str
    x_labels: str
    unit: str
    shapes: Sequence[str]
    data: Mapping[str, Any]
    overlay: str = ""
    kind: str = ""


def figure(frame: Frame) -> str:
    """Return the whole figure as HTML."""
    title = escape(frame.title)
    note = f'<p class="note">{escape(frame.note)}</p>' if frame.note else ""
    kind = f" {frame.kind}" if frame.kind else ""
    data = json.dumps(frame.data, separators=(",", ":"), allow_nan=False)
    return (
        f'<figure class="chart{kind}"><figcaption>{title}</figcaption>{note}'
        f'<div class="legend">{frame.legend}<span class="at"></span></div>'
        f'<div class="frame"><div class="ys">{frame.y_labels}</div><div class="plot" tabindex="0" '
        f'role="application" aria-label="{title}: arrow keys move the cursor">'
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{title}">{"".join(frame.shapes)}</svg>{frame.overlay}'
        '<div class="band"></div><div class="pin"></div><div class="cursor"></div></div>'
        f'<div class="xs">{frame.x_labels}<em>{frame.unit}</em></div></div>'
        f'<script type="application/json">{data}</script></figure>'
    )


def grid(heights: Iterable[float]) -> list[str]:
    """Return a line across for each height."""
    return [
        f'<line class="grid" x1="0" x2="{WIDTH:g}" y1="{y:.1f}" y2="{y:.1f}"/>' for y in heights
    ]


def y_ticks(top: float, *, share: bool) -> list[float]:
    """Return round values from 0 to `top` or a little above it; the last one ends the axis."""
    ticks = round_ticks(0.0, max(top, 1e-9) if top > 0 else 0.01 if share else 1.0)
    if ticks[-1] < top:
        ticks.append(ticks[-1] + ticks[1])
    return ticks


def round_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round values from `low` to `high`, at most `most` + 1 of them."""
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    ticks = [number * step for number in range(first, first + most + 2)]
    return [float(f"{tick:.12g}") for tick in ticks if tick <= high * (1 + 1e-9)]


def value_label(value: float, share: bool) -> str:
    """Return a tick of the y axis as text; shares as percentages."""
    if share:
        return f"{100 * value:.3g}%"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"
