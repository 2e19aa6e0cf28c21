"""The terminal that reports are printed on.

Owns: how a console is made, the bar of a share, and the two-column block of facts that all
terminal reports are built from. Colours are the terminal's own, so that they fit its background;
nothing is said by colour alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

__all__ = ["LABEL_COLUMNS", "bar", "bar_columns", "heading", "make_console", "two_columns"]

LABEL_COLUMNS = 16
_BAR_COLUMNS = 44
_EIGHTHS = " ▏▎▍▌▋▊▉"


def make_console(*, stderr: bool = False) -> Console:
    """Return a console on standard output or error, at most 100 columns wide."""
    console = Console(stderr=stderr, highlight=False, emoji=False, markup=False)
    if console.width > 100:
        console.width = 100
    return console


def bar_columns(console: Console) -> int:
    """Return how long a bar beside a label and a percentage may be."""
    return max(10, min(_BAR_COLUMNS, console.width - LABEL_COLUMNS - 16))


def bar(share: float, columns: int, style: str) -> Text:
    """Return a bar of `columns` cells, filled by `share`; any share above 0 shows."""
    eighths = min(8 * columns, max(int(share > 0), round(8 * columns * share)))
    full, rest = divmod(eighths, 8)
    filled = "█" * full + (_EIGHTHS[rest] if rest else "")
    text = Text(filled, style=style)
    text.append("·" * (columns - len(filled)), style="dim")
    return text


def heading(title: str, remark: str = "") -> Text:
    """Return the line above a block of facts."""
    text = Text(title, style="bold")
    if remark:
        text.append(f"  {remark}", style="not bold dim")
    return text


def two_columns(rows: Iterable[tuple[str, Text]]) -> Padding:
    """Return labels and what they stand for; long texts wrap in their own column."""
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=LABEL_COLUMNS, max_width=LABEL_COLUMNS)
    table.add_column(overflow="fold")
    for label, text in rows:
        table.add_row(Text(label), text)
    return Padding(table, (0, 0, 0, 2), expand=False)
