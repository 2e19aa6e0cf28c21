"""Bars, curves and alerts.

Owns: which figures have a line of their own, and their words. Leaves to others: the figures
(`kvatlas.watch.moment`), the look of a curve (`kvatlas.report.sparkline`).
"""

from __future__ import annotations

import math

import numpy as np
from rich.text import Text

from kvatlas.report.map_legend import Glyphs, glyphs
from kvatlas.report.numbers import count, percent, rate, seconds
from kvatlas.report.plain_text import plain
from kvatlas.report.sparkline import resample, sparkline
from kvatlas.watch.moment import History, Moment
from kvatlas.watch.top.areas import LABEL, Areas, Look

__all__ = ["CURVE_S", "alert_lines", "meter_lines"]

CURVE_S = 600.0
"""A curve shows at most this much of the past."""

_ALERT_STYLES = {"bad": "bold red", "warn": "yellow", "info": "cyan"}
_ALERT_MARKS = {"bad": "!!", "warn": " !", "info": " i"}


def meter_lines(moment: Moment, look: Look, areas: Areas) -> list[Text]:
    """Return the lines from the pool to the requests, most important first."""
    marks = glyphs(ascii_only=look.ascii_only)
    return [
        _pool(moment, marks, areas.graph),
        _slots(moment, marks, areas.graph),
        _hits(moment, look, areas.graph),
        _tokens(moment, look, areas.graph),
        _preemptions(moment, look, areas.graph),
        _evictions(moment, look, areas.graph),
        _requests(moment),
    ]


def alert_lines(moment: Moment, width: int, rows: int) -> list[Text]:
    """Return `rows` lines: the worst alerts, and how many more there are."""
    lines = []
    for alert in moment.alerts[:rows]:
        line = Text()
        line.append(f"{_ALERT_MARKS[alert.level]} {alert.name}", style=_ALERT_STYLES[alert.level])
        line.append(f"  {plain(alert.text, 400)}")
        for_s = moment.time_s - alert.since_s
        since = Text(f"  {seconds(round(for_s))}" if for_s >= 1 else "", style="dim")
        line.truncate(max(0, width - since.cell_len), overflow="ellipsis", pad=True)
        lines.append(line.append_text(since))
    hidden = len(moment.alerts) - len(lines)
    if hidden > 0 and lines:
        more = Text(f"  +{hidden} more (d)", style="dim")
        lines[-1].truncate(max(0, width - more.cell_len), overflow="ellipsis", pad=True)
        lines[-1].append_text(more)
    if rows and not lines:
        lines.append(Text("   nothing to worry about", style="dim"))
    return lines + [Text()] * (rows - len(lines))


def _line(label: str, graph: Text, text: str) -> Text:
    return Text.assemble(f"{label:<{LABEL}}", graph, f"  {text}")


def _stacked(parts: tuple[tuple[float, str, str], ...], rest: str, columns: int) -> Text:
    """Return a bar of shares of 1 beside each other; any share above 0 shows."""
    bar = Text()
    done, filled = 0.0, 0
    for share, glyph, style in parts:
        done += share
        cells = max(round(done * columns) - filled, int(share > 0))
        cells = min(cells, columns - filled)
        bar.append(glyph * cells, style=style)
        filled += cells
    bar.append(rest * (columns - filled), style="dim")
    return bar


def _pool(moment: Moment, marks: Glyphs, columns: int) -> Text:
    pool = moment.pool
    cached = pool.resident - pool.usage
    bar = _stacked(
        ((pool.usage, marks.used, "blue"), (cached, marks.evictable, "green")),
        marks.empty,
        columns,
    )
    text = f"{percent(pool.usage)} of {count(pool.total_blocks)}; {percent(cached)} cached"
    return _line("Pool", bar, text)


