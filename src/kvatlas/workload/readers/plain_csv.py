"""Any CSV with a header that names an arrival, an input and an output column. Lengths only.

Names are matched without case, spaces and punctuation ("Input Tokens" is `input_tokens`); the
arrival column's name gives its unit (`arrival_ms`; seconds without a suffix), `time_unit` overrides
it, and ISO 8601 times are recognised by their look.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kvatlas.workload.formats import Reader
from kvatlas.workload.model import Workload
from kvatlas.workload.readers.aliases import (
    ARRIVAL_UNITS,
    OUTPUT_NAMES,
    PROMPT_NAMES,
    units_per_s,
)
from kvatlas.workload.readers.lengths import CSV_OPTIONS, IsoClock, NumberClock, read_lengths
from kvatlas.workload.readers.table import CsvPiece, header_of, match_columns, normal

__all__ = ["READER"]

_COLUMNS = {
    "arrival": tuple(ARRIVAL_UNITS),
    "prompt": PROMPT_NAMES,
    "output": OUTPUT_NAMES,
    "session": ("session", "sessionid", "conversationid"),
}


class _Clock:
    """Decides on the first piece what kind of times the arrival column holds."""

    column = "arrival"
    units_per_s = 1.0

    def __init__(self, time_unit: str | None) -> None:
        self._time_unit = time_unit
        self._clock: IsoClock | NumberClock | None = None

    def read(self, piece: CsvPiece) -> NDArray[np.float64]:
        """Return the arrival times in the unit found."""
        if self._clock is None:
            if _is_number(piece.text("arrival")[0]):
                per_s = units_per_s(self._time_unit, normal(piece.title("arrival")))
                self._clock = NumberClock("arrival", per_s)
            else:
                self._clock = IsoClock("arrival")
            self.units_per_s = self._clock.units_per_s
        return self._clock.read(piece)


def _is_number(cell: bytes) -> bool:
    try:
        float(cell)
    except ValueError:
        return len(cell.strip()) < len("2023-11-16 18:15:46")  # a broken number, not a time
    return True


def _sniff(head: bytes, path: Path) -> bool:
    return match_columns(header_of(head), _COLUMNS).keys() >= {"arrival", "prompt", "output"}


def _read(
    path: Path,
    *,
    limit: int | None = None,
    time_unit: str | None = None,
    sort: bool = False,
    drop_empty: bool = False,
) -> Workload:
    clock = _Clock(time_unit)
    if time_unit is not None:
        units_per_s(time_unit, "")
    return read_lengths(path, _COLUMNS, clock, limit=limit, sort=sort, drop_empty=drop_empty)


READER = Reader(
    name="plain-csv",
    summary="any CSV with arrival, input and output columns: lengths only",
    sniff=_sniff,
    read=_read,
    options={
        "time_unit": "unit of the arrival column: s, ms, us or ns (by its name)",
        **CSV_OPTIONS,
    },
)
