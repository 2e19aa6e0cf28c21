"""The report on capacity as one self-contained HTML page: what to do first, then the curve.

Owns: what stands where, the charts and how they are introduced; the part that other pages take
(`curve_section`). Leaves to others: sentences (`curve_facts`), tables (`curve_tables`), charts
(`capacity_chart`), style and scripts (`page`), every figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from html import escape
from typing import Any

import numpy as np

from kvatlas.measure.curves import CurveTable
from kvatlas.report.capacity_axis import CapacityAxis, CapacityUnits
from kvatlas.report.capacity_chart import CAPACITY_HELP, Series, Upright, capacity_chart
from kvatlas.report.capacity_html import (
    capacity_page,
    html_facts,
    html_head,
    html_settings,
    side_by_side,
)
from kvatlas.report.curve_document import Bounds, CurveDocument
from kvatlas.report.curve_facts import bounds_rows, curve_facts, subtitle
from kvatlas.report.curve_tables import (
    advice_table,
    curve_table,
    engine_table,
    named_capacities,
    tier_table,
    units_of,
)
from kvatlas.report.numbers import percent
from kvatlas.report.text_table import bare_html_table, html_table

__all__ = ["curve_html", "curve_section"]

_SHOWN_ROWS, _MOST_ROWS = 12, 500
_MOST_DOTS = 1500
_THIS_POOL = "this pool"
_LRU, _OPTIMUM, _ENGINE, _LEVEL = 1, 3, 2, 4


def curve_html(document: CurveDocument) -> bytes:
    """Return the page: some 40 kB, and 100 bytes for each row of the table."""
    return capacity_page(
        f"{document.title}: capacity",
        document.version,
        (
            html_head(
                document.title,
                subtitle(document.workload, document.config),
                document.headline,
                document.partial,
            ),
            _charts(document, tall=True),
            _bounds(document),
            side_by_side(html_table(tier_table(document)), html_table(engine_table(document))),
            html_table(advice_table(document, reasons=True)),
            _rows(document),
            html_facts(curve_facts(document), document.notes),
            html_settings(document.config),
        ),
    )


def curve_section(document: CurveDocument, *, host_tier: bool) -> str:
    """Return headline, curve and advice as a section of another page, under its own heading.

    The page needs the styles of `capacity_html.ASSETS`. Beside a host tier the heading says that
    the curve leaves it out.
    """
    alone = "a prefix cache alone, no host tier" if host_tier else "a prefix cache alone"
    document = replace(document, focus_name=_THIS_POOL)
    parts = [
        '<section id="capacity" class="capacity-page"><h2>Capacity <small>what more or less memory '
        f"would do, {alone}</small></h2>"
    ]
    parts += [f'<p class="lead">{escape(sentence)}</p>' for sentence in document.headline]
    parts += [*_charts(document, tall=False), *_bounds(document)]
    parts += [*html_table(tier_table(document)), *html_table(advice_table(document, reasons=True))]
    parts += [f'<p class="sub">{escape(note)}</p>' for note in document.notes]
    return "".join([*parts, "</section>"])


def _charts(document: CurveDocument, *, tall: bool) -> Iterator[str]:
    if not document.ceiling.hit_tokens:
        return
    table, units = _thinned(document), units_of(document)
    blocks, queried = table.capacity_blocks, max(1, table.queried_tokens)
    named = [Upright(name, capacity) for capacity, name in named_capacities(document).items()]
    engine = np.array(list(document.engine_rates), np.int64)
    axis = CapacityAxis.over([*blocks.tolist(), *engine.tolist(), *(mark.blocks for mark in named)])
    lru = table.hit_tokens / queried
    optimum = lru + table.policy_tokens / queried
    series = [
        Series("LRU", _LRU, blocks, lru, "bold"),
        Series("optimum", _OPTIMUM, blocks, optimum),
    ]
    if engine.size:
        rates = np.array(list(document.engine_rates.values()))
        series.append(Series("the engine", _ENGINE, engine, rates, "points"))
    ceiling = document.ceiling.hit_tokens / queried
    content = ceiling + table.granularity_tokens / queried
    levels = [("ceiling", ceiling)]
    if content - ceiling > 0.002:  # nearer, the two lines are one
        levels.append(("content", content))
    scale = "a logarithmic" if axis.log else "a linear"
    yield f'<p class="sub capacity-help">{CAPACITY_HELP}</p>'
    yield capacity_chart(
        "Token hit rate over capacity",
        axis,
        units,
        series,
        note="The shaded gap is what a better eviction policy could gain at most; right of the "
        f"knee a block earns less than the average one. Capacity on {scale} axis.",
        levels=levels,
        uprights=named,
        between=(0, 1),
        tall=tall,
    )
    yield capacity_chart(
        "Where prompt tokens go",
        axis,
        units,
        [
            Series("hit", 11, blocks, lru, "stack"),
            Series("policy", 12, blocks, table.policy_tokens / queried, "stack"),
            Series("capacity", 13, blocks, table.capacity_tokens / queried, "stack"),
            Series(
                "granularity",
                14,
                blocks,
                np.full(blocks.size, table.granularity_tokens / queried),
                "stack",
            ),
            Series("cold", 15, blocks, np.full(blocks.size, table.cold_tokens / queried), "stack"),
        ],
        note="Every prompt token is hit, or missed for one reason: policy (the optimum would have "
        "hit it), capacity (no policy could keep it there), granularity (lost to whole blocks and "
        "to the last token), cold (never seen).",
        uprights=named,
        whole=True,
    )


def _thinned(document: CurveDocument) -> CurveTable:
    """Return the table, of a very long one as many rows as there are dots on a wide screen."""
    table = document.table
    rows = table.capacity_blocks.size
    if rows <= _MOST_DOTS:
        return table
    even = np.linspace(0, rows - 1, _MOST_DOTS).round().astype(np.int64)
    named = np.flatnonzero(np.isin(table.capacity_blocks, list(named_capacities(document))))
    kept = np.union1d(even, named)
    columns: dict[str, Any] = {
        field.name: getattr(table, field.name)[kept]
        for field in fields(table)
        if isinstance(getattr(table, field.name), np.ndarray)
    }
    return replace(table, **columns)


def _bounds(document: CurveDocument) -> Iterator[str]:
    chosen = [("at the knee", document.knee)]
    if document.focus is not None:
        chosen.insert(0, (f"at {document.focus_name}", document.focus))
    units = units_of(document)
    return side_by_side(*(_bounds_at(where, bounds, units) for where, bounds in chosen))


def _bounds_at(where: str, bounds: Bounds, units: CapacityUnits) -> Iterator[str]:
    size = units.words(bounds.capacity_blocks)
    yield f"<h2>Bounds {where} <small>{escape(size)}</small></h2>"
    yield f'<p class="sub">Bottleneck: <b>{escape(bounds.bottleneck)}</b>. '
    yield f"{escape(_sentence(bounds.reason))}</p>"
    yield from _meters(bounds)


def _meters(bounds: Bounds) -> Iterator[str]:
    yield '<div class="bounds">'
    for key, name, value, meaning in bounds_rows(bounds):
        yield (
            f'<div class="{key}" title="{escape(meaning)}"><span>{escape(name)} '
            f"<small>{escape(meaning)}</small></span>"
            f'<div class="meter"><i style="width:{100 * value:.2f}%"></i></div>'
            f"<b>{percent(value)}</b></div>"
        )
    yield "</div>"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _rows(document: CurveDocument) -> Iterator[str]:
    if not document.ceiling.hit_tokens:
        return
    short = curve_table(document, _SHOWN_ROWS)
    yield from html_table(short)
    whole = curve_table(document, _MOST_ROWS)
    if len(whole.rows) > len(short.rows):
        left = document.table.capacity_blocks.size - len(whole.rows)
        said = f"; --csv has {left:,} more" if left else ""
        yield f"<details><summary>{len(whole.rows)} capacities{said}</summary>"
        yield from bare_html_table(whole)
        yield "</details>"
