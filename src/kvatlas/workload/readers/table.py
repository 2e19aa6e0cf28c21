"""CSV traces: columns found by name, values parsed a chunk at a time, errors by line and column.

Owns: headers and their aliases, splitting, and parsing of numbers and ISO times. A chunk without
quotes is split and converted as a whole; one with quotes goes through the standard library.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.workload.readers.text import Chunk, line_chunks
from kvatlas.workload.readers.times import iso_ticks

__all__ = ["CsvPiece", "header_of", "match_columns", "normal", "pieces_of"]

_MOST_COLUMNS = 1000  # a header with more is not one of ours

Aliases = Mapping[str, Sequence[str]]


def normal(name: str) -> str:
    """Return a column name without case, spaces, underscores, hyphens and brackets."""
    return "".join(ch for ch in name.lower() if ch.isalnum())


def header_of(head: bytes) -> list[str]:
    """Return the column names in the first line of `head`, normalised, or none if it is no CSV."""
    lines = head.split(b"\n", 1)
    if len(lines) < 2 or lines[0].lstrip().startswith((b"{", b"[")):
        return []
    if not 1 <= lines[0].count(b",") < _MOST_COLUMNS:
        return []
    return [normal(name.decode("utf-8", "replace")) for name in lines[0].split(b",")]


def match_columns(names: Sequence[str], aliases: Aliases) -> dict[str, int]:
    """Return the position of the first alias that is among the normalised `names`, per column."""
    found: dict[str, int] = {}
    for column, known in aliases.items():
        for alias in known:
            if alias in names:
                found[column] = names.index(alias)
                break
    return found


@dataclass(frozen=True, slots=True)
class CsvPiece:
    """Parsed rows of one chunk: `cells[k]` are the texts of column k in the file's order."""

    chunk: Chunk
    names: Sequence[str]
    found: Mapping[str, int]
    cells: Sequence[Sequence[bytes]]

    def has(self, column: str) -> bool:
        """Say whether the file has this column."""
        return column in self.found

    def title(self, column: str) -> str:
        """Return what the file calls this column."""
        return self.names[self.found[column]]

    def text(self, column: str) -> Sequence[bytes]:
        """Return the column's cells as they stand."""
        return self.cells[self.found[column]]

    def counts(self, column: str) -> NDArray[np.int64]:
        """Return whole numbers; "374.0" is one. Raises: InputError for the first that is not."""
        cells = self.text(column)
        try:
            return np.array(cells, dtype=np.bytes_).astype(np.int64)
        except (ValueError, OverflowError):
            values = self._each(column, float, "not a whole number of tokens")
        wrong = ~((values == np.floor(values)) & (np.abs(values) < 2.0**62))
        if wrong.any():
            raise self._error(column, int(wrong.argmax()), "not a whole number of tokens")
        return values.astype(np.int64)

    def seconds(self, column: str) -> NDArray[np.float64]:
        """Return a column of plain numbers. Raises: InputError for the first that is none."""
        try:
            return np.array(self.text(column), dtype=np.bytes_).astype(np.float64)
        except ValueError:
            return self._each(column, float, "not a number")

    def ticks(self, column: str) -> NDArray[np.int64]:
        """Return ISO times as nanoseconds since 1970. Raises: InputError for the first bad one."""
        cells = self.text(column)
        try:
            return iso_ticks(cells)
        except ValueError:
            for row, cell in enumerate(cells):
                try:
                    iso_ticks([cell])
                except ValueError:
                    what = "not a time like 2023-11-16 18:15:46.68"
                    raise self._error(column, row, what) from None
            raise

    def keep(self, rows: NDArray[np.bool_]) -> CsvPiece:
        """Return the piece with only the rows where `rows` (N,) is True."""
        kept = [list(compress(column, rows)) for column in self.cells]
        return CsvPiece(self.chunk, self.names, self.found, kept)

    def _each(self, column: str, parse: Callable[[bytes], float], what: str) -> NDArray[np.float64]:
        values = np.empty(len(self.text(column)), dtype=np.float64)
        for row, cell in enumerate(self.text(column)):
            try:
                values[row] = parse(cell)
            except ValueError:
                raise self._error(column, row, what) from None
        return values

    def _error(self, column: str, row: int, what: str) -> InputError:
        return InputError(
            what,
            file=str(self.chunk.file),
            line=self.chunk.line_number(row),
            field=self.title(column),
            value=self.text(column)[row].decode("utf-8", "replace"),
            remedy="correct or remove the row",
        )


