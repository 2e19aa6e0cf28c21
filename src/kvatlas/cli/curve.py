"""`kvatlas curve`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`curve_run`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from kvatlas.cli.capacity_flags import CAPACITIES, ENGINE, Capacities, CountPartial, StudyFlags
from kvatlas.cli.shared_flags import option
from kvatlas.cli.taking import takes

__all__ = ["CurveFlags", "curve"]

_MEMORY, _ADVICE = "Memory", "Advice"


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveFlags(StudyFlags):
    """What `kvatlas curve` takes."""

    capacities: Capacities = None
    points: Annotated[
        int | None,
        option(
            "--points",
            help="How many capacities to spread over the curve, instead of --capacities: 65 by "
            "default, and those that have a name (the knee, --blocks, tiers).",
            panel=CAPACITIES,
            metavar="N",
        ),
    ] = None
    all_points: Annotated[
        bool,
        option("--all", help="Every breakpoint of the curve instead.", panel=CAPACITIES),
    ] = False
    blocks: Annotated[
        int | None,
        option(
            "--blocks",
            help="The capacity to look at most closely: bounds and bottleneck there, in blocks of "
            "content (vLLM's null block not counted).",
            panel=CAPACITIES,
            metavar="N",
        ),
    ] = None
    count_partial: CountPartial = False
    with_outputs: Annotated[
        bool,
        option(
            "--with-outputs",
            help="Answers are cached too and take room, as in vLLM.",
            panel=CAPACITIES,
        ),
    ] = False
    model: Annotated[
        str | None,
        option(
            "--model",
            help="A config.json, its directory, or a model's name: says how many bytes a block "
            "takes.",
            panel=_MEMORY,
            metavar="CONFIG",
        ),
    ] = None
    kv_dtype: Annotated[
        str,
        option(
            "--kv-dtype",
            help="Of the KV cache, such as fp8; the model's own by default.",
            panel=_MEMORY,
            metavar="NAME",
        ),
    ] = "auto"
    hbm: Annotated[
        str | None,
        option(
            "--hbm",
            help="Bytes for the KV cache on the GPUs, such as 40GiB: a mark on the curve.",
            panel=_MEMORY,
            metavar="BYTES",
        ),
    ] = None
    host_memory: Annotated[
        str | None,
        option("--host-memory", help="And in host memory.", panel=_MEMORY, metavar="BYTES"),
    ] = None
    disk: Annotated[
        str | None, option("--disk", help="And on disk.", panel=_MEMORY, metavar="BYTES")
    ] = None
    prefill_share: Annotated[
        float,
        option(
            "--prefill-share",
            help="The share of prefill's time that a hit saves, for the ideal speed-up.",
            panel=_MEMORY,
            metavar="SHARE",
        ),
    ] = 1.0
    target: Annotated[
        str | None,
        option(
            "--target",
            help="Token hit rates wanted, in percent: how much capacity do they need? By default "
            "50, 80, 90, 95 and 99 % of the ceiling.",
            panel=_ADVICE,
            metavar="PCT,PCT,...",
        ),
    ] = None
    warm_up: Annotated[
        float,
        option(
            "--warm-up",
            help="Share of the requests that only fill the cache, for the second ceiling.",
            panel=_ADVICE,
            metavar="SHARE",
        ),
    ] = 0.1
    replays: Annotated[
        int,
        option(
            "--replays",
            help="At how many capacities to replay the engine itself (--blocks and the knee "
            "first).",
            panel=ENGINE,
            metavar="N",
        ),
    ] = 0


@takes(CurveFlags, panels=(CAPACITIES, _MEMORY, _ADVICE, ENGINE))
def curve(flags: CurveFlags) -> None:
    """Say how much KV memory a trace needs: exact hit rates at every capacity, and the optimum."""
    from kvatlas.cli.curve_run import run_curve

    raise typer.Exit(run_curve(flags))
