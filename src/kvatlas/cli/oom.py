"""`kvatlas oom`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`oom_run`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from kvatlas.cli.shared_flags import OUTPUT, option

__all__ = ["OomFlags", "oom"]

_FAILURE, _BLOCKS = "The failure", "What a KV block takes"


@dataclass(frozen=True, slots=True, kw_only=True)
class OomFlags:
    """What the user gave; `None` where nothing was given."""

    source: str
    snapshot: str | None
    device: int | None
    memory: str | None
    model: str | None
    block_bytes: str | None
    block_size: int | None
    kv_cache_dtype: str | None
    tensor_parallel_size: int | None
    json: str | None


def oom(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SNAPSHOT|LOG",
            help="A memory snapshot, or the log of a server that died; - reads a log from "
            "standard input.",
        ),
    ],
    snapshot: Annotated[
        str | None,
        option(
            "--snapshot",
            help="The memory snapshot that belongs to the log.",
            panel=_FAILURE,
            metavar="PATH",
        ),
    ] = None,
    device: Annotated[
        int | None,
        option(
            "--device",
            help="Which GPU, where several failed or are in the snapshot.",
            panel=_FAILURE,
            metavar="N",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        option(
            "--memory",
            help="Explain what would happen in so much memory for PyTorch, such as 40GiB, instead "
            "of the recorded failure.",
            panel=_FAILURE,
            metavar="SIZE",
        ),
    ] = None,
    model: Annotated[
        str | None,
        option(
            "--model",
            help="Say costs in this model's KV blocks: a config.json, its folder, or a known name.",
            panel=_BLOCKS,
            metavar="MODEL",
        ),
    ] = None,
    block_bytes: Annotated[
        str | None,
        option(
            "--block-bytes",
            help="Bytes of one KV block on one rank, instead of --model.",
            panel=_BLOCKS,
            metavar="SIZE",
        ),
    ] = None,
    block_size: Annotated[
        int | None,
        option(
            "--block-size",
            help="Tokens per block of --model; 16 by default, 64 with MLA.",
            panel=_BLOCKS,
            metavar="TOKENS",
        ),
    ] = None,
    kv_cache_dtype: Annotated[
        str | None,
        option(
            "--kv-cache-dtype",
            help="Of keys and values of --model; auto by default.",
            panel=_BLOCKS,
            metavar="DTYPE",
        ),
    ] = None,
    tensor_parallel_size: Annotated[
        int | None,
        option(
            "--tensor-parallel-size",
            "--tp",
            help="Ranks that share each layer of --model; 1, or as the log says.",
            panel=_BLOCKS,
            metavar="N",
        ),
    ] = None,
    json: Annotated[
        str | None,
        option(
            "--json",
            help="Write the report as JSON; - for standard output.",
            panel=OUTPUT,
            metavar="PATH",
        ),
    ] = None,
) -> None:
    """Explain an out-of-memory error: why it came, who pins what, what to change, what it costs."""
    flags = OomFlags(**locals())
    from kvatlas.cli.oom_run import run_oom

    raise typer.Exit(run_oom(flags))
