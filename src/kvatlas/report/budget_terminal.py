"""A budget in a terminal, laid out for 80 columns: whether it fits comes first.

Owns: its look. Leaves to others: tables (`budget_tables`), every figure.
"""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from kvatlas.report.budget_buffers import budget_notes, load_table
from kvatlas.report.budget_document import BudgetDocument
from kvatlas.report.budget_tables import (
    budget_facts,
    budget_subtitle,
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
    sentences = [document.verdict.line]
    if document.verdict.remedy:
        sentences.append(document.verdict.remedy)
    parts: list[RenderableType] = [
        blank,
        *terminal_head(found.name, budget_subtitle(found), sentences, ""),
        blank,
    ]
    tables = [waterfall_table(found), stages_table(found)]
    if document.log is not None:
        tables.append(log_table(document.log))
    if document.load is not None:
        tables.append(load_table(document.load))
    tables += [groups_table(found), lengths_table(document), flags_table(document)]
    for table in tables:
        if table.rows:
            parts += [*terminal_table(table), blank]
    facts = [(label, Text(plain(text, 2000))) for label, text in budget_facts(document)]
    parts += [heading("Facts"), two_columns(facts), blank]
    parts += terminal_notes(budget_notes(document))
    console.print(Group(*parts))
