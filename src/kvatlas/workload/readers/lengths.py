"""What the length-only CSV formats share: a clock column, a prompt column, an output column.

Owns: the loop over a CSV file's pieces. Leaves to the readers: column names and time units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.workload.model import Workload
from kvatlas.workload.readers.columns import FieldNames, LineOf, Rows
from kvatlas.workload.readers.links import SessionLabels
from kvatlas.workload.readers.table import CsvPiece, pieces_of

__all__ = ["CSV_OPTIONS", "Clock", "IsoClock", "NumberClock", "read_lengths"]

CSV_OPTIONS = {
    "sort": "order the requests by arrival instead of refusing a disorderly file",
    "drop_empty": "leave out requests without prompt or output tokens",
}


class Clock(Protocol):
    """Reads the arrival column, `column`, of each piece in units of 1 / `units_per_s`."""

    column: str
    units_per_s: float

    def read(self, piece: CsvPiece) -> NDArray[np.float64]:
        """Return the arrival times of the piece, (N,)."""
        ...


class NumberClock:
    """A column of plain numbers."""

    def __init__(self, column: str, units_per_s: float = 1.0) -> None:
        self.column, self.units_per_s = column, units_per_s

    def read(self, piece: CsvPiece) -> NDArray[np.float64]:
        """Return the numbers as they stand."""
        return piece.seconds(self.column)


class IsoClock:
    """A column of ISO 8601 times, read as nanoseconds since the file's first row.

    Nanoseconds since 1970 would not fit a float64 exactly; a trace's span of 100 days does.
    """

    units_per_s = 1e9

    def __init__(self, column: str) -> None:
        self.column = column
        self._first: int | None = None

    def read(self, piece: CsvPiece) -> NDArray[np.float64]:
        """Return nanoseconds since the first row of the file."""
        ticks = piece.ticks(self.column)
        if self._first is None and ticks.size:
            self._first = int(ticks[0])
        return (ticks - (self._first or 0)).astype(np.float64)


def read_lengths(
    path: Path,
    aliases: Mapping[str, Sequence[str]],
    clock: Clock,
    *,
    limit: int | None,
    sort: bool,
    drop_empty: bool,
    required: Sequence[str] = (),
) -> Workload:
    """Read a CSV file with `prompt` and `output` columns and the clock's into a workload.

    A `session` column, where the file has one, links the turns. Raises: InputError.
    """
    rows: Rows | None = None
    labels = SessionLabels()
    dropped = 0
    wanted = required or (clock.column, "prompt", "output")
    for piece in pieces_of(path, aliases, wanted, limit):
        arrival = clock.read(piece)
        prompt, output = piece.counts("prompt"), piece.counts("output")
        if rows is None:
            names = [piece.title(name) for name in (clock.column, "prompt", "output")]
            rows = Rows(path, FieldNames(*names), sort=sort)
        line_of: LineOf = piece.chunk.line_number
        session = piece.text("session") if piece.has("session") else None
        if drop_empty and ((prompt == 0) | (output == 0)).any():
            kept = np.flatnonzero((prompt != 0) & (output != 0))
            dropped += prompt.size - kept.size
            arrival, prompt, output = arrival[kept], prompt[kept], output[kept]
            session = None if session is None else [session[int(k)] for k in kept]
            line_of = _line_after(kept, line_of)
        rows.add(arrival, prompt, output, line_of)
        if session is not None:
            labels.add(session)
    if rows is None:
        raise InputError(
            "the file holds a header and no requests", file=str(path), remedy="give a longer trace"
        )
    notes = [f"{dropped:,} requests without prompt or output were left out"] if dropped else []
    links = labels.links() if len(labels) == len(rows) else None
    return rows.finish(
        units_per_s=clock.units_per_s,
        session=links.session if links else None,
        parent=links.parent if links else None,
        notes=notes,
    )


def _line_after(kept: NDArray[np.int64], line_of: LineOf) -> LineOf:
    """Return the line of a kept row, given the lines before others were dropped."""
    return lambda row: line_of(int(kept[row]))
