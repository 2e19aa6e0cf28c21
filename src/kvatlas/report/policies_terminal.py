"""The comparison of eviction policies in a terminal, laid out for 80 columns: the verdict first.

Owns: its look. Leaves to others: tables (`policies_tables`), the picture (`terminal_plot`), every
figure.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.text import Text

from kvatlas.report.capacity_axis import CapacityAxis
from kvatlas.report.console import heading, two_columns
from kvatlas.report.curve_document import PoliciesDocument, PolicyRow
from kvatlas.report.curve_facts import rule_words, subtitle, timing_fact
from kvatlas.report.curve_terminal import capacity_plot, terminal_head, terminal_notes
from kvatlas.report.policies_tables import (
    about_table,
    by_capacity_table,
    focus_index,
    focus_table,
    policies_engine_table,
)
from kvatlas.report.terminal_plot import PlotLine
from kvatlas.report.text_table import terminal_table

__all__ = ["print_policies"]

_MOST_CAPACITIES = 6


def print_policies(console: Console, document: PoliciesDocument) -> None:
    """Print the whole report."""
    blank = Text()
    parts: list[RenderableType] = [
        blank,
        *terminal_head(
            document.title,
            subtitle(document.workload, document.config),
            document.verdict,
            document.partial,
        ),
        blank,
    ]
    if any(row.hit_blocks.any() for row in document.rows):
        if document.capacity_blocks.size > 1:
            parts += [*_picture(console, document), blank]
        parts += [*terminal_table(focus_table(document)), blank]
        if document.capacity_blocks.size > 1:
            parts += [*terminal_table(by_capacity_table(document, _MOST_CAPACITIES)), blank]
    if document.engine:
        parts += [*terminal_table(policies_engine_table(document)), blank]
    parts += [*_about(document), blank]
    facts = [
        ("Counted", Text(rule_words(document.config))),
        ("Our time", Text(timing_fact(document.timing).text)),
    ]
    parts += [heading("Facts"), two_columns(facts), blank, *terminal_notes(document.notes)]
    console.print(Group(*parts))


def _about(document: PoliciesDocument) -> Iterator[RenderableType]:
    table = about_table(document)
    yield heading(table.title, table.remark)
    yield two_columns((row[0], Text(row[1])) for row in table.rows)


def _picture(console: Console, document: PoliciesDocument) -> Iterator[RenderableType]:
    rows = {row.name: row for row in document.rows}
    at = focus_index(document)
    others = [row for row in document.rows if row.kind == "policy" and row.name != "lru"]
    lines = []
    if "ceiling" in rows:
        lines.append(_line(document, rows["ceiling"], "dim", "dashed"))
    if "optimum" in rows:
        lines.append(_line(document, rows["optimum"], "green", "dotted"))
    if "lru" in rows:
        lines.append(_line(document, rows["lru"], "bold blue", "solid"))
    if others:
        best = max(others, key=lambda row: int(row.hit_blocks[at]))
        lines.append(_line(document, best, "yellow", "points"))
    axis = CapacityAxis.over(document.capacity_blocks)
    named = [("knee", document.knee_blocks)]
    asked = document.config.get("blocks")
    if asked and asked != document.knee_blocks:
        named.insert(0, ("--blocks", int(asked)))
    yield from capacity_plot(console, lines, axis, named, what="Block hit rate")


def _line(document: PoliciesDocument, row: PolicyRow, style: str, texture: str) -> PlotLine:
    rates = np.asarray(row.hit_blocks / max(1, document.queried_blocks), np.float64)
    name = row.title if row.kind == "policy" else row.name
    return PlotLine(name, style, texture, document.capacity_blocks, rates)
