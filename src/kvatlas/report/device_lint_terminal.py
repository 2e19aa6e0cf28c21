"""The findings about allocator settings in a terminal, laid out for 80 columns.

Owns: its look. Leaves to others: every finding.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.text import Text

from kvatlas.device.conf import Finding
from kvatlas.report.console import heading, two_columns
from kvatlas.report.curve_terminal import terminal_head
from kvatlas.report.device_lint_document import DeviceLintDocument
from kvatlas.report.plain_text import plain

__all__ = ["print_device_lint"]

_NAMES = {"refused": "Refused", "trap": "Trap", "note": "Note"}
_STYLES = {"refused": "bold red", "trap": "yellow", "note": ""}
_WIDEST_TEXT = 76


def print_device_lint(console: Console, document: DeviceLintDocument) -> None:
    """Print the verdict, the text with marks under it, each finding, what PyTorch takes."""
    lint = document.found.lint
    under = document.found.variable or ("no variable is set" if lint is None else "as given")
    parts: list[RenderableType] = [
        Text(),
        *terminal_head("Allocator settings", under, [document.verdict], ""),
        Text(),
    ]
    if lint is not None and lint.text:
        parts += [*_marked(lint.text, document.findings), Text()]
    for each in document.findings:
        parts += [*_finding(each), Text()]
    if lint is not None and lint.values:
        rows = [(key, Text(plain(_value(value), 200))) for key, value in lint.values.items()]
        parts += [heading("What PyTorch takes"), *_wide(rows), Text()]
    console.print(Group(*parts))


def _marked(text: str, findings: tuple[Finding, ...]) -> Iterator[Text]:
    """Yield the text, and below it a caret under each place that a finding is about."""
    columns = sorted({each.column for each in findings if each.column is not None})
    shown = "".join(character if character.isprintable() else " " for character in text)
    for start in range(0, len(shown), _WIDEST_TEXT):
        yield Text(f"  {shown[start : start + _WIDEST_TEXT]}")
        here = [at - 1 - start for at in columns if 0 <= at - 1 - start < _WIDEST_TEXT]
        if here:
            marks = "".join("^" if at in here else " " for at in range(here[-1] + 1))
            yield Text(f"  {marks}", style="yellow")


def _finding(each: Finding) -> Iterator[RenderableType]:
    place = "" if each.column is None else f"column {each.column}"
    label = Text(_NAMES[each.level], style=_STYLES[each.level] or "bold")
    yield label.append(f"  {place}", style="not bold dim") if place else label
    said = (("What", each.what), ("Consequence", each.consequence), ("Remedy", each.remedy))
    yield two_columns((name, Text(plain(text, 600))) for name, text in said)


def _wide(rows: list[tuple[str, Text]]) -> Iterator[Text]:
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        yield Text(f"  {name:<{width}}  ").append(text)


def _value(value: object) -> str:
    if isinstance(value, tuple):
        if len(set(value)) == 1:
            return f"{value[0]} for every size"
        return "1 MiB, 2 MiB, ... 32 GiB: " + " ".join(map(str, value))
    return str(value)
