"""The block map in a terminal: every block in its place, several to a cell where there are many.

Owns: how many blocks share a cell, rows, and the sentence on what broken runs cost. Leaves to
others: glyphs and legends (`map_legend`), what is in a cell and all figures
(`kvatlas.measure.map_cells`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group, RenderableType
from rich.text import Text

from kvatlas.events.header import Header
from kvatlas.events.snapshot import FragmentationSnapshot
from kvatlas.measure.map_cells import NOBODY, SEVERAL, MapCells, free_runs, holders, map_cells
from kvatlas.report.console import two_columns
from kvatlas.report.map_legend import (
    LETTERS,
    Glyphs,
    glyphs,
    group_legend,
    letter_style,
    owner_legend,
    state_legend,
)
from kvatlas.report.numbers import count, percent, seconds

__all__ = ["By", "print_map"]

By = Literal["state", "owner", "group"]

_MOST_ROWS = 24
_COLUMNS_STEP = 8


def print_map(
    console: Console,
    snapshot: FragmentationSnapshot,
    header: Header,
    *,
    by: By = "state",
    width: int | None = None,
    blocks: tuple[int, int] | None = None,
    names: Mapping[int, str] | None = None,
    ascii_only: bool = False,
) -> None:
    """Print the map of a moment.

    Args:
        console: where to.
        snapshot: the moment.
        header: of the recording.
        by: what a cell shows: the blocks' state, the request that owns them, the KV cache group.
        width: columns of the map and the ids beside it, the console's by default.
        blocks: the ids `[first, stop)` to show, all by default.
        names: requests' own ids.
        ascii_only: no other characters, whatever the terminal knows.
    """
    marks = glyphs(ascii_only=ascii_only or console.options.ascii_only)
    first, stop = blocks or (0, snapshot.num_blocks)
    gutter = len(f"{snapshot.num_blocks - 1:,}") + 2
    columns = max(8, min(width or console.width, console.width) - gutter - 1)
    columns -= columns % _COLUMNS_STEP
    per_cell = _per_cell(stop - first, columns)
    top = holders(snapshot, len(LETTERS)) if by == "owner" else []
    letters = {holder.request: letter for holder, letter in zip(top, LETTERS, strict=False)}
    if by == "group":
        letters = {group: LETTERS[group % len(LETTERS)] for group in range(len(header.groups))}
    labels = _groups(snapshot) if by == "group" else snapshot.owners()
    cells = map_cells(snapshot, labels, first, stop, per_cell)
    parts: list[RenderableType] = [Text(), *_title(snapshot, cells), Text()]
    parts += _rows(cells, columns, gutter, marks, None if by == "state" else letters)
    parts.append(Text())
    if by == "state":
        parts += state_legend(cells, marks)
    elif by == "owner":
        parts += owner_legend(marks, top, letters, names or {})
    else:
        parts += group_legend(marks, header, letters)
    parts += [Text(), _facts(snapshot, header), Text()]
    console.print(Group(*parts))


def _per_cell(blocks: int, columns: int) -> int:
    """Return how many blocks share a cell: as few as fit, in two significant digits."""
    needed = -(-blocks // (columns * _MOST_ROWS))
    unit = int(10 ** max(0, len(str(needed)) - 2))
    return max(1, -(-needed // unit) * unit)


def _groups(snapshot: FragmentationSnapshot) -> NDArray[np.int32]:
    """Return (N,) the group of a block's table, NOBODY for a block in none."""
    groups = np.full(snapshot.num_blocks, NOBODY, np.int32)
    held = snapshot.table_blocks >= 0
    of_cell = np.repeat(snapshot.table_group, np.diff(snapshot.table_offsets))
    groups[snapshot.table_blocks[held]] = of_cell[held]
    return groups


def _title(snapshot: FragmentationSnapshot, cells: MapCells) -> Iterator[Text]:
    shown = cells.stop - cells.first
    title = Text(f"{count(shown)} blocks", style="bold")
    if shown < snapshot.num_blocks:
        title.append(f" ({cells.first:,} to {cells.stop - 1:,})", style="not bold")
    title.append(f" at {seconds(snapshot.time_s)}", style="not bold")
    yield title
    text = f"after event {count(snapshot.event)}, step {count(snapshot.step)}"
    if cells.per_cell > 1:
        text += (
            f"; each cell is {count(cells.per_cell)} neighbouring blocks (--blocks A:B zooms in)"
        )
    else:
        text += "; each cell is a block"
    yield Text(text, style="dim")


def _rows(
    cells: MapCells, columns: int, gutter: int, marks: Glyphs, letters: Mapping[int, str] | None
) -> Iterator[Text]:
    for at in range(0, cells.used.size, columns):
        line = Text(f"{cells.first + at * cells.per_cell:>{gutter - 1},} ", style="dim")
        for cell in range(at, min(at + columns, cells.used.size)):
            glyph, style = _cell(cells, cell, marks, letters)
            line.append(glyph, style=f"not dim {style}")
        yield line


def _cell(
    cells: MapCells, at: int, marks: Glyphs, letters: Mapping[int, str] | None
) -> tuple[str, str]:
    used, evictable, empty = (int(each[at]) for each in (cells.used, cells.evictable, cells.empty))
    if used == 0:
        if not evictable + empty:
            return marks.null, "dim"
        if evictable and empty:
            return marks.free, "green"
        return (marks.evictable, "green") if evictable else (marks.empty, "dim")
    if letters is None:
        if not evictable + empty:
            return marks.used, "blue"
        step = used * len(marks.partly) // (used + evictable + empty)
        return marks.partly[step], "blue"
    label = int(cells.label[at])
    if label == SEVERAL:
        return marks.several, ""
    letter = letters.get(label)
    if letter is None:
        return marks.other, ""
    return letter.lower() if evictable + empty else letter, letter_style(letter)


def _facts(snapshot: FragmentationSnapshot, header: Header) -> RenderableType:
    rows = []
    for label, runs, what in (
        ("Free runs", free_runs(snapshot), "free: empty or evictable"),
        ("Empty runs", free_runs(snapshot, empty_only=True), "free: empty only"),
    ):
        if runs.external_index is None:
            rows.append((label, Text(f"none ({what})")))
            continue
        median = float(np.median(runs.lengths))
        text = (
            f"{count(runs.lengths.size)}, median {count(median)}, largest {count(runs.largest)} of"
        )
        text += f" {count(runs.free)} blocks; EFI {percent(runs.external_index)} ({what})"
        rows.append((label, Text(text)))
    if len({group.page_size_bytes for group in header.groups}) == 1:
        text = "no allocation: blocks are equal, any free one serves. Broken runs cost transfers, "
        rows.append(("What it costs", Text(text + "offload and huge pages only")))
    return two_columns(rows)
