"""An explanation of an out-of-memory error in a terminal: why it came, and what to change, first.

Owns: its look. Leaves to others: tables (`oom_tables`), every figure and sentence.
"""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kvatlas.report.console import heading, two_columns
from kvatlas.report.curve_terminal import terminal_head, terminal_notes
from kvatlas.report.oom_document import OomDocument
from kvatlas.report.oom_tables import (
    failures_table,
    holders_table,
    ladder_table,
    oom_facts,
    pinning_table,
    pools_table,
    remedy_words,
    segments_table,
    settings_table,
    under,
)
from kvatlas.report.plain_text import plain
from kvatlas.report.text_table import terminal_table

__all__ = ["print_oom"]


def print_oom(console: Console, document: OomDocument) -> None:
    """Print the whole report."""
    verdict = document.verdict
    blank = Text()
    parts: list[RenderableType] = [
        blank,
        *terminal_head(verdict.title, under(document), [verdict.line], ""),
        blank,
    ]
    reasons = list(verdict.reasons)
    if document.log_verdict is not None and document.log_verdict is not verdict:
        reasons += [f"By the log alone: {document.log_verdict.line}"]
    if reasons:
        parts += [heading("Why")]
        parts += [Padding(Text(plain(reason, 600)), (0, 0, 0, 2)) for reason in reasons]
        parts.append(blank)
    if verdict.remedies:
        parts += [heading("What to change", "the best first"), _remedies(document), blank]
    tables = [ladder_table(verdict), failures_table(document)]
    scene = None if document.snapshot is None else document.snapshot.scene
    stacks = dict(document.stacks)
    if scene is not None:
        if scene.stuck_bytes:
            tables += [pinning_table(scene, stacks), segments_table(scene, stacks)]
        tables += [holders_table(scene, stacks), pools_table(scene)]
    tables.append(settings_table(document))
    for table in tables:
        if table.rows:
            parts += [*terminal_table(table), blank]
    facts = [(label, Text(plain(text, 600))) for label, text in oom_facts(document)]
    parts += [heading("Facts"), two_columns(facts), blank]
    parts += terminal_notes((*verdict.notes, *verdict.unverified))
    console.print(Group(*parts))


def _remedies(document: OomDocument) -> Padding:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for number, remedy in enumerate(document.verdict.remedies, 1):
        text = Text()
        if remedy.setting:
            text.append(plain(remedy.setting, 300), style="bold")
            text.append("\n")
        text.append(plain(remedy.text, 600))
        text.append(f"  [{remedy_words(remedy)}]", style="dim")
        grid.add_row(Text(f"{number}"), text)
    return Padding(grid, (0, 0, 0, 2), expand=False)
