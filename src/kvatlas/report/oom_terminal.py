"""An explanation of an out-of-memory error in a terminal: why it came, and what to change, first.

Owns: its look. Leaves to others: tables (`oom_tables`), every figure and sentence.
"""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
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
    remedies_table,
    segments_table,
    settings_table,
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
        *terminal_head(verdict.title, "", [verdict.line, *_remedy(document)], ""),
        blank,
    ]
    reasons = list(verdict.reasons)
    if document.log_verdict is not None and document.log_verdict is not verdict:
        reasons += [f"By the log alone: {document.log_verdict.line}"]
    if reasons:
        parts += [heading("Why")]
        parts += [Text(f"  {plain(reason, 600)}") for reason in reasons]
        parts.append(blank)
    tables = [remedies_table(verdict), ladder_table(verdict), failures_table(document)]
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


def _remedy(document: OomDocument) -> list[str]:
    remedy = document.verdict.remedy
    if remedy is None:
        return []
    return [f"{remedy.setting}: {remedy.text}" if remedy.setting else remedy.text]
