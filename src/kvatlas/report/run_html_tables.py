"""Histograms and tables of a run's page.

Owns: their HTML. Leaves to others: their order (`run_html`), every figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np

from kvatlas.report.figure_text import column_title, figure_text
from kvatlas.report.numbers import count, percent
from kvatlas.report.plain_text import plain
from kvatlas.report.run_document import Histogram, RunDocument, Table

__all__ = ["histograms", "tables"]

_END = ("", ' class="end"')
_SHOWN_ROWS = 6
_SHORT = 24  # characters that stay on one line
_ABOUT = {
    "free_runs": "How long the stretches of free neighbouring blocks are. Equal blocks serve "
    "wherever they lie, so short runs refuse nothing; they cost transfers and huge pages.",
    "runs_per_request": "In how many pieces a request's blocks lie. No cost in the pool itself; "
    "each piece is one descriptor when blocks are moved or offloaded.",
    "lifetime": "From allocation to eviction. Worry when most lives are shorter than the gaps "
    "between uses.",
    "idle": "From the last use to eviction: how long content waits in vain.",
    "reuse_gap": "From one use to the next. Lives must be longer than this for a hit.",
}


def histograms(document: RunDocument) -> Iterator[str]:
    """Yield the distributions."""
    shown = {n: h for n, h in document.histograms.items() if np.nansum(h.counts) > 0}
    if shown:
        yield '<section id="distributions"><h2>Distributions</h2><p class="sub">How lives and '
        yield "stretches of blocks are spread: a mean hides the tails. Point at a bar for its "
        yield 'numbers.</p><div class="charts">'
        for name, histogram in shown.items():
            yield _histogram(histogram, _ABOUT.get(name, ""))
        yield "</div></section>"


def _histogram(histogram: Histogram, about: str) -> str:
    counts = np.nan_to_num(histogram.counts)
    kept = np.flatnonzero(counts)
    first, last = int(kept[0]), int(kept[-1]) + 1
    edges, counts = histogram.edges[first : last + 1].tolist(), counts[first:last]
    total, top = float(counts.sum()), float(counts.max())
    unit = histogram.unit
    said = [_bin(low, high, unit) for low, high in pairwise(edges)]
    bars = "".join(
        f'<i style="height:{100 * value / top:.2f}%" title="{escape(text)}: {count(value)} '
        f'({percent(value / total)})"></i>'
        for value, text in zip(counts.tolist(), said, strict=True)
    )
    every = max(1, -(-len(edges) // 7))
    labels = "".join(
        f'<span style="left:{100 * at / (len(edges) - 1):.2f}%"{_END[at == len(edges) - 1]}>'
        f"{escape(_edge(edges[at], unit))}</span>"
        for at in range(0, len(edges), every)
    )
    rows = "".join(
        f'<tr><td>{escape(text)}</td><td class="n">{count(value)}</td>'
        f'<td class="n">{percent(value / total)}</td></tr>'
        for value, text in zip(counts.tolist(), said, strict=True)
    )
    note = " ".join(_sentence(text) for text in (about, histogram.note) if text)
    return (
        f'<figure class="bars"><figcaption>{escape(histogram.title)}</figcaption>'
        f'<p class="note">{escape(note)}</p>'
        f'<div class="bins" role="img" aria-label="{escape(histogram.title)}: the table below has '
        f'the numbers"><em>highest: {count(top)} ({percent(top / total)})</em>{bars}</div>'
        f'<div class="edges">{labels}</div>'
        f"<details><summary>As a table</summary><table><thead><tr><th>{escape(unit)}</th>"
        f"<th>count</th><th>share</th></tr></thead><tbody>{rows}</tbody></table></details></figure>"
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _bin(low: float, high: float, unit: str) -> str:
    if unit != "s" and high <= low + 1:
        return f"{_edge(low, unit)} {unit}"
    return f"{_edge(low, unit)} to {_edge(high, unit)}" + ("" if unit == "s" else f" {unit}")


def _edge(edge: float, unit: str) -> str:
    if not np.isfinite(edge):
        return "more"
    return figure_text("edge_s", edge) if unit == "s" else count(edge)


def tables(document: RunDocument) -> Iterator[str]:
    """Yield the top requests, prefixes, sessions, failures."""
    shown = [table for table in document.tables.values() if table.rows]
    if shown:
        yield '<section id="tables"><h2>Who</h2><p class="sub">The requests, sessions and prefixes '
        yield "behind the figures: where to look first when something is wrong.</p>"
        yield '<div class="tables">'
        for table in shown:
            yield _table(table)
        yield "</div></section>"


def _table(table: Table) -> str:
    number = [
        all(isinstance(row[at], int | float) or row[at] is None for row in table.rows)
        for at in range(len(table.columns))
    ]
    head = "".join(
        f"<th{_right(right)}>{escape(column_title(name))}</th>"
        for name, right in zip(table.columns, number, strict=True)
    )
    rows = [
        "".join(
            f"<td{_right(right)}>{_held(_cell(name, cell))}</td>"
            for name, cell, right in zip(table.columns, row, number, strict=True)
        )
        for row in table.rows
    ]
    first = "".join(f"<tr>{row}</tr>" for row in rows[:_SHOWN_ROWS])
    rest = "".join(f"<tr>{row}</tr>" for row in rows[_SHOWN_ROWS:])
    more = ""
    if rest:
        more = (
            f"<details><summary>{len(rows) - _SHOWN_ROWS} more</summary><table><thead><tr>{head}"
            f"</tr></thead><tbody>{rest}</tbody></table></details>"
        )
    note = f'<p class="note">{escape(_sentence(table.note))}</p>' if table.note else ""
    return (
        f"<div><h3>{escape(table.title)}</h3>{note}<table><thead><tr>{head}</tr></thead>"
        f"<tbody>{first}</tbody></table>{more}</div>"
    )


def _held(text: str) -> str:
    said = escape(text)
    return f'<span class="held">{said}</span>' if len(text) <= _SHORT else said


def _right(right: bool) -> str:
    return ' class="n right"' if right else ""


def _cell(name: str, cell: Any) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, bool | str):
        return plain(cell)
    if isinstance(cell, float) and not np.isfinite(cell):
        return "–"
    return str(cell) if name in ("request", "session") else figure_text(name, cell)
