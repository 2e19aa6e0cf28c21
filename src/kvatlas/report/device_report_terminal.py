"""The report on a snapshot in a terminal, laid out for 80 columns: what is stuck comes first.

Owns: its look. Leaves to others: what is said (`device_report_words`), every figure.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.text import Text

from kvatlas.report.console import LABEL_COLUMNS, heading, two_columns
from kvatlas.report.curve_terminal import terminal_notes
from kvatlas.report.device_report_document import DeviceReportDocument
from kvatlas.report.device_report_words import (
    facts,
    holders_table,
    notes,
    pinners_table,
    sentences,
    warning,
)
from kvatlas.report.device_words import subtitle
from kvatlas.report.plain_text import plain
from kvatlas.report.sparkline import sparkline
from kvatlas.report.text_table import terminal_table
from kvatlas.units import format_bytes

__all__ = ["print_device_report"]

_STYLES = {"reserved": "dim", "allocated": "blue", "stuck": "yellow"}


def print_device_report(console: Console, document: DeviceReportDocument) -> None:
    """Print the whole report."""
    blank = Text()
    parts: list[RenderableType] = [blank]
    if warning(document):
        parts += [Text(plain(warning(document), 400), style="bold red"), blank]
    parts += [
        Text(plain(document.path, 200), style="bold"),
        Text(plain(subtitle(document.found.recorded, document.settings), 400), style="dim"),
        blank,
    ]
    said = [Text(plain(text, 1000)) for text in sentences(document)]
    parts += [two_columns(("" if at else "Verdict", text) for at, text in enumerate(said)), blank]
    parts += [heading("Over the events", "each series up to the peak of reserved bytes")]
    parts += [two_columns(_courses(console, document)), blank]
    for table in (pinners_table(document), holders_table(document)):
        if table.rows:
            parts += [*terminal_table(table), blank]
    rows = ((label, Text(plain(text, 2000))) for label, text in facts(document))
    parts += [heading("Facts"), two_columns(rows), blank]
    parts += terminal_notes(notes(document))
    console.print(Group(*parts))


def _courses(console: Console, document: DeviceReportDocument) -> Iterator[tuple[str, Text]]:
    """Yield the series as lines of characters, thinned to the terminal's width."""
    peaks = {peak.name: peak.nbytes for peak in document.found.peaks}
    columns = max(20, min(60, console.width - LABEL_COLUMNS - 16))
    for name, style in _STYLES.items():
        values = np.array(document.courses[name])
        groups = np.array_split(values, min(columns, max(1, values.size)))
        thinned = np.array([float(group.max()) for group in groups if group.size])
        line = sparkline(thinned, float(peaks["reserved"]), ascii_only=console.options.ascii_only)
        text = Text(line, style=style)
        text.append(f"  {format_bytes(peaks[name])}", style="default")
        yield name.capitalize(), text
