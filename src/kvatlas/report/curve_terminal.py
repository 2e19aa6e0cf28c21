"""The report on capacity in a terminal, laid out for 80 columns: what to do comes first.

Owns: its look. Leaves to others: sentences (`curve_facts`), tables (`curve_tables`), the picture
(`terminal_plot`), every figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from kvatlas.report.capacity_axis import CapacityAxis
from kvatlas.report.console import bar, bar_columns, heading, two_columns
from kvatlas.report.curve_document import Bounds, CurveDocument
from kvatlas.report.curve_facts import (
    bounds_rows,
    curve_facts,
    misses_at,
    partial_line,
    subtitle,
)
from kvatlas.report.curve_tables import (
    advice_table,
    curve_table,
    engine_table,
    named_capacities,
    tier_table,
    units_of,
)
from kvatlas.report.numbers import percent
from kvatlas.report.plain_text import plain
from kvatlas.report.replay_facts import Fact
from kvatlas.report.terminal_plot import PlotLine, plot, plot_legend
from kvatlas.report.text_table import terminal_table

__all__ = ["capacity_plot", "print_curve", "terminal_head", "terminal_notes"]

_PLOT_ROWS = 14
_PLOT_COLUMNS = 92
_SHOWN_ROWS = 8
_BAR_COLUMNS = 14
_STYLES = {"plain": "", "unknown": "dim", "alarm": "bold red"}
_BOUND_STYLES = {"content": "dim", "ceiling": "dim", "optimum": "green", "lru": "blue",
                 "engine": "yellow"}  # fmt: skip
_MISS_STYLES = {"hit": "blue", "policy": "green", "capacity": "yellow", "granularity": "magenta",
                "cold": "dim"}  # fmt: skip


def print_curve(console: Console, document: CurveDocument) -> None:
    """Print the whole report."""
    blank = Text()
    parts: list[RenderableType] = [
        blank,
        *terminal_head(
            document.title,
            subtitle(document.workload, document.config),
            document.headline,
            document.partial,
        ),
        blank,
    ]
    if document.ceiling.hit_tokens:
        parts += [*_picture(console, document), blank]
        parts += [*terminal_table(curve_table(document, _SHOWN_ROWS)), blank]
    parts += [*_bounds(console, document), blank]
    for table in (tier_table(document), engine_table(document), advice_table(document)):
        if table.rows:
            parts += [*terminal_table(table), blank]
    parts += [heading("Facts"), two_columns(_rows(curve_facts(document))), blank]
    parts += terminal_notes(document.notes)
    console.print(Group(*parts))


def terminal_head(
    title: str, under: str, sentences: Iterable[str], partial: str
) -> Iterator[RenderableType]:
    """Yield title, subtitle and what to read first."""
    if partial:
        yield Text(plain(partial_line(partial), 400), style=_STYLES["alarm"])
        yield Text()
    yield Text(plain(title, 200), style="bold")
    yield Text(plain(under, 400), style="dim")
    yield Text()
    for number, sentence in enumerate(sentences):
        yield Padding(
            Text(plain(sentence, 1000), style="" if number else "bold"), (0, 0, 0, 2), expand=False
        )


def terminal_notes(notes: Iterable[str]) -> list[RenderableType]:
    """Return the notes, and a blank line after them."""
    rows = [("Note", Text(plain(note, 2000))) for note in notes]
    return [two_columns(rows), Text()] if rows else []


def capacity_plot(
    console: Console,
    lines: list[PlotLine],
    axis: CapacityAxis,
    uprights: list[tuple[str, int]],
    *,
    what: str = "Token hit rate",
) -> Iterator[RenderableType]:
    """Yield heading, legend and picture of hit rates over capacity."""
    ascii_only = console.options.ascii_only
    scale = "logarithmic" if axis.log else "linear"
    yield heading(f"{what} over capacity", f"blocks, {scale}")
    yield Padding(plot_legend(lines, ascii_only=ascii_only), (0, 0, 0, 2), expand=False)
    yield Text()
    columns = min(_PLOT_COLUMNS, console.width - 2)
    for row in plot(lines, axis, columns, _PLOT_ROWS, uprights=uprights, ascii_only=ascii_only):
        yield Padding(row, (0, 0, 0, 2), expand=False)


def _picture(console: Console, document: CurveDocument) -> Iterator[RenderableType]:
    table = document.table
    queried = max(1, table.queried_tokens)
    blocks = table.capacity_blocks
    lru = table.hit_tokens / queried
    ceiling = np.full(blocks.size, document.ceiling.hit_tokens / queried)
    lines = [
        PlotLine("ceiling", "dim", "dashed", blocks, ceiling),
        PlotLine("optimum", "green", "dotted", blocks, lru + table.policy_tokens / queried),
        PlotLine("LRU", "bold blue", "solid", blocks, lru),
    ]
    if document.engine_rates:
        at = np.array(list(document.engine_rates), np.int64)
        rates = np.array(list(document.engine_rates.values()))
        lines.append(PlotLine("the engine", "yellow", "points", at, rates))
    named = [(name, capacity) for capacity, name in named_capacities(document).items()]
    axis = CapacityAxis.over([*blocks.tolist(), *(capacity for _, capacity in named)])
    yield from capacity_plot(console, lines, axis, named)


def _bounds(console: Console, document: CurveDocument) -> Iterator[RenderableType]:
    bounds = document.knee if document.focus is None else document.focus
    where = "at the knee" if document.focus is None else f"at {document.focus_name}"
    columns = min(_BAR_COLUMNS, bar_columns(console))
    size = units_of(document).words(bounds.capacity_blocks)
    yield heading(f"Four bounds {where}" if bounds.engine is None else f"Bounds {where}", size)
    rows = [
        (name, _share(value, columns, _BOUND_STYLES[key], meaning))
        for key, name, value, meaning in bounds_rows(bounds)
    ]
    rows.append(("Bottleneck", Text(plain(_bottleneck(bounds), 800), style="bold")))
    yield two_columns(rows)
    yield Text()
    yield heading(f"Where prompt tokens go {where}")
    yield two_columns(
        (name.capitalize(), _share(value, columns, _MISS_STYLES[name], meaning))
        for name, meaning, value in misses_at(bounds)
    )


def _bottleneck(bounds: Bounds) -> str:
    return f"{bounds.bottleneck}: {bounds.reason}"


def _share(value: float, columns: int, style: str, meaning: str) -> Text:
    text = Text(f"{percent(value):>7}  ", style="bold")
    text += bar(value, columns, style)
    return text.append(f"  {meaning}", style="not bold dim")


def _rows(facts: Iterable[Fact]) -> Iterator[tuple[str, Text]]:
    for fact in facts:
        yield fact.label, Text(plain(fact.text, 2000), style=_STYLES[fact.tone])
