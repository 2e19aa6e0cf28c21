"""The block map in a live view.

Owns: the look of a cell's code, letters for owners, the legend in a line. Leaves to others: what a
cell is (`kvatlas.watch.cells`), glyphs (`kvatlas.report.map_legend`).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from rich.text import Text

from kvatlas.measure.map_cells import SEVERAL
from kvatlas.report.map_legend import LETTERS, Glyphs, glyphs, letter_style
from kvatlas.report.numbers import count
from kvatlas.watch.moment import Cells, Moment
from kvatlas.watch.top.areas import GUTTER, Areas, Look

__all__ = ["letters_of", "map_lines"]


def letters_of(moment: Moment) -> dict[int, str]:
    """Return the letters of the requests that hold most blocks, by their rows."""
    holding = [request.row for request in moment.top if request.blocks]
    return dict(zip(holding, LETTERS, strict=False))


def map_lines(moment: Moment, look: Look, areas: Areas) -> list[Text]:
    """Return a heading, the map, and what the glyphs mean."""
    cells = moment.cells
    if cells is None or not areas.map_rows:
        return []
    marks = glyphs(ascii_only=look.ascii_only)
    letters = letters_of(moment) if look.by == "owner" else None
    heading = Text("Block map", style="bold")
    said = f"  {count(cells.stop - cells.first)} blocks"
    if cells.per_cell > 1:
        said += f", {count(cells.per_cell)}/cell"
    heading.append(said, style="not bold dim")
    heading.append(f"  {_legend(marks, letters is not None)}", style="not bold dim")
    lines = [heading]
    columns = areas.map_columns
    for at in range(0, len(cells.codes), columns):
        line = Text(f"{cells.first + at * cells.per_cell:>{GUTTER - 1},} ", style="dim")
        looks = (
            _cell(cells, cell, marks, letters)
            for cell in range(at, min(at + columns, len(cells.codes)))
        )
        # One stretch per style: over SSH every change of it costs some ten bytes.
        for style, stretch in groupby(looks, key=lambda look: look[1]):
            line.append("".join(glyph for glyph, _ in stretch), style=f"not dim {style}")
        lines.append(line)
    return lines


def _legend(marks: Glyphs, owners: bool) -> str:
    free = f"{marks.evictable} cached {marks.empty} empty {marks.free} both"
    if owners:
        return f"A-P owners {marks.several} several {marks.other} other {free}"
    return f"{marks.used} used {marks.partly[3]} partly {free}"


def _cell(
    cells: Cells, at: int, marks: Glyphs, letters: Mapping[int, str] | None
) -> tuple[str, str]:
    code = cells.codes[at]
    if code in "x.=:":
        return {
            "x": (marks.null, "dim"),
            ".": (marks.empty, "dim"),
            "=": (marks.evictable, "green"),
            ":": (marks.free, "green"),
        }[code]
    if letters is None:
        if code == "#":
            return marks.used, "blue"
        return marks.partly[(int(code) - 1) * len(marks.partly) // 9], "blue"
    owner = cells.owners[at]
    if owner == SEVERAL:
        return marks.several, ""
    letter = letters.get(owner)
    if letter is None:
        return marks.other, ""
    return (letter if code == "#" else letter.lower()), letter_style(letter)
