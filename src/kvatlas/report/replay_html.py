"""The replay report as one self-contained HTML page.

Owns: what stands where. Leaves to others: sentences (`replay_facts`), charts (`chart`), style
(`page`) and the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

import numpy as np

from kvatlas.report import replay_facts
from kvatlas.report.chart import Curve, chart
from kvatlas.report.document import ReplayDocument
from kvatlas.report.numbers import count, percent, seconds
from kvatlas.report.page import page
from kvatlas.report.replay_facts import Fact

__all__ = ["replay_html"]

_FEWEST_INTERVALS = 2


def replay_html(document: ReplayDocument) -> bytes:
    """Return the page, some 60 to 150 kB."""
    name = str(document.workload["name"])
    parts = [*_top(document, name), *_charts(document)]
    for section in replay_facts.sections(document):
        remark = f" <small>{escape(section.remark)}</small>" if section.remark else ""
        parts.append(f"<h2>{escape(section.title)}{remark}</h2>{_facts(section.facts)}")
    parts.append(f"<h2>What to believe</h2>{_facts(replay_facts.notes(document))}")
    parts += _tables(document)
    parts.append(f"<footer>kvatlas {escape(document.version)}</footer>")
    return page(f"{name} on {document.engine}", "".join(parts))


def _top(document: ReplayDocument, name: str) -> Iterator[str]:
    if document.partial:
        yield f'<p class="alarm">{escape(replay_facts.partial_warning(document))}</p>'
    for section in replay_facts.sections(document):
        for fact in section.facts:
            if fact.tone == "alarm":
                yield f'<p class="alarm">{escape(f"{fact.label}: {fact.text}")}</p>'
    yield f"<h1>{escape(name)} <span>on {escape(document.engine)}</span></h1>"
    yield f'<p class="sub">{escape(replay_facts.subtitle(document))}</p>'
    yield f'<div class="cards">{"".join(_cards(document))}</div>'


def _cards(document: ReplayDocument) -> Iterator[str]:
    (label, name, meaning), (_, ceiling_name, _) = replay_facts.headline()
    hit_rate, ceiling = document.figure(name), document.figure(ceiling_name)
    if hit_rate is None:
        yield _card(label, "–", f"not known: {document.why(name)}")
    else:
        what = meaning
        if ceiling is not None:
            what += f"; the mark is the ceiling, {percent(ceiling)} in an unbounded cache"
        yield _card(label, f"{100 * hit_rate:.2f}%", what, _meter(hit_rate, ceiling))
    over_time = document.figure("usage.time_weighted")
    peak = document.known("usage.peak")
    if over_time is not None:
        yield _card(
            "Usage",
            percent(over_time),
            f"of the pool on average over time, {percent(peak)} at its peak",
            _meter(over_time, peak),
        )
    waste = document.figure("waste.internal_time_weighted")
    if waste is not None:
        yield _card("Internal waste", percent(waste), "of the slots held, on average over time")
    lost = count(document.known("preemption.recomputed_tokens"))
    yield _card(
        "Preemptions", count(document.known("preemption.count")), f"{lost} tokens computed again"
    )
    if document.figure("latency.ttft_p50_s") is not None:
        tail = seconds(document.known("latency.ttft_p99_s"))
        median = seconds(document.known("latency.ttft_p50_s"))
        yield _card("Time to first token", median, f"median; {tail} at the 99th percentile")


def _card(name: str, value: str, what: str, meter: str = "") -> str:
    return (
        f'<div class="card"><span class="name">{escape(name)}</span><b>{escape(value)}</b>{meter}'
        f'<p class="what">{escape(what)}</p></div>'
    )


def _meter(share: float, mark: float | None) -> str:
    line = "" if mark is None else f'<u style="left:{100 * min(mark, 0.995):.2f}%"></u>'
    return f'<div class="meter"><i style="width:{100 * share:.2f}%"></i>{line}</div>'


def _charts(document: ReplayDocument) -> Iterator[str]:
    series = document.series
    yield "<h2>Over time <small>on the simulated clock</small></h2>"
    if series is None or series.end_s.size < _FEWEST_INTERVALS:
        yield '<p class="sub">Too short, or without a clock: there is nothing to draw.</p>'
        return
    bounds = (series.start_s, series.end_s)
    for title, curve in (
        ("Usage of the pool", Curve("in use", series.usage, 1, "area")),
        ("Running requests", Curve("running", series.running, 1)),
        ("Waiting requests", Curve("waiting", series.waiting, 2)),
    ):
        of_pool = curve.values is series.usage
        yield chart(title, *bounds, [curve], share=of_pool, whole=of_pool)
    if not np.isnan(series.hit_rate_so_far).all() and document.figure("prefix.token_hit_rate"):
        ceiling = document.figure("prefix.ceiling_token_hit_rate")
        yield chart(
            "Token hit rate at first admission",
            *bounds,
            [
                Curve("since the beginning", series.hit_rate_so_far, 3),
                Curve("in the interval", series.hit_rate, 3, "marks"),
            ],
            share=True,
            level=None if ceiling is None else ("ceiling", ceiling),
        )
    if series.evicted_blocks_per_s.any():
        yield chart(
            "Cached blocks evicted, per second",
            *bounds,
            [Curve("evicted", series.evicted_blocks_per_s, 2, "area")],
        )


def _facts(facts: Iterable[Fact]) -> str:
    rows = "".join(
        f'<dt>{escape(fact.label)}</dt><dd class="{fact.tone}">{escape(fact.text)}</dd>'
        for fact in facts
    )
    return f"<dl>{rows}</dl>"


def _tables(document: ReplayDocument) -> Iterator[str]:
    measured = {
        name: document.why(name) if value is None else value
        for name, value in document.figures.values.items()
    }
    for title, rows in (
        ("Decisions", document.decisions),
        ("Measurements", measured),
        ("Settings", document.config),
        ("Workload", document.workload),
        ("Timing of this replay", document.timing),
    ):
        yield f"<details><summary>{escape(title)}</summary>{_table(rows)}</details>"


def _table(rows: Mapping[str, Any]) -> str:
    body = "".join(
        f"<tr><td><code>{escape(str(name))}</code></td>"
        f'<td class="n">{escape(_cell(value))}</td></tr>'
        for name, value in rows.items()
    )
    return f"<table><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
