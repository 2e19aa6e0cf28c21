"""`kvatlas bench`: strategies side by side; a verb of its own for each kind.

Owns: what is registered under which name. Leaves to others: the verbs (`bench_verdicts`).
"""

from __future__ import annotations

import typer

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


app.command("verdicts", cls=GroupedCommand, short_help="What small policies gain or lose.")(
    bench_verdicts
)
