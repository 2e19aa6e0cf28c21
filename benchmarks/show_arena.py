"""The tables of the part `arena`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from benchmarks.arena import Need, Operation
from benchmarks.show import titled

__all__ = ["needs_table", "operations_table"]


def operations_table(rows: Sequence[Operation]) -> Table:
    """Return the time of an allocation and its free by the number of live allocations."""
    lives = sorted({row.live for row in rows})
    table = titled(
        "An allocation and its free by live allocations of 64 B to 64 KiB, ns: singly; in bulk",
        "allocator",
        *(f"{live:,}" for live in lives),
    )
    for name in dict.fromkeys(row.contender for row in rows):
        mine = {row.live: row for row in rows if row.contender == name}
        table.add_row(name, *(_both(mine.get(live)) for live in lives))
    return table


def needs_table(rows: Sequence[Need]) -> Table:
    """Return how much more memory than the live bytes every contender needs."""
    courses = list(dict.fromkeys(row.course for row in rows))
    table = titled(
        "Memory that a course needs over its peak of requested bytes (arenas: the smallest that "
        "serves it; PyArrow: resident pages)",
        "allocator",
        *courses,
    )
    for name in dict.fromkeys(row.contender for row in rows):
        mine = {row.course: row.overhead for row in rows if row.contender == name}
        table.add_row(name, *(f"{mine[course] - 1:+.1%}" for course in courses))
    return table


def _both(row: Operation | None) -> str:
    if row is None:
        return "not measured"
    bulk = "" if row.bulk_ns is None else f"; {row.bulk_ns:,.0f}"
    return f"{row.single_ns:,.0f}{bulk}"
