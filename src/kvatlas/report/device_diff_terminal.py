"""The comparison of two snapshots in a terminal, laid out for 80 columns: the gate comes first.

Owns: its words and its look. Leaves to others: what changed.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.text import Text

from kvatlas.device.diff import Change
from kvatlas.device.gate import Outcome
from kvatlas.report.console import heading
from kvatlas.report.curve_terminal import terminal_notes
from kvatlas.report.device_diff_document import DeviceDiffDocument
from kvatlas.report.device_words import settings_name, subtitle, unverified_note
from kvatlas.report.numbers import count, percent
from kvatlas.report.plain_text import plain
from kvatlas.report.text_table import TextTable, terminal_table
from kvatlas.units import format_bytes

__all__ = ["print_device_diff"]

_TITLES = {
    "allocated": "allocated", "active": "active", "reserved": "reserved", "stuck": "stuck",
    "idle": "idle in private pools",
    "allocs": "allocations", "driver_calls": "calls of the driver", "ooms": "out of memory",
}  # fmt: skip
_COUNTS = ("allocs", "driver_calls", "ooms")
_SHOWN_STACKS = 10


def print_device_diff(console: Console, document: DeviceDiffDocument) -> None:
    """Print the whole comparison."""
    parts: list[RenderableType] = [Text(), *_title(document), Text()]
    if document.outcomes:
        parts += [*_gate(document.outcomes), Text()]
    for table in (_peaks(document), _survivals(document), _counts(document), _stacks(document)):
        if table.rows:
            parts += [*terminal_table(table), Text()]
    parts += terminal_notes(tuple(_notes(document)))
    console.print(Group(*parts))


def _title(document: DeviceDiffDocument) -> Iterator[Text]:
    sides = (document.found.before, document.found.after)
    for mark, path, side in zip("AB", document.paths, sides, strict=True):
        yield Text(f"{mark}  ", style="bold").append(plain(path, 200))
        yield Text(f"   {plain(subtitle(side.replay, side.settings), 400)}", style="dim")


def _gate(outcomes: tuple[Outcome, ...]) -> Iterator[RenderableType]:
    failed = sum(each.met for each in outcomes)
    remark = "none holds" if not failed else f"{failed} of {len(outcomes)} hold: exit code 1"
    yield heading("Conditions to fail on", remark)
    for each in outcomes:
        figure = each.figure
        is_count = figure.name in _COUNTS
        word, style = ("FAILED", "bold red") if each.met else ("passed", "green")
        line = Text("  ").append(word, style=style).append(f"  {plain(each.condition.text)}: ")
        line.append(
            f"{_value(figure.before, is_count)} to {_value(figure.after, is_count)}"
            f" ({_moved(figure)})"
        )
        yield line


def _peaks(document: DeviceDiffDocument) -> TextTable:
    rows = [each for each in document.found.figures if each.name not in _COUNTS]
    return TextTable(
        title="Peaks, as recorded",
        columns=("", "A", "B", "change", ""),
        rows=tuple(_row(_TITLES[each.name], each) for each in rows if each.before or each.after),
    )


def _survivals(document: DeviceDiffDocument) -> TextTable:
    own, *tried = document.found.survivals
    rows = [_row("the recorded settings", own)]
    same = document.found.before.settings == document.found.after.settings
    skipped = document.found.before.settings.text() if same else None
    rows += [_row(settings_name(each.name), each) for each in tried if each.name != skipped]
    return TextTable(
        title="Memory needed",
        remark="the smallest in which the requests pass, to 2 MiB",
        columns=("", "A", "B", "change", ""),
        rows=tuple(rows),
        marked=frozenset({0}),
    )


def _counts(document: DeviceDiffDocument) -> TextTable:
    rows = [each for each in document.found.figures if each.name in _COUNTS and each.change]
    return TextTable(
        title="Counts",
        columns=("", "A", "B", "change", ""),
        rows=tuple(
            (
                _TITLES[each.name],
                count(each.before),
                count(each.after),
                f"{each.change:+,}",
                _share(each),
            )
            for each in rows
        ),
    )


def _stacks(document: DeviceDiffDocument) -> TextTable:
    shown = document.found.stacks[:_SHOWN_STACKS]
    left = len(document.found.stacks) - len(shown)
    more = f"{count(left)} more changed by less; " if left else ""
    return TextTable(
        title="Who holds more, who less",
        remark="live blocks at the peak of allocated bytes, by stack",
        columns=("change", "A", "B", "stack: what was asked for, and by whom"),
        rows=tuple(
            (
                _signed(each.change),
                format_bytes(each.before),
                format_bytes(each.after),
                each.label,
            )
            for each in shown
        ),
        words=frozenset({3}),
        note=f"{more}as much as before hold {count(document.found.stacks_same)}. Stacks are "
        "the same where their functions and files are, whatever the lines.",
    )


def _notes(document: DeviceDiffDocument) -> Iterator[str]:
    found = document.found
    if found.before.settings != found.after.settings:
        yield (
            f"the settings differ: {settings_name(found.before.settings.text())}, then "
            f"{settings_name(found.after.settings.text())}"
        )
    for mark, side in (("A", found.before), ("B", found.after)):
        if not side.replay.identical:
            yield (
                f"the twin does not replay {mark} to the byte ({count(side.replay.differences)} "
                "differences): take its figures as estimates"
            )
    yield from unverified_note(document.unverified)


def _row(title: str, each: Change) -> tuple[str, ...]:
    return (
        title,
        format_bytes(each.before),
        format_bytes(each.after),
        _signed(each.change) if each.change else "",
        _share(each),
    )


def _signed(size: int) -> str:
    return f"+{format_bytes(size)}" if size > 0 else format_bytes(size)


def _value(value: int, is_count: bool) -> str:
    return count(value) if is_count else format_bytes(value)


def _moved(each: Change) -> str:
    if not each.change:
        return "no change"
    return _share(each) or "there was none"


def _share(each: Change) -> str:
    if not each.change or each.relative is None:
        return ""
    return f"{'+' if each.change > 0 else '-'}{percent(abs(each.relative))}"
