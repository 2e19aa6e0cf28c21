"""`kvatlas bench`: strategies side by side on one workload.

Owns: its verbs. Leaves to others: each of them (`bench_placement`, `bench_verdicts`).
"""

from __future__ import annotations

import typer

from kvatlas.cli.bench_placement import bench_placement
from kvatlas.cli.bench_verdicts import bench_verdicts
from kvatlas.cli.help import GroupedCommand

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Compare strategies on one workload.",
)


@app.callback()
def _bench() -> None:
    """Compare strategies on one workload."""


for _name, _verb, _short_help in (
    ("placement", bench_placement, "Which free blocks a request gets."),
    ("verdicts", bench_verdicts, "What small policies gain or lose."),
):
    app.command(_name, cls=GroupedCommand, short_help=_short_help)(_verb)
