"""`kvatlas policies`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`policies_run`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from kvatlas.cli.capacity_flags import CAPACITIES, ENGINE, Capacities, CountPartial, StudyFlags
from kvatlas.cli.shared_flags import option
from kvatlas.cli.taking import takes

__all__ = ["PoliciesFlags", "policies"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoliciesFlags(StudyFlags):
    """What `kvatlas policies` takes."""

    capacities: Capacities = None
    blocks: Annotated[
        int | None,
        option(
            "--blocks",
            help="The capacity that matters most, looked at besides the others; the knee of the "
            "LRU curve by default. Blocks of content (vLLM's null block not counted).",
            panel=CAPACITIES,
            metavar="N",
        ),
    ] = None
    policies: Annotated[
        str | None,
        option(
            "--policies",
            help="Which eviction policies, all of them by default. LRU is always there.",
            panel=CAPACITIES,
            metavar="NAME,NAME,...",
        ),
    ] = None
    count_partial: CountPartial = False
    replays: Annotated[
        int,
        option(
            "--replays",
            help="At how many capacities to replay the engine itself with each policy (the one "
            "that matters most first).",
            panel=ENGINE,
            metavar="N",
        ),
    ] = 0


@takes(PoliciesFlags, panels=(CAPACITIES, ENGINE))
def policies(flags: PoliciesFlags) -> None:
    """Say whether another eviction policy would help: all of them between LRU and the optimum."""
    from kvatlas.cli.policies_run import run_policies

    raise typer.Exit(run_policies(flags))
