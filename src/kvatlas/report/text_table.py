"""A table of texts, the same in a terminal and on a page.

Owns: its shape and how it looks in either. Leaves to others: what is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from kvatlas.report.console import heading
from kvatlas.report.plain_text import plain

__all__ = ["TextTable", "bare_html_table", "html_table", "terminal_table"]

_LONGEST = 400


@dataclass(frozen=True, slots=True)
class TextTable:
    """Rows of texts under headings.

    Attributes:
        title: above it; remark: beside the title.
        columns: headings; rows: as many texts each.
        words: numbers of the columns that hold words and stand on the left; the others are numbers.
        note: what a reader must know, below it.
        marked: numbers of the rows that stand out.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remark: str = ""
    words: frozenset[int] = frozenset({0})
    note: str = ""
    marked: frozenset[int] = frozenset()


def terminal_table(table: TextTable) -> Iterator[RenderableType]:
    """Yield the lines of a table for a terminal, nothing for one without rows."""
    if not table.rows:
        return
    yield heading(table.title, table.remark)
    grid = Grid(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    # Rich measures a column of width 0 as narrower than it then draws it, and wraps the others.
    filled = [
        at for at, name in enumerate(table.columns) if name or any(row[at] for row in table.rows)
    ]
    for at in filled:
        name, words = table.columns[at], at in table.words
        grid.add_column(
            name, justify="left" if words else "right", no_wrap=not words, overflow="fold"
        )
    for number, row in enumerate(table.rows):
        style = "bold" if number in table.marked else ""
        grid.add_row(*(Text(plain(row[at], _LONGEST), style=style) for at in filled))
    parts: list[RenderableType] = [grid]
    if table.note:
        parts.append(Text(plain(table.note, 4 * _LONGEST), style="dim"))
    yield Padding(Group(*parts), (0, 0, 0, 2), expand=False)


def html_table(table: TextTable) -> Iterator[str]:
    """Yield a section of a page, nothing for a table without rows."""
    if not table.rows:
        return
    remark = f" <small>{escape(table.remark)}</small>" if table.remark else ""
    yield f"<h2>{escape(table.title)}{remark}</h2>"
    if table.note:
        yield f'<p class="sub">{escape(table.note)}</p>'
    yield from bare_html_table(table)


def bare_html_table(table: TextTable) -> Iterator[str]:
    """Yield the table alone, without title and note."""
    classes = [("wrap" if at else "") if at in table.words else "n right"
               for at in range(len(table.columns))]  # fmt: skip
    yield '<div class="scroll"><table class="numbers"><thead><tr>'
    for name, kind in zip(table.columns, classes, strict=True):
        yield f"<th{_class(kind)}>{escape(name)}</th>"
    yield "</tr></thead><tbody>"
    for number, row in enumerate(table.rows):
        yield f"<tr{_class('marked' if number in table.marked else '')}>"
        for cell, kind in zip(row, classes, strict=True):
            yield f"<td{_class(kind)}>{escape(plain(cell, 10 * _LONGEST))}</td>"
        yield "</tr>"
    yield "</tbody></table></div>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
