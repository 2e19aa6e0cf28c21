"""The report of a run as one self-contained HTML page: verdict first, then the evidence.

Owns: what stands where, the charts and how they are introduced. Leaves to others: the look
of the other sections (`run_html_parts`, `run_html_tables`), the block map (`block_map`), charts
(`chart`), style and scripts (`page`), sentences (`run_facts`), every figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np

from kvatlas.report import run_facts
from kvatlas.report.block_map import block_map
from kvatlas.report.capacity_html import ASSETS
from kvatlas.report.chart import AXIS_HELP, Curve, chart
from kvatlas.report.curve_html import curve_section
from kvatlas.report.page import page
from kvatlas.report.run_document import RunDocument, TimeSeries
from kvatlas.report.run_html_parts import cards, details, facts, findings, misses
from kvatlas.report.run_html_tables import histograms, tables

__all__ = ["run_html"]

_FEWEST_INTERVALS = 2


def run_html(document: RunDocument) -> bytes:
    """Return the page: 0.2 to 0.5 MB, and the frames of the block map (up to 8 MB)."""
    sections = (
        _top(document),
        findings(document),
        cards(document),
        ('<div class="timed">', *block_map(document), *_charts(document), "</div>"),
        misses(document),
        _capacity(document),
        histograms(document),
        tables(document),
        facts(document),
        details(document),
        (f"<footer>kvatlas {escape(document.version)}</footer>",),
    )
    body = "".join(part for section in sections for part in section)
    assets = ("run.css", *ASSETS, "block_frames.js", "block_view.js", "block_map.js")
    return page(document.title, body, assets=assets)


def _capacity(document: RunDocument) -> Iterator[str]:
    if document.capacity is not None:
        yield curve_section(document.capacity, host_tier=bool(document.config.get("host_blocks")))


def _top(document: RunDocument) -> Iterator[str]:
    warning = run_facts.partial_warning(document)
    if warning:
        yield f'<p class="alarm">{escape(warning)}</p>'
    yield f"<h1>{escape(document.title)}</h1>"
    subtitle = run_facts.subtitle(document)
    if subtitle:
        yield f'<p class="sub">{escape(subtitle)}</p>'


def _charts(document: RunDocument) -> Iterator[str]:
    clock = "on the simulated clock" if document.producer == "replay" else "on the server's clock"
    yield f'<section id="time"><h2>Over time <small>{clock}</small></h2>'
    series = document.series
    if series.end_s.size < _FEWEST_INTERVALS:
        yield '<p class="sub">Too short, or without a clock: there is nothing to draw.</p>'
        yield "</section>"
        return
    yield f'<p class="sub">{AXIS_HELP}</p><div class="charts">'
    absent: list[str] = []
    yield from _memory_charts(document, series)
    yield from _traffic_charts(series, absent)
    yield "</div>"
    if absent:
        yield f'<p class="sub">Nothing to draw: {escape(", ".join(absent))} in this run.</p>'
    yield "</section>"


def _memory_charts(document: RunDocument, series: TimeSeries) -> Iterator[str]:
    bounds = (series.start_s, series.end_s)
    occupancy = _known(series, ("used", "in use", 5), ("evictable", "cached, free to evict", 6),
                       ("empty", "empty", 7))  # fmt: skip
    if occupancy:
        yield chart(
            "Blocks of the pool",
            *bounds,
            [Curve(curve.name, curve.values, curve.color, "stack") for curve in occupancy],
            note="A cache should be full: no empty blocks is good. Worry when blue fills it all: "
            "then requests wait or are preempted.",
        )
    rates = _known(series, ("hit_rate_so_far", "since the beginning", 3),
                   ("hit_rate", "in the interval", 3))  # fmt: skip
    if rates:
        ceiling = document.figures.values.get("prefix.ceiling_token_hit_rate")
        yield chart(
            "Token hit rate at first admission",
            *bounds,
            [
                Curve(c.name, c.values, c.color, "line" if c.name.startswith("since") else "marks")
                for c in rates
            ],
            share=True,
            level=None if ceiling is None else ("ceiling", float(ceiling)),
            note="Prompt tokens found in the cache. The ceiling is what an unbounded cache would "
            "find: worry about the gap to it.",
        )
    waste = _known(series, ("waste", "internal waste", 2))
    if waste:
        yield chart(
            "Slots held that hold no token",
            *bounds,
            [Curve(curve.name, curve.values, curve.color, "area") for curve in waste],
            share=True,
            note="The unfilled ends of block tables. Worry above 5% or so: smaller blocks waste "
            "less.",
        )


def _traffic_charts(series: TimeSeries, absent: list[str]) -> Iterator[str]:
    bounds = (series.start_s, series.end_s)
    for title, note, wanted in (
        (
            "Requests",
            "Running requests hold blocks; waiting ones queue for them. Worry when the queue grows "
            "and does not drain.",
            (("running", "running", 1), ("waiting", "waiting", 2)),
        ),
        (
            "Preemptions",
            "Running requests that lost their blocks and start over. A few cost little; worry when "
            "they come in rows.",
            (("preemptions", "preemptions", 2),),
        ),
        (
            "Refused allocations",
            "Times that blocks were asked for and not given, at admission or while running. Many "
            "beside a growing queue: the pool is too small.",
            (("failures", "refused", 2),),
        ),
        (
            "Evictions",
            "Cached blocks that gave way to new ones. Normal for a full cache; they cost only what "
            "is asked for again (see the misses).",
            (("evictions", "evicted blocks", 4),),
        ),
        (
            "Pieces per request",
            "In how many runs of neighbouring blocks a request lies, on average. No cost in the "
            "pool; one descriptor each when blocks are moved or offloaded.",
            (("runs_per_request", "pieces", 4),),
        ),
    ):
        curves = _known(series, *wanted)
        if not curves:
            continue
        if not any(np.nan_to_num(curve.values).any() for curve in curves):
            absent.append(f"no {title.lower()}")
            continue
        look = "line" if len(curves) > 1 else "area"
        shown = [Curve(curve.name, curve.values, curve.color, look) for curve in curves]
        yield chart(title, *bounds, shown, note=note)


def _known(series: TimeSeries, *wanted: tuple[str, str, int]) -> list[Curve]:
    """Return those of the wanted columns (name, name for people, colour) that say something."""
    return [
        Curve(name, series.columns[column], color)
        for column, name, color in wanted
        if column in series.columns and not np.isnan(series.columns[column]).all()
    ]
