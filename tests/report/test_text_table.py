"""A table of texts in a terminal and on a page."""

from __future__ import annotations

import io

from rich.console import Console

from kvatlas.report.text_table import TextTable, bare_html_table, terminal_table


def test_an_empty_column_does_not_wrap_the_others() -> None:
    """The last column of a comparison is empty where nothing changed."""
    table = TextTable("Peaks", ("", "A", "change", ""), (("allocated", "9 MiB", "", ""),))
    out = io.StringIO()
    Console(file=out, width=80).print(*terminal_table(table))
    assert "allocated  9 MiB" in out.getvalue()


def test_a_cell_can_neither_be_markup_nor_turn_the_line_around() -> None:
    table = TextTable("T", ("name",), (("<b>\u202eevil\x1b[31m",),))
    assert "&lt;b&gt;\\u202eevil\\x1b[31m<" in "".join(bare_html_table(table))
