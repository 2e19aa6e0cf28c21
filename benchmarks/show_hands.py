"""The tables of the parts `defrag` and `hybrid`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from benchmarks.defrag import Moment
from benchmarks.hybrid import Divided
from benchmarks.show import titled

__all__ = ["divisions_table", "moments_table"]


def moments_table(arrivals: str, moments: Sequence[Moment]) -> Table:
    """Return what every goal of defragmentation would take and bring at each moment."""
    same = all(moment.same for moment in moments)
    table = titled(
        f"Defragmenting a replay ({arrivals}); decisions afterwards "
        f"{'identical' if same else 'DIFFERENT'}",
        "at step",
        "goal",
        "copies",
        "runs in tables",
        "longest free run",
        "free pages",
        "planned in",
    )
    for moment in moments:
        now = (f"{moment.runs:,}", f"{moment.largest:,}", f"{moment.pages:,}")
        table.add_row(f"{moment.step:,}", f"as it is: {moment.used:,} blocks used", "", *now, "")
        for goal in moment.planned:
            then = (f"{goal.runs:,}", f"{goal.largest:,}", f"{goal.pages:,}")
            copies = "not to be had" if goal.copies is None else f"{goal.copies:,}"
            table.add_row("", goal.name, copies, *then, f"{goal.plan_s * 1e3:,.0f} ms")
    return table


def divisions_table(rows: Sequence[Divided]) -> Table:
    """Return the computation saved by every division of one budget."""
    loads = list(dict.fromkeys(row.load for row in rows))
    table = titled("One budget over device, host and objects: seconds saved", "division", *loads)
    for name in dict.fromkeys(row.name for row in rows):
        mine = {row.load: row for row in rows if row.name == name}
        table.add_row(name, *(f"{mine[load].saved_s:,.0f}" for load in loads))
    return table
