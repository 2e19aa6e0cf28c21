"""A replay held against the recording it replays, in a terminal.

Owns: its look, for 80 columns. Leaves to others: the comparison (`kvatlas.measure.prediction`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from rich.console import Console, RenderableType
from rich.text import Text

from kvatlas.measure.prediction import Compared, Prediction
from kvatlas.report.console import heading, two_columns
from kvatlas.report.numbers import count, percent
from kvatlas.report.sparkline import sparkline
from kvatlas.report.text_table import TextTable, terminal_table

__all__ = ["prediction_parts"]

_SHARES = ("token_hit_rate", "mean_usage")
_TITLES = {
    "token_hit_rate": "Token hit rate",
    "mean_usage": "Mean usage",
    "mean_running": "Mean running",
    "preemptions": "Preemptions",
    "evictions": "Evictions",
    "scheduled_tokens": "Tokens computed",
    "clock_s": "Time, s",
}
_LINES = {
    "usage": "Usage recorded",
    "hit_rate": "Hits recorded",
    "preemptions": "Preempted",
}


def prediction_parts(console: Console, prediction: Prediction) -> Iterator[RenderableType]:
    """Yield the lines of the comparison."""
    what_if = bool(prediction.changed)
    remark = (
        f"a what-if: {', '.join(prediction.changed)}"
        if what_if
        else "the same settings: what differs is error"
    )
    ours = "what-if" if what_if else "predicted"
    yield from terminal_table(
        TextTable(
            title="Against the recording",
            remark=remark,
            columns=("", "recorded", ours, "difference"),
            rows=tuple(_rows(prediction)),
        )
    )
    yield Text()
    for each in prediction.compared:
        yield two_columns(_curves(console, each, ours))
    fit = prediction.step_time
    if fit is not None:
        yield heading("Step time", "learnt from the recorded steps")
        yield two_columns(_fit(fit))


def _rows(prediction: Prediction) -> Iterator[tuple[str, ...]]:
    for name, (recorded, predicted) in prediction.totals.items():
        shown = [_number(name, value) for value in (recorded, predicted)]
        difference = "-"
        if recorded is not None and predicted is not None:
            off = predicted - recorded
            if name in _SHARES:
                difference = f"{100 * off:+.2f} points"
            else:
                difference = f"{off:+,.0f}" + (
                    f" ({100 * off / recorded:+.1f}%)" if recorded else ""
                )
        yield (_TITLES[name], *shown, difference)


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name in _SHARES:
        return percent(value)
    return f"{value:,.2f}" if name in ("mean_running", "clock_s") else count(round(value))


def _curves(console: Console, each: Compared, ours: str) -> Iterator[tuple[str, Text]]:
    known = np.concatenate((each.recorded, each.predicted))
    known = known[np.isfinite(known)]
    if not known.size:
        return
    top = max(float(known.max()), 1e-9)
    ascii_only = console.encoding.lower() not in ("utf-8", "utf8")
    for label, values in ((_LINES[each.name], each.recorded), (f"  {ours}", each.predicted)):
        yield label, Text(sparkline(values, top, ascii_only=ascii_only))
    mean, worst = each.mean_error, each.worst_error
    if mean is not None and worst is not None:
        if each.name == "preemptions":
            said = f"off by {mean:,.1f} in the mean, {worst:,.0f} at worst"
        else:
            said = f"off by {100 * mean:.2f} points in the mean, {100 * worst:.2f} at worst"
        yield "", Text(said, style="dim")


def _fit(fit: Mapping[str, float | int | None]) -> Iterator[tuple[str, Text]]:
    known = {name: 0.0 if value is None else value for name, value in fit.items()}
    line = (
        f"{known['base_ms']:.3g} ms + {known['per_ktok_ms']:.3g} ms per 1,000 tokens, from "
        f"{known['steps']:,} steps"
    )
    r2 = "" if fit["r2"] is None else f"R2 {known['r2']:.2f}, "
    error = (
        f"fitted to the first half, on the second: {r2}a step off by "
        f"{percent(known['median_error'])} in the median and {percent(known['p95_error'])} at the "
        f"95th percentile, all together by {100 * known['total_error']:+.1f}%"
    )
    yield "", Text(line)
    yield "", Text(error, style="dim")
