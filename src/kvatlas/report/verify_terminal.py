"""`kvatlas verify` in a terminal: one line where all is identical, else the first difference.

Owns: its look, for 80 columns. Leaves to others: what was found (`verify_document`).
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kvatlas.engine.verifying import Divergence
from kvatlas.report.console import heading
from kvatlas.report.plain_text import plain
from kvatlas.report.verify_document import VerifiedEngine, VerifyDocument

__all__ = ["print_verify"]

_MOST = 300


def print_verify(console: Console, document: VerifyDocument) -> None:
    """Print every engine's verdict."""
    parts: list[RenderableType] = [Text()]
    for engine in document.engines:
        parts.extend(_engine(engine))
        parts.append(Text())
    console.print(Group(*parts))


def _engine(engine: VerifiedEngine) -> Iterator[RenderableType]:
    found = engine.found
    yield heading(plain(engine.name), engine.engine)
    indent = (0, 0, 0, 2)
    if found.divergence is None:
        verdict = Text(f"identical over {found.calls:,} calls", style="bold green")
        blocks = ", ".join(f"{count:,} {kind}" for kind, count in found.blocks.items())
        yield Padding(verdict, indent)
        yield Padding(
            Text(
                f"{found.requests:,} requests, {found.steps:,} steps"
                + (f"; blocks compared: {blocks}" if blocks else ""),
                style="dim",
            ),
            indent,
        )
    else:
        yield Padding(Text("NOT identical", style="bold red"), indent)
        yield from (Padding(part, indent) for part in _divergence(found.divergence))
    for note in engine.notes:
        yield Padding(Text(plain(note, _MOST), style="dim"), indent)


def _divergence(first: Divergence) -> Iterator[RenderableType]:
    about = ""
    if first.request is not None:
        about = f" of request {first.request}" + (f" ({plain(first.name)})" if first.name else "")
    yield Text(f"call {first.call:,}, step {first.step:,}: {first.made}{about}")
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in ("", "recorded", "twin"):
        grid.add_column(name, overflow="fold")
    for difference in first.differences:
        grid.add_row(
            *(
                Text(plain(cell, _MOST))
                for cell in (difference.what, difference.recorded, difference.twin)
            )
        )
    yield Padding(grid, (1, 0))
    if first.before:
        yield Text("the last calls before it, identical on both sides", style="dim")
    for line in first.before:
        yield Text(f"  {plain(line, _MOST)}", style="dim")
