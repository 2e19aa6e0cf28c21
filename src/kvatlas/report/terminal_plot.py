"""Lines over capacity as characters: Braille dots where the terminal has them, else ASCII.

Owns: from values to a picture of text with axes. Leaves to others: what is plotted. Lines are told
apart by their texture, colour only helps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from kvatlas.report.capacity_axis import CapacityAxis, short_count
from kvatlas.report.chart_frame import y_ticks

__all__ = ["PlotLine", "plot", "plot_legend"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row, by column
_DOWN, _ACROSS = 4, 2  # dots per character
_LABEL = 5
_LEAST_TOP = 0.01  # labels of much smaller shares would not fit
_GAPS = {"solid": 1, "dotted": 2}
_KEYS = {"solid": "⣀⣀⠤⠒", "dotted": "⠁⠁⠁", "dashed": "╌╌╌", "points": "■"}
_ASCII_KEYS = {"solid": "###", "dotted": "...", "dashed": "---", "points": "O"}
_UPRIGHT, _ASCII_UPRIGHT = "┊", ":"


@dataclass(frozen=True, slots=True)
class PlotLine:
    """Shares of 1 at rising capacities; NaN where nothing is known.

    Attributes:
        name: for the legend; style: Rich's name of its colour.
        texture: `solid`, `dotted`, `dashed` (a level: drawn as one line across), `points`.
    """

    name: str
    style: str
    texture: str
    blocks: I64
    values: F64


def plot_legend(lines: Sequence[PlotLine], *, ascii_only: bool = False) -> Text:
    """Return how each line looks, and its name."""
    keys = _ASCII_KEYS if ascii_only else _KEYS
    text = Text()
    for number, line in enumerate(lines):
        text.append("   " if number else "")
        text.append(keys[line.texture], style=line.style)
        text.append(f" {line.name}")
    return text


def plot(
    lines: Sequence[PlotLine],
    axis: CapacityAxis,
    columns: int,
    rows: int,
    *,
    uprights: Sequence[tuple[str, int]] = (),
    ascii_only: bool = False,
) -> list[Text]:
    """Return the picture, `rows` lines of it and two of axis, at most `columns` wide.

    Args:
        lines: drawn in order, the later ones over the earlier.
        axis: over capacity.
        columns, rows: of characters.
        uprights: names and capacities to mark; those with room for it have their name below.
        ascii_only: no character beyond ASCII.
    """
    wide = max(10, columns - _LABEL - 2)
    top = max([_LEAST_TOP, *(float(np.nanmax(line.values, initial=0.0)) for line in lines)])
    ticks = y_ticks(top, share=True)
    canvas = _Canvas(wide, rows, ticks[-1], ascii_only)
    for _, blocks in uprights:
        if axis.first <= blocks <= axis.last:
            canvas.upright(axis.place(blocks))
    for line in lines:
        canvas.draw(line, axis)
    labels = {canvas.row_of(tick): f"{100 * tick:.3g}%" for tick in reversed(ticks)}
    bar = "|" if ascii_only else "│"
    picture = []
    for row in range(rows):
        text = Text(f"{labels.get(row, ''):>{_LABEL}} ", style="dim", no_wrap=True)
        text.append(bar, style="dim")
        canvas.append_row(text, row)
        picture.append(text)
    corner = ("+", "-") if ascii_only else ("└", "─")
    rule = " " * (_LABEL + 1) + corner[0] + corner[1] * wide
    picture.append(Text(rule, style="dim", no_wrap=True))
    picture.append(Text(_x_labels(axis, wide, uprights), style="dim", no_wrap=True))
    return picture


def _x_labels(axis: CapacityAxis, wide: int, uprights: Sequence[tuple[str, int]]) -> str:
    """Return ticks below the axis; names of marks come before plain numbers where both collide."""
    shown = [" "] * wide

    def put(at: int, text: str) -> None:
        begin = min(max(0, at - len(text) // 2), len(shown) - len(text))
        around = shown[max(0, begin - 1) : begin + len(text) + 1]
        if begin >= 0 and all(character == " " for character in around):
            shown[begin : begin + len(text)] = list(text)

    for name, blocks in uprights:
        if axis.first <= blocks <= axis.last:
            put(round(axis.place(blocks) * (wide - 1)), name)
    for tick in axis.ticks():
        put(round(axis.place(tick) * (wide - 1)), short_count(tick))
    return " " * (_LABEL + 2) + "".join(shown).rstrip()


class _Canvas:
    """Cells of Braille dots (or ASCII characters), each in the style of what was drawn last."""

    def __init__(self, columns: int, rows: int, top: float, ascii_only: bool) -> None:
        self._columns, self._rows, self._top, self._ascii = columns, rows, top, ascii_only
        self._bits = np.zeros((rows, columns), np.int64)
        self._whole: dict[tuple[int, int], str] = {}
        self._style: dict[tuple[int, int], str] = {}

    def row_of(self, value: float) -> int:
        """Return the row of characters in which a value lies."""
        return self._dot_row(value, self._rows)

    def _dot_row(self, value: float, rows: int) -> int:
        return min(rows - 1, max(0, round((1 - value / self._top) * (rows - 1))))

    def upright(self, place: float) -> None:
        """Draw a line from top to bottom, under everything else."""
        column = round(place * (self._columns - 1))
        for row in range(self._rows):
            self._whole[row, column] = _ASCII_UPRIGHT if self._ascii else _UPRIGHT
            self._style[row, column] = "dim"

    def draw(self, line: PlotLine, axis: CapacityAxis) -> None:
        """Draw a line on top of what is there."""
        known = ~np.isnan(line.values)
        x, y = axis.places(line.blocks[known]), line.values[known]
        if not x.size:
            return
        if line.texture == "points":
            for place, value in zip(x.tolist(), y.tolist(), strict=True):
                column = round(min(1.0, max(0.0, place)) * (self._columns - 1))
                self._put(self.row_of(value), column, "O" if self._ascii else "■", line.style)
        elif line.texture == "dashed":
            row = self.row_of(float(y[-1]))
            for column in range(self._columns):
                self._put(row, column, "-" if self._ascii else "╌", line.style)
        elif self._ascii:
            places = np.linspace(0.0, 1.0, self._columns)
            for column, value in self._between(places, x, y):
                character = "#" if line.texture == "solid" else "."
                self._put(self.row_of(value), column, character, line.style)
        else:
            self._draw_dots(line, x, y)

    def _draw_dots(self, line: PlotLine, x: F64, y: F64) -> None:
        places = np.linspace(0.0, 1.0, self._columns * _ACROSS)
        before: int | None = None
        gap = _GAPS[line.texture]
        for column, value in self._between(places, x, y):
            row = self._dot_row(value, self._rows * _DOWN)
            reach = [row] if before is None or gap > 1 else self._joined(before, row)
            before = row
            if column % gap:
                continue
            for each in reach:
                cell = each // _DOWN, column // _ACROSS
                self._bits[cell] |= _DOTS[each % _DOWN][column % _ACROSS]
                self._whole.pop(cell, None)
                self._style[cell] = line.style

    @staticmethod
    def _joined(before: int, row: int) -> list[int]:
        """Return the rows from the one after `before` to `row`, so that a steep line has no gap."""
        step = 1 if row >= before else -1
        return list(range(before + step, row + step, step)) if row != before else [row]

    @staticmethod
    def _between(places: F64, x: F64, y: F64) -> list[tuple[int, float]]:
        """Return (column, value) where the line is; straight between its points."""
        inside = (places >= x[0] - 1e-9) & (places <= x[-1] + 1e-9)
        values = np.interp(places, x, y)
        return [(int(at), float(values[at])) for at in np.flatnonzero(inside)]

    def _put(self, row: int, column: int, character: str, style: str) -> None:
        self._bits[row, column] = 0
        self._whole[row, column] = character
        self._style[row, column] = style

    def append_row(self, text: Text, row: int) -> None:
        """Append a row of characters to `text`."""
        for column in range(self._columns):
            cell = row, column
            bits = int(self._bits[cell])
            character = chr(0x2800 + bits) if bits else self._whole.get(cell, " ")
            text.append(character, style=self._style.get(cell, ""))
