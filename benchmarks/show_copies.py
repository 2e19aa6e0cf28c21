"""The tables of the storage's copies."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from benchmarks.copies import Copies, CopyRow
from benchmarks.show import titled
from kvatlas.units import format_bytes

_OPERATIONS = ("copy", "permute", "shift", "gather", "scatter", "digest", "indexing")


def copies_tables(found: Copies) -> list[Table]:
    """Return a table per backend, and a line where torch is missing."""
    tables = [_table("NumPy", "NumPy's a[i] = a[j]", found.rows)]
    host = [row for row in found.torch_rows if row.backend == "torch"]
    if host:
        tables.append(_table("torch on the CPU", "torch's index_copy_", host))
    device = [row for row in found.torch_rows if row.backend == "cuda"]
    if device:
        tables.append(_table(str(found.device), "torch's index_copy_", device))
    if found.missing:
        table = titled("Copies of blocks with torch", "missing")
        table.add_row(found.missing)
        tables.append(table)
    return tables


def _table(what: str, indexing: str, rows: Sequence[CopyRow]) -> Table:
    table = titled(
        f"Copies of blocks as shares of memcpy: {what}",
        "layout",
        "span",
        "blocks per run",
        "memcpy, GB/s",
        "copy",
        "move, permuted",
        "move, shifted",
        "gather",
        "scatter",
        "digest",
        indexing,
    )
    for row in rows:
        table.add_row(
            row.layout,
            format_bytes(row.span_bytes),
            f"{row.blocks_per_run:,}",
            f"{row.memcpy_gb_per_s:.1f}",
            *(f"{row.shares[name]:.0%}" for name in _OPERATIONS),
        )
    return table