def pieces_of(
    file: Path, aliases: Aliases, required: Iterable[str], limit: int | None
) -> Iterator[CsvPiece]:
    """Yield the rows of a CSV file with a header, at most `limit` of them.

    `aliases` gives each wanted column the normalised names it may have. Raises: InputError for a
    header without a `required` column, or a row with too few or too many cells.
    """
    names: list[str] = []
    found: dict[str, int] = {}
    left = limit
    for chunk in line_chunks(file):
        if not names:
            first, _, rest = chunk.data.partition(b"\n")
            names = _split_header(first, file)
            found = match_columns([normal(name) for name in names], aliases)
            _require_columns(file, names, found, aliases, required)
            chunk = Chunk(file, rest, chunk.first_line + 1)
        if left is not None:
            chunk = chunk.head(left)  # what lies beyond the limit is not looked at
        cells = _split_plainly(chunk.data, len(names)) or _split_rows(chunk, names)
        if cells and left is not None:
            left -= len(cells[0])
        if cells:
            yield CsvPiece(chunk, names, found, cells)
        if left == 0:
            return


def _split_header(line: bytes, file: Path) -> list[str]:
    text = line.decode("utf-8", "replace").strip()
    try:
        return [name.strip() for name in next(csv.reader([text]), [])]
    except csv.Error as error:
        raise InputError(f"not a CSV header: {error}", file=str(file), line=1) from None


def _split_plainly(data: bytes, columns: int) -> list[Sequence[bytes]]:
    """Return the cells by column, or nothing where `_split_rows` must look closer."""
    data = data.replace(b"\r\n", b"\n").strip(b"\n")
    if not data or b'"' in data or b"\n\n" in data:
        return []
    text = np.frombuffer(data, dtype=np.uint8)
    ends = np.append(np.flatnonzero(text == ord("\n")), text.size)
    commas = np.searchsorted(np.flatnonzero(text == ord(",")), ends)
    if (np.diff(commas, prepend=0) != columns - 1).any():
        return []
    cells = data.replace(b"\n", b",").split(b",")
    return [cells[column::columns] for column in range(columns)]


def _split_rows(chunk: Chunk, names: Sequence[str]) -> list[Sequence[bytes]]:
    """Return the cells by column. Raises: InputError for a row of another length than `names`."""
    if b'"' in chunk.data:
        text = io.StringIO(chunk.data.decode("utf-8"), newline="")
        try:
            parsed = [row for row in csv.reader(text) if len(row) > 1 or "".join(row).strip()]
        except csv.Error as error:
            raise InputError(
                f"not valid CSV: {error}", file=str(chunk.file), line=chunk.first_line
            ) from None
        rows = [[cell.encode() for cell in row] for row in parsed]
    else:
        rows = [line.rstrip(b"\r").split(b",") for line in chunk.data.split(b"\n") if line.strip()]
    wanted = len(names)
    for number, row in enumerate(rows):
        if len(row) != wanted:
            raise InputError(
                f"{len(row)} cells where the header has {wanted}",
                file=str(chunk.file),
                line=chunk.line_number(number),
                remedy="correct or remove the row",
            )
    return list(zip(*rows, strict=True))


def _require_columns(
    file: Path,
    names: Sequence[str],
    found: Mapping[str, Any],
    aliases: Aliases,
    required: Iterable[str],
) -> None:
    for column in required:
        if column not in found:
            raise InputError(
                f"the header has no column for the {column}",
                file=str(file),
                line=1,
                value=",".join(names),
                remedy=f"name it one of {', '.join(aliases[column][:6])}",
            )
