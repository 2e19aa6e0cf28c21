"""The comparison of placement policies as one self-contained HTML page: the verdict first.

Owns: what stands where, the charts and how they are introduced. Leaves to others: tables
(`placement_tables`), charts (`capacity_chart`), style and scripts (`page`), every figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from kvatlas.report.capacity_axis import CapacityAxis, CapacityUnits
from kvatlas.report.capacity_chart import Series, capacity_chart
from kvatlas.report.capacity_html import capacity_page, html_facts, html_head, html_settings
from kvatlas.report.curve_facts import subtitle, timing_fact
from kvatlas.report.numbers import mean
from kvatlas.report.placement_document import QUEUE, PlacementDocument, PlacementRow
from kvatlas.report.placement_tables import (
    OPEN_LOOP,
    SCHEDULER,
    about_placements,
    copies_table,
    free_table,
    runs_table,
    served_facts,
)
from kvatlas.report.replay_facts import Fact
from kvatlas.report.text_table import html_table

__all__ = ["placement_html"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_QUEUE, _FIRST_OTHER, _OTHERS = 1, 21, 10
_DOTS = 64
_HELP = (
    "Point at a chart to read it there; drag to zoom in, double-click to see everything. With the "
    "keyboard: <kbd>Tab</kbd> to a chart, <kbd>←</kbd> <kbd>→</kbd> to move, <kbd>+</kbd> "
    "<kbd>−</kbd> to zoom, <kbd>0</kbd> for everything. "
    "<button data-whole-runs hidden>All runs</button> "
    "<button data-whole-curve hidden>All lengths</button>"
)


def placement_html(document: PlacementDocument) -> bytes:
    """Return the page: some 40 kB, and 10 kB for each policy."""
    return capacity_page(
        f"{document.title}: placement",
        document.version,
        (
            html_head(
                document.title,
                subtitle(document.workload, document.config),
                document.verdict,
                document.partial,
            ),
            _way(document, document.open_loop, OPEN_LOOP),
            _way(document, document.scheduler, SCHEDULER),
            html_table(about_placements(document)),
            html_facts(_facts(document), document.notes),
            html_settings(document.config),
        ),
    )


def _facts(document: PlacementDocument) -> Iterator[Fact]:
    yield from served_facts(document)
    yield timing_fact(document.timing)


def _way(document: PlacementDocument, rows: Sequence[PlacementRow], where: str) -> Iterator[str]:
    """Yield all that one way to drive the policies shows."""
    if not rows:
        return
    yield from _bars(rows, where)
    if rows is document.open_loop:
        yield f'<p class="sub capacity-help">{_HELP}</p>'
    yield from _charts(document, rows, where)
    yield from html_table(runs_table(rows, where))
    yield from html_table(copies_table(rows, where, document.config.get("copy_blocks")))
    yield from html_table(free_table(rows, where))


def _bars(rows: Sequence[PlacementRow], where: str) -> Iterator[str]:
    most = max(row.runs_per_request for row in rows)
    if len(rows) < 2 or not most > 1:
        return
    yield f"<h2>Runs per request <small>{escape(where)}; bars are logarithmic</small></h2>"
    yield '<div class="bounds placements">'
    for row in rows:
        share = math.log(max(1.0, row.runs_per_request)) / math.log(most)
        kind = "lru" if row.name == QUEUE else "optimum"
        yield (
            f'<div class="{kind}" title="{escape(row.summary)}"><span>{escape(row.title)} '
            f"<small>{escape(row.summary)}</small></span>"
            f'<div class="meter"><i style="width:{100 * share:.2f}%"></i></div>'
            f"<b>{mean(row.runs_per_request)}</b></div>"
        )
    yield "</div>"


def _charts(document: PlacementDocument, rows: Sequence[PlacementRow], where: str) -> Iterator[str]:
    units = CapacityUnits(int(document.config["block_size"]))
    if rows[0].measured.tables.requests:
        most = max(int(row.measured.tables.runs.max(initial=1)) for row in rows)
        yield capacity_chart(
            f"Requests by runs, {where}",
            CapacityAxis.over([1, max(2, most)]),
            units,
            _series(rows, most, lambda row, at: row.measured.tables.share_within(at)),
            note="The share of requests whose block table, when they end, has at most so many "
            "runs of consecutive ids: a policy is good where its line rises early.",
            whole=True,
            noun="runs",
        )
    if rows[0].measured.free.looks:
        most = max(int(row.measured.free.by_length.size) - 1 for row in rows)
        yield capacity_chart(
            f"Free blocks by the length of their run, {where}",
            CapacityAxis.over([1, max(2, most)]),
            units,
            _series(rows, most, lambda row, at: row.measured.free.share_in_runs_of(at)),
            note="The share of the free blocks, evictable ones included, that lie in runs of at "
            "least so many: what a put or a page of that size could use.",
            whole=True,
        )


def _series(
    rows: Sequence[PlacementRow], most: int, values: Callable[[PlacementRow, I64], F64]
) -> list[Series]:
    """Return a line for each policy over the same places, even on a logarithmic axis."""
    at = np.unique(np.geomspace(1, max(2, most), _DOTS).round().astype(np.int64))
    series = []
    for number, row in enumerate(rows):
        other = number - 1
        look = "bold" if row.name == QUEUE else "dashed" if other >= _OTHERS // 2 else "line"
        color = _QUEUE if row.name == QUEUE else _FIRST_OTHER + other % _OTHERS
        series.append(Series(row.title, color, at, values(row, at), look))
    return series
