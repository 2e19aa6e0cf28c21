"""`kvatlas bench verdicts`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`bench_verdicts_run`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from kvatlas.cli.capacity_flags import (
    Arrivals,
    BlockSize,
    MaxModelLen,
    MaxNumBatchedTokens,
    MaxNumSeqs,
)
from kvatlas.cli.shared_flags import Json, Limit, option

__all__ = ["VerdictsFlags", "bench_verdicts"]

_POOL, _ENGINE = "Pool", "Engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictsFlags:
    """What the user gave; `None` where nothing was given."""

    traces: list[str] | None
    block_size: int
    blocks: int | None
    share: float | None
    policies: str | None
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    arrivals: str
    step_ms_base: float
    step_ms_per_ktok: float
    limit: int | None
    json: str | None


def bench_verdicts(
    traces: Annotated[
        list[str] | None,
        typer.Argument(
            help="Trace files, directories of sessions, or workloads' names, as for kvatlas "
            "replay. Without any, the built-in multi-turn conversation.",
            show_default=False,
        ),
    ] = None,
    block_size: BlockSize = 16,
    blocks: Annotated[
        int | None,
        option(
            "--blocks",
            help="Blocks in the pool for every trace, instead of --share.",
            panel=_POOL,
            metavar="N",
        ),
    ] = None,
    share: Annotated[
        float | None,
        option(
            "--share",
            help="The pool's size: a share of the blocks that running requests hold at most when "
            "there is memory in plenty; 0.5 by default.",
            panel=_POOL,
            metavar="SHARE",
        ),
    ] = None,
    policies: Annotated[
        str | None,
        option(
            "--policies",
            help="Which small policies, all of them by default.",
            panel=_ENGINE,
            metavar="NAME,NAME,...",
        ),
    ] = None,
    max_num_seqs: MaxNumSeqs = 256,
    max_num_batched_tokens: MaxNumBatchedTokens = 8192,
    max_model_len: MaxModelLen = 131072,
    arrivals: Arrivals = "timed",
    step_ms_base: Annotated[
        float,
        option(
            "--step-ms-base",
            help="Milliseconds of a step, whatever it does.",
            panel=_ENGINE,
            metavar="MS",
        ),
    ] = 8.0,
    step_ms_per_ktok: Annotated[
        float,
        option(
            "--step-ms-per-ktok", help="And per 1,000 tokens in it.", panel=_ENGINE, metavar="MS"
        ),
    ] = 12.0,
    limit: Limit = None,
    json: Json = None,
) -> None:
    """Say of each small policy for short memory what it gains or loses, trace by trace."""
    flags = VerdictsFlags(**locals())
    from kvatlas.cli.bench_verdicts_run import run_verdicts

    raise typer.Exit(run_verdicts(flags))
