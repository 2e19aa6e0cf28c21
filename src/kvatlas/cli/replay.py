"""`kvatlas replay`: the verb.

Owns: its sentence. Leaves to others: the flags (`replay_flags`) and the run (`replay_run`).
"""

from __future__ import annotations

import typer

from kvatlas.cli.replay_flags import ENGINE, ReplayFlags
from kvatlas.cli.taking import takes
from kvatlas.engine.settings import CLOCK, POOL, PRESSURE, SCHEDULER, TIER

__all__ = ["replay"]


@takes(ReplayFlags, panels=(ENGINE, POOL, TIER, SCHEDULER, PRESSURE, CLOCK))
def replay(flags: ReplayFlags) -> None:
    """Replay a trace through an exact twin of the engine's scheduler and KV memory."""
    from kvatlas.cli.replay_run import run_replay

    raise typer.Exit(run_replay(flags))
