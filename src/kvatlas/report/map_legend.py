"""The block map's glyphs, letters and colours, and the legends that explain them.

Owns: what stands for what; nothing is said by colour alone. Leaves to others: where it stands
(`map_terminal`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from kvatlas.events.header import Header
from kvatlas.measure.map_cells import Holder, MapCells
from kvatlas.report.numbers import count
from kvatlas.report.plain_text import plain

__all__ = [
    "LETTERS",
    "Glyphs",
    "glyphs",
    "group_legend",
    "letter_style",
    "owner_legend",
    "state_legend",
]

LETTERS = "ABCDEFGHIJKLMNOP"
"""One for each of the owners, or groups, that the map tells apart."""

_LISTED_HOLDERS = 8
_LETTER_STYLES = (
    "blue",
    "green",
    "magenta",
    "cyan",
    "yellow",
    "red",
    "bright_blue",
    "bright_green",
)


@dataclass(frozen=True, slots=True)
class Glyphs:
    """What a cell looks like.

    Attributes:
        used, evictable, empty: all blocks of the cell are.
        free: some evictable, some empty.
        partly: some used, from few to nearly all.
        several: used by several, or by nobody that is named.
        other: used by one that has no letter.
        null: the null block, which is neither used nor free.
    """

    used: str
    evictable: str
    empty: str
    free: str
    partly: str
    several: str
    other: str
    null: str


_UNICODE = Glyphs("█", "▒", "·", "░", "▁▂▃▄▅▆▇", "*", "+", "×")
_ASCII = Glyphs("#", "=", ".", ":", "123456789", "*", "+", "x")


def glyphs(*, ascii_only: bool) -> Glyphs:
    """Return the glyphs of a terminal that knows only ASCII, or of any other."""
    return _ASCII if ascii_only else _UNICODE


def letter_style(letter: str) -> str:
    """Return the colour of a letter."""
    return _LETTER_STYLES[LETTERS.index(letter) % len(_LETTER_STYLES)]


def state_legend(cells: MapCells, marks: Glyphs) -> Iterator[RenderableType]:
    """Yield what each state looks like, and how many blocks are in it."""
    rows = [
        (marks.used, "blue", "used", int(cells.used.sum()), "somebody owns it"),
        (marks.evictable, "green", "evictable", int(cells.evictable.sum()), "free, still cached"),
        (marks.empty, "dim", "empty", int(cells.empty.sum()), "free, holds nothing"),
    ]
    if int((cells.used + cells.evictable + cells.empty).sum()) < cells.stop - cells.first:
        rows.append((marks.null, "dim", "null", 1, "vLLM's null block: neither used nor free"))
    grid = Grid.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column()
    grid.add_column(justify="right")
    grid.add_column()
    for glyph, style, name, blocks, meaning in rows:
        grid.add_row(Text(glyph, style=style), name, count(blocks), Text(meaning, style="dim"))
    if cells.per_cell > 1:
        low, high = marks.partly[0], marks.partly[-1]
        mixed = cells.used > 0
        mixed &= cells.evictable + cells.empty > 0
        free = (cells.used == 0) & (cells.evictable > 0) & (cells.empty > 0)
        for glyph, style, many, meaning in (
            (f"{low}{high}", "blue", mixed, "few to nearly all blocks of the cell are used"),
            (marks.free, "green", free, "evictable and empty ones, none used"),
        ):
            number = int(many.sum())
            said = f"{count(number)} cell{'s' if number != 1 else ''}"
            grid.add_row(Text(glyph, style=style), "mixed", said, Text(meaning, style="dim"))
    yield Padding(grid, (0, 0, 0, 2), expand=False)


def owner_legend(
    marks: Glyphs, top: list[Holder], letters: Mapping[int, str], names: Mapping[int, str]
) -> Iterator[RenderableType]:
    """Yield who has which letter, by the blocks that they own."""
    grid = Grid.grid(padding=(0, 2))
    for justify in ("left", "left", "right", "right"):
        grid.add_column(justify=justify)
    for holder in top[:_LISTED_HOLDERS]:
        name = names.get(holder.request)
        said = f"request {holder.request}" + (f" {plain(name, 24)}" if name is not None else "")
        runs = f"in {count(holder.runs)} run{'s' if holder.runs != 1 else ''}"
        letter = letters[holder.request]
        mark = Text(letter, style=letter_style(letter))
        grid.add_row(mark, said, f"{count(holder.blocks)} blocks", runs)
    if len(top) > _LISTED_HOLDERS:
        last = letters[top[-1].request]
        grid.add_row("", f"and so on to {last}, by the blocks they own", "", "")
    yield Padding(grid, (0, 0, 0, 2), expand=False)
    yield from _shared_legend(marks, "several requests", "another request")


def group_legend(
    marks: Glyphs, header: Header, letters: Mapping[int, str]
) -> Iterator[RenderableType]:
    """Yield what each KV cache group's letter is."""
    for group, spec in enumerate(header.groups):
        text = Text(f"  {letters[group]}", style=letter_style(letters[group]))
        said = f"  group {group}: {plain(spec.kind)}, blocks of {count(spec.block_size)} tokens"
        if spec.window is not None:
            said += f", window of {count(spec.window)}"
        yield text.append(said, style="default")
    yield from _shared_legend(marks, "several groups", "no block table")


def _shared_legend(marks: Glyphs, several: str, other: str) -> Iterator[RenderableType]:
    words = (
        "small letter: with free blocks beside",
        f"{marks.several} {several}",
        f"{marks.other} {other}",
        f"{marks.empty} empty",
        f"{marks.evictable} evictable",
        f"{marks.free} both",
    )
    yield Padding(Text("   ".join(words), style="dim"), (0, 0, 0, 2), expand=False)
