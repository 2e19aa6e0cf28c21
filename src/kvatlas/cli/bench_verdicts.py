"""`kvatlas bench verdicts`: the verb.

Owns: its name in the help. Leaves to others: the flags (`bench_verdicts_flags`), what happens
(`bench_verdicts_run`).
"""

from __future__ import annotations

import typer

from kvatlas.cli.bench_verdicts_flags import VerdictsFlags
from kvatlas.cli.taking import takes

__all__ = ["bench_verdicts"]


@takes(VerdictsFlags)
def bench_verdicts(flags: VerdictsFlags) -> None:
    """Say of each small policy for short memory what it gains or loses, trace by trace."""
    from kvatlas.cli.bench_verdicts_run import run_verdicts

    raise typer.Exit(run_verdicts(flags))