def _slots(moment: Moment, marks: Glyphs, columns: int) -> Text:
    pool, waste = moment.pool, moment.waste
    if pool.slot_usage is None or pool.total_slots is None or pool.held_slots is None:
        why = "not recorded" if pool.total_slots else "blocks of several sizes"
        if waste.internal is not None:
            why = f"{percent(waste.internal)} of held wasted"
        return _line("Slots", Text("?" + " " * (columns - 1), style="dim"), why)
    wasted = max(0.0, pool.held_slots / pool.total_slots - pool.slot_usage)
    bar = _stacked(
        ((pool.slot_usage, marks.used, "blue"), (wasted, "%" if marks.used == "#" else "▚", "red")),
        marks.empty,
        columns,
    )
    text = f"{percent(pool.slot_usage)} live"
    if waste.internal is not None:
        text += f"; {percent(waste.internal)} of held wasted"
    return _line("Slots", bar, text)


def _hits(moment: Moment, look: Look, columns: int) -> Text:
    prefix = moment.prefix
    if not moment.caching:
        return _line("Hit rate", Text(" " * columns), "prefix caching is off")
    so_far, minute = (
        "?" if share is None else percent(share)
        for share in (prefix.token_hit_rate, prefix.token_hit_rate_60s)
    )
    curve = _curve(moment, moment.history.hit_rate, 1.0, look, columns, "magenta")
    return _line("Hit rate", curve, f"{so_far} so far; {minute} in 60 s")


def _tokens(moment: Moment, look: Look, columns: int) -> Text:
    rates = moment.rates
    tokens, steps = (
        "?" if each is None else rate(each) for each in (rates.tokens_per_s, rates.steps_per_s)
    )
    curve = _curve(moment, moment.history.tokens_per_s, None, look, columns, "cyan")
    return _line("Tokens/s", curve, f"{tokens}; {steps} steps/s")


def _preemptions(moment: Moment, look: Look, columns: int) -> Text:
    curve = _curve(moment, moment.history.preemptions, None, look, columns, "red", total=True)
    refused = moment.failures.total
    text = f"{count(moment.requests.preemptions)}; {count(refused)} refused"
    return _line("Preempted", curve, text)


def _evictions(moment: Moment, look: Look, columns: int) -> Text:
    curve = _curve(moment, moment.history.evictions, None, look, columns, "yellow", total=True)
    text = f"{count(moment.evictions.total)}"
    if moment.evictions.premature is not None:
        text += f"; {count(moment.evictions.premature)} too early"
    return _line("Evicted", curve, text)


def _requests(moment: Moment) -> Text:
    requests = moment.requests
    text = f"{count(requests.running)} running, {count(requests.waiting)} waiting; "
    text += f"{count(requests.arrived)} arrived, {count(requests.finished)} finished"
    if requests.aborted:
        text += f" ({count(requests.aborted)} aborted)"
    return Text(f"{'Requests':<{LABEL}}{text}")


def _curve(
    moment: Moment,
    values: list[float | None] | list[float],
    top: float | None,
    look: Look,
    columns: int,
    style: str,
    *,
    total: bool = False,
) -> Text:
    """Return a curve of the last ten minutes up to now, as high as `top` or its highest value."""
    history: History = moment.history
    first_s = max(moment.time_s - CURVE_S, history.start_s[0] if history.start_s else 0.0)
    begin = int(np.searchsorted(history.end_s, first_s, side="right"))
    numbers = np.array([math.nan if value is None else value for value in values[begin:]], float)
    start_s, end_s = np.array(history.start_s[begin:]), np.array(history.end_s[begin:])
    if not numbers.size:
        return Text(" " * columns)
    if moment.time_s > end_s[-1]:  # nothing happened since
        start_s, end_s = np.append(start_s, end_s[-1]), np.append(end_s, moment.time_s)
        numbers = np.append(numbers, 0.0 if total else math.nan)
    shown = resample(start_s, end_s, numbers, columns, total=total)
    known = shown[~np.isnan(shown)]
    highest = top if top is not None else float(known.max(initial=0.0))
    return Text(sparkline(shown, highest, ascii_only=look.ascii_only), style=style)
