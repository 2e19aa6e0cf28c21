"""The comparison of placement policies in a terminal, laid out for 80 columns: the verdict first.

Owns: its look. Leaves to others: tables (`placement_tables`), every figure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from kvatlas.report.console import bar, bar_columns, heading, two_columns
from kvatlas.report.curve_facts import subtitle, timing_fact
from kvatlas.report.curve_terminal import terminal_head, terminal_notes
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
from kvatlas.report.text_table import terminal_table

__all__ = ["print_placement"]


def print_placement(console: Console, document: PlacementDocument) -> None:
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
    cut = document.config.get("copy_blocks")
    for rows, where in ((document.open_loop, OPEN_LOOP), (document.scheduler, SCHEDULER)):
        if not rows:
            continue
        parts += [*_picture(console, rows, where), blank]
        for table in (runs_table(rows, where), copies_table(rows, where, cut),
                      free_table(rows, where)):  # fmt: skip
            if table.rows:
                parts += [*terminal_table(table), blank]
    parts += [*_about(document), blank]
    facts = [
        *((fact.label, Text(fact.text)) for fact in served_facts(document)),
        ("Our time", Text(timing_fact(document.timing).text)),
    ]
    parts += [heading("Facts"), two_columns(facts), blank, *terminal_notes(document.notes)]
    console.print(Group(*parts))


def _picture(
    console: Console, rows: Sequence[PlacementRow], where: str
) -> Iterator[RenderableType]:
    """Yield runs per request as bars on a logarithmic scale."""
    most = max((row.runs_per_request for row in rows), default=math.nan)
    if len(rows) < 2 or not most > 1:
        return
    yield heading("Runs per request", f"{where}; logarithmic")
    columns = bar_columns(console)
    bars = []
    for row in rows:
        share = math.log(max(1.0, row.runs_per_request)) / math.log(most)
        text = Text(f"{mean(row.runs_per_request):>7}  ", style="bold")
        text += bar(share, columns, "blue" if row.name == QUEUE else "green")
        bars.append((row.title, text))
    yield two_columns(bars)


def _about(document: PlacementDocument) -> Iterator[RenderableType]:
    table = about_placements(document)
    if table.rows:
        yield heading(table.title, table.remark)
        yield two_columns((row[0], Text(row[1])) for row in table.rows)
