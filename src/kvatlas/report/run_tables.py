"""The series, tables, histograms and figures of a run as files: one CSV or Parquet file for each.

Owns: the files' names, columns and bytes. Leaves to others: writing them, the figures.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kvatlas.report.run_document import Histogram, RunDocument, Table, TimeSeries

__all__ = ["run_csv", "run_parquet"]

Columns = dict[str, list[Any]]

_TEXTS = ("name", "unavailable")


def run_csv(document: RunDocument) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file; an empty cell is what is not known.

    UTF-8, a header line, numbers in full. Text from a trace is quoted, not changed: import it into
    a spreadsheet as text.
    """
    return _files(document, ".csv", _csv)


def run_parquet(document: RunDocument) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file; nulls are what is not known."""
    return _files(document, ".parquet", _parquet)


def _files(
    document: RunDocument, suffix: str, encode: Callable[[Columns], bytes]
) -> Iterator[tuple[str, bytes]]:
    for name, columns in _all(document):
        yield name + suffix, encode(columns)


def _all(document: RunDocument) -> Iterator[tuple[str, Columns]]:
    yield "figures", _figures(document)
    yield "series", _series(document.series)
    for name, table in document.tables.items():
        yield f"table_{name}", _table(table)
    for name, histogram in document.histograms.items():
        yield f"histogram_{name}", _histogram(histogram)


def _figures(document: RunDocument) -> Columns:
    values = document.figures.values
    return {
        "name": list(values),
        "value": [None if value is None else float(value) for value in values.values()],
        "unavailable": [document.figures.unavailable.get(name) for name in values],
    }


def _series(series: TimeSeries) -> Columns:
    columns = {"start_s": series.start_s, "end_s": series.end_s, **series.columns}
    return {name: _known(values) for name, values in columns.items()}


def _table(table: Table) -> Columns:
    return {
        name: _one_type([row[at] for row in table.rows]) for at, name in enumerate(table.columns)
    }


def _histogram(histogram: Histogram) -> Columns:
    edges = _known(histogram.edges)
    return {"from": edges[:-1], "to": edges[1:], "count": _known(histogram.counts)}


def _known(values: Any) -> list[float | None]:
    numbers = np.asarray(values, np.float64).tolist()
    return [number if np.isfinite(number) else None for number in numbers]


def _one_type(cells: Sequence[Any]) -> list[Any]:
    """Return the cells of a column in one type, because Parquet's columns have one."""
    plain = [cell.item() if isinstance(cell, np.generic) else cell for cell in cells]
    known = [cell for cell in plain if cell is not None]
    if any(isinstance(cell, str) for cell in known):
        return [None if cell is None else str(cell) for cell in plain]
    if any(isinstance(cell, float) for cell in known):
        return _known([np.nan if cell is None else cell for cell in plain])
    return plain


def _csv(columns: Columns) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    # A name may hold half a surrogate pair, which is no text in any encoding.
    return out.getvalue().encode("utf-8", errors="replace")


def _parquet(columns: Columns) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {}
    for name, cells in columns.items():
        array = pa.array([_text(cell) for cell in cells])
        if pa.types.is_null(array.type):  # nothing is known: the type is the one it would have
            array = array.cast(pa.string() if name in _TEXTS else pa.float64())
        arrays[name] = array
    out = io.BytesIO()
    pq.write_table(pa.table(arrays), out)
    return out.getvalue()


def _text(cell: Any) -> Any:
    return cell.encode("utf-8", errors="replace").decode() if isinstance(cell, str) else cell
