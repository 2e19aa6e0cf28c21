"""A budget in a terminal, laid out for 80 columns: whether it fits comes first.

Owns: its look. Leaves to others: tables (`budget_tables`), every figure.
"""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from kvatlas.report.budget_document import BudgetDocument
from kvatlas.report.budget_tables import (
    budget_facts,
    flags_table,
    groups_table,
    lengths_table,
    log_table,
    stages_table,
    waterfall_table,
)
from kvatlas.report.console import heading, two_columns
from kvatlas.report.curve_terminal import terminal_head, terminal_notes
from kvatlas.report.plain_text import plain
from kvatlas.report.text_table import terminal_table

__all__ = ["print_budget"]


def print_budget(console: Console, document: BudgetDocument) -> None:
    """Print the whole report."""
    found = document.found
    blank = Text()
    parallel = found.request.parallel
    spread = [
        f"{name} {size}"
        for name, size in (("TP", parallel.tp), ("PP", parallel.pp), ("DP", parallel.dp))
        if size > 1
    ]
    under = " · ".join(
        (
            f"{parallel.devices} × {found.request.device.title}",
            *spread,
            f"steps of {found.max_num_batched_tokens:,} tokens, {found.max_num_seqs:,} requests",
        )
    )
    sentences = [document.verdict.line]
    if document.verdict.remedy:
        sentences.append(document.verdict.remedy)
    parts: list[RenderableType] = [blank, *terminal_head(found.name, under, sentences, ""), blank]
    tables = [waterfall_table(found), stages_table(found)]
    if document.log is not None:
        tables.append(log_table(document.log))
    tables += [groups_table(found), lengths_table(document), flags_table(document)]
    for table in tables:
        if table.rows:
            parts += [*terminal_table(table), blank]
    facts = [(label, Text(plain(text, 2000))) for label, text in budget_facts(document)]
    parts += [heading("Facts"), two_columns(facts), blank]
    notes = (document.log.notes if document.log else ()) + found.notes
    parts += terminal_notes(notes)
    console.print(Group(*parts))
