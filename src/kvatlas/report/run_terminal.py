"""The report on a run's events in a terminal, laid out for 80 columns: the verdict comes first.

Owns: its look. Leaves to others: what is said (`run_facts`), the charts' lines (`sparkline`) and
the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from kvatlas.report import run_facts
from kvatlas.report.console import LABEL_COLUMNS, bar, bar_columns, heading, two_columns
from kvatlas.report.figure_text import column_title, figure_text, figure_title, is_share
from kvatlas.report.numbers import percent, seconds
from kvatlas.report.plain_text import plain
from kvatlas.report.replay_facts import Fact
from kvatlas.report.run_document import Finding, RunDocument, Table
from kvatlas.report.sparkline import resample, sparkline

__all__ = ["print_findings", "print_run"]

_STYLES = {"plain": "", "unknown": "dim", "alarm": "bold red"}
_TONES = {
    "act": ("DO", "bold yellow"),
    "watch": ("WATCH", "bold cyan"),
    "good": ("OK", "bold green"),
}
_SHOWN_ROWS = 3
_SHOWN_TABLES = 6
_CELL_CHARACTERS = 28
_NAMES = ("request", "row", "session")
"""Columns whose numbers are names."""
_FEWEST_INTERVALS = 2

# Column, label, what is said beside it (the mean, the total, or a figure, for the mean of shares
# over equal times is not the share of the whole), colour.
_COURSES = (
    ("used", "Used", "mean", "blue"),
    ("evictable", "Evictable", "mean", "green"),
    ("empty", "Empty", "mean", "dim"),
    ("hit_rate", "Hit rate", "prefix.token_hit_rate", "blue"),
    ("waste", "Wasted slots", "waste.internal_time_weighted", "yellow"),
    ("running", "Running", "mean", "blue"),
    ("waiting", "Waiting", "mean", "yellow"),
    ("evictions", "Evictions", "total", "green"),
    ("preemptions", "Preemptions", "total", "red"),
    ("failures", "Alloc failures", "total", "red"),
)
_OF_POOL = ("used", "evictable", "empty")


def print_run(console: Console, document: RunDocument, *, rows: int = _SHOWN_ROWS) -> None:
    """Print the whole report; `rows` of each table."""
    blank = Text()
    parts: list[RenderableType] = [blank, *_title(document), blank]
    parts += [*_verdict(document), *_courses(console, document)]
    for section in run_facts.sections(document):
        parts += [heading(section.title, section.remark), two_columns(_rows(section.facts)), blank]
        if section.title == "Prefix cache":
            parts += _misses(console, document)
    for table in list(document.tables.values())[:_SHOWN_TABLES]:
        if table.rows:
            parts += [heading(plain(table.title, 200)), _table(table, rows), blank]
    others = [note for note in document.notes if not run_facts.is_cost_note(note)]
    notes = [("Note", Text(plain(note, 2000))) for note in others]
    if notes:
        parts += [two_columns(notes), blank]
    console.print(Group(*parts))


def print_findings(console: Console, document: RunDocument) -> None:
    """Print the title and the verdict alone."""
    console.print(Group(Text(), *_title(document), Text(), *_verdict(document)))


def _title(document: RunDocument) -> Iterator[Text]:
    warning = run_facts.partial_warning(document)
    if warning:
        yield Text(plain(warning, 2000), style=_STYLES["alarm"])
        yield Text()
    yield Text(plain(document.title, 200), style="bold")
    yield Text(plain(run_facts.subtitle(document), 400), style="dim")


def _verdict(document: RunDocument) -> Iterator[RenderableType]:
    yield heading("Verdict", "what matters most in this run")
    if not document.findings:
        yield Padding(Text("Nothing stands out: no rule found anything to change."), (0, 0, 0, 2))
    for finding in document.findings:
        word, style = _TONES[finding.tone]
        grid = _two(5)
        grid.add_row(Text(word, style=style), Text(plain(finding.title, 400), style="bold"))
        for sentence in finding.evidence:
            grid.add_row(Text(), Text(plain(sentence, 800)))
        answer = _two(8)
        for label, text in _answer(finding):
            answer.add_row(Text(label, style="dim"), text)
        grid.add_row(Text(), answer)
        if finding.effect_note:
            grid.add_row(Text(), Text(plain(finding.effect_note, 800), style="dim"))
        yield Padding(grid, (0, 0, 0, 2), expand=False)
    yield Text()


def _answer(finding: Finding) -> Iterator[tuple[str, Text]]:
    if finding.change is not None:
        yield "Change", Text(plain(finding.change, 200), style="bold")
    effect = finding.effect
    if effect is not None:
        yield "Measured", Text(_moved(effect.figure, effect.before, effect.after))
        for other in effect.others:
            yield "", Text(_moved(*other))
        if effect.command:
            yield "by", Text(plain(effect.command, 400), style="dim")


def _two(columns: int) -> Grid:
    """Return a grid of a label in so many columns, and what wraps beside it."""
    grid = Grid.grid(padding=(0, 2))
    grid.add_column(min_width=columns, max_width=columns)
    grid.add_column(overflow="fold")
    return grid


def _moved(name: str, before: float, after: float) -> str:
    return f"{plain(figure_title(name))} {figure_text(name, before)} -> {figure_text(name, after)}"


def _courses(console: Console, document: RunDocument) -> Iterator[RenderableType]:
    series = document.series
    if series.end_s.size < _FEWEST_INTERVALS:
        return
    columns = max(10, min(60, console.width - LABEL_COLUMNS - 24))
    first, last = float(series.start_s[0]), float(series.end_s[-1])
    pool = sum((series.columns[name] for name in _OF_POOL if name in series.columns), np.zeros(1))
    whole = float(np.nanmax(pool, initial=0.0))
    yield heading(
        "Over time", f"{seconds(first)} to {seconds(last)}; right: in all or on average, highest"
    )
    grid = Grid.grid(padding=(0, 1))
    grid.add_column(min_width=LABEL_COLUMNS - 1, max_width=LABEL_COLUMNS - 1)
    grid.add_column(min_width=columns, max_width=columns, no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for name, label, kind, style in _COURSES:
        values = series.columns.get(name)
        if values is None or not np.isfinite(values).any():
            continue
        total = kind == "total"
        if kind in document.figures.values:
            summary = document.figures[kind]
        elif total:
            summary = float(np.nansum(values))
        else:
            summary = float(resample(series.start_s, series.end_s, values, 1)[0])
        if total and not summary:
            continue
        line = resample(series.start_s, series.end_s, values, columns, total=total)
        share = is_share(name)
        top = whole if name in _OF_POOL else float(np.nanmax(line))
        highest = float(np.nanmax(line if total else values))
        grid.add_row(
            Text(label),
            Text(sparkline(line, top, ascii_only=console.options.ascii_only), style=style),
            Text("" if summary is None else _short(summary, share)),
            Text("" if total else f"max {_short(highest, share)}", style="dim"),
        )
    yield Padding(grid, (0, 0, 0, 2), expand=False)
    yield Text()


def _short(value: float, share: bool) -> str:
    if share:
        return percent(value)
    return f"{value:,.0f}" if value >= 10 or float(value).is_integer() else f"{value:.2g}"


def _misses(console: Console, document: RunDocument) -> Iterator[RenderableType]:
    figures = document.figures.values
    shares = [(figures.get(name), label, what) for name, label, what in run_facts.MISSES]
    missed = figures.get("attribution.missed_tokens")
    if all(share is None for share, _, _ in shares):
        reason = document.figures.unavailable.get(run_facts.MISSES[0][0])
        if reason is not None:
            yield heading("Why tokens were missed")
            yield two_columns([("Not known", Text(reason, style="dim"))])
            yield Text()
        return
    remark = "" if missed is None else f"{missed:,} prompt tokens"
    yield heading("Why tokens were missed", remark)
    rows = []
    for share, label, what in shares:
        if share is not None:
            text = Text(f"{percent(share):>7}  ", style="bold")
            rows.append((label, text + bar(share, bar_columns(console) // 2, "blue")))
            if share:
                rows.append(("", Text(what, style="dim")))
    yield two_columns(rows)
    yield Text()


def _rows(facts: Iterable[Fact]) -> Iterator[tuple[str, Text]]:
    for fact in facts:
        yield fact.label, Text(plain(fact.text, 2000), style=_STYLES[fact.tone])


def _table(table: Table, rows: int) -> Padding:
    grid = Grid(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for at, name in enumerate(table.columns):
        words = any(isinstance(row[at], str) for row in table.rows)
        grid.add_column(
            plain(column_title(name)), justify="left" if words else "right", overflow="fold"
        )
    for row in table.rows[:rows]:
        grid.add_row(*(Text(_cell(*each)) for each in zip(table.columns, row, strict=True)))
    parts: list[RenderableType] = [grid]
    left = len(table.rows) - rows
    if left > 0:
        parts.append(Text(f"and {left:,} more (--json or --csv has them all)", style="dim"))
    if table.note:
        parts.append(Text(plain(table.note, 800), style="dim"))
    return Padding(Group(*parts), (0, 0, 0, 2), expand=False)


def _cell(name: str, value: str | int | float | None) -> str:
    if value is None or value != value:
        return "–"
    if isinstance(value, str):
        # In a column that is about requests the number alone says it, in less room.
        return plain(value.removeprefix("request "), _CELL_CHARACTERS)
    if name in _NAMES:
        return f"{value:.0f}" if value >= 0 else "–"
    return figure_text(name, value)
