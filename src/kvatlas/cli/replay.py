"""`kvatlas replay`: the flags.

Owns: names, defaults and help of the flags, which others script against. Leaves to others: what
they mean for an engine (`engines`) and the run itself (`replay_run`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

__all__ = ["ReplayFlags", "replay"]

_ENGINE, _POOL, _SCHEDULER = "Engine", "Pool", "Scheduler"
_CLOCK, _TRACE, _OUTPUT = "Arrivals and clock", "Reading the trace", "Output"


def _option(*names: str, help: str, panel: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, metavar=metavar)


def _switch(name: str, *, on: bool, help: str, panel: str) -> Any:
    return typer.Option(
        f"--{name}/--no-{name}", help=help, rich_help_panel=panel, show_default="on" if on else "off"
    )


@dataclass(frozen=True, slots=True)
class ReplayFlags:
    """What the user gave, by the names of the flags; `None` where a default depends on others."""

    trace: str | None
    engine: str
    engine_version: str | None
    blocks: int | None
    kv_memory: str | None
    model: str | None
    block_size: int | None
    prefix_caching: bool
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    policy: str
    watermark: float
    reserve_full_isl: bool
    long_prefill_token_threshold: int
    async_scheduling: bool
    arrivals: str
    queue_depth: int
    step_ms_base: float
    step_ms_per_ktok: float
    block_like_vllm: bool
    format: str | None
    limit: int | None
    seed: int | None
    sort: bool
    last_block: str | None
    tokens_per_id: int | None
    identity_tokens: int | None
    json: str | None
    html: str | None
    checksum: bool
    events: str | None


def replay(
    trace: Annotated[
        str | None,
        typer.Argument(
            help="A trace file (JSONL, CSV, Parquet; also .gz, .zst), a directory of sessions, or "
            "the name of a workload that `kvatlas traces list` shows. Without it, the built-in "
            "multi-turn conversation.",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        str,
        _option("--engine", help="Whose rules.", panel=_ENGINE, metavar="[vllm|nano-vllm]"),
    ] = "vllm",
    engine_version: Annotated[
        str | None,
        _option(
            "--engine-version",
            help="Which version of them: 0.32 or pre-42656 for vllm, bb823b3 or 9e8507e for "
            "nano-vllm. The first by default.",
            panel=_ENGINE,
            metavar="VERSION",
        ),
    ] = None,
    blocks: Annotated[
        int | None,
        _option(
            "--blocks",
            help="Blocks in the pool, as the engine counts them (vLLM's null block included). "
            "Room for 320,000 tokens by default: 20,000 blocks of 16.",
            panel=_POOL,
            metavar="N",
        ),
    ] = None,
    kv_memory: Annotated[
        str | None,
        _option(
            "--kv-memory",
            help="Bytes for the KV cache instead of --blocks, such as 40GiB; needs --model.",
            panel=_POOL,
            metavar="BYTES",
        ),
    ] = None,
    model: Annotated[
        str | None,
        _option(
            "--model",
            help="A config.json, its directory, or a model's name; its layers decide the KV cache "
            "groups.",
            panel=_POOL,
            metavar="CONFIG",
        ),
    ] = None,
    block_size: Annotated[
        int | None,
        _option(
            "--block-size",
            help="Tokens per block: 16 by default, 256 for nano-vllm.",
            panel=_POOL,
            metavar="TOKENS",
        ),
    ] = None,
    prefix_caching: Annotated[
        bool,
        _switch("prefix-caching", on=True, help="Reuse equal prefixes.", panel=_POOL),
    ] = True,
    max_num_seqs: Annotated[
        int,
        _option("--max-num-seqs", help="Requests that run at once.", panel=_SCHEDULER, metavar="N"),
    ] = 256,
    max_num_batched_tokens: Annotated[
        int,
        _option(
            "--max-num-batched-tokens", help="Tokens per step.", panel=_SCHEDULER, metavar="N"
        ),
    ] = 8192,
    max_model_len: Annotated[
        int,
        _option(
            "--max-model-len",
            help="Tokens of prompt and answer at which a request ends.",
            panel=_SCHEDULER,
            metavar="TOKENS",
        ),
    ] = 131072,
    policy: Annotated[
        str,
        _option(
            "--policy", help="Who is admitted first.", panel=_SCHEDULER, metavar="[fcfs|priority]"
        ),
    ] = "fcfs",
    watermark: Annotated[
        float,
        _option(
            "--watermark",
            help="Share of the pool that admission keeps free.",
            panel=_SCHEDULER,
            metavar="SHARE",
        ),
    ] = 0.0,
    reserve_full_isl: Annotated[
        bool,
        _switch(
            "reserve-full-isl",
            on=True,
            help="Admit a request only when its whole prompt fits.",
            panel=_SCHEDULER,
        ),
    ] = True,
    long_prefill_token_threshold: Annotated[
        int,
        _option(
            "--long-prefill-token-threshold",
            help="Most prompt tokens of one request in a step; 0 for no such limit.",
            panel=_SCHEDULER,
            metavar="N",
        ),
    ] = 0,
    async_scheduling: Annotated[
        bool,
        _switch(
            "async-scheduling",
            on=False,
            help="Schedule a step ahead of the last one's output.",
            panel=_SCHEDULER,
        ),
    ] = False,
    arrivals: Annotated[
        str,
        _option(
            "--arrivals",
            help="Keep a backlog waiting, or let requests come at their own times.",
            panel=_CLOCK,
            metavar="[backlog|timed]",
        ),
    ] = "backlog",
    queue_depth: Annotated[
        int,
        _option(
            "--queue-depth", help="Requests that wait in a backlog.", panel=_CLOCK, metavar="N"
        ),
    ] = 256,
    step_ms_base: Annotated[
        float,
        _option(
            "--step-ms-base", help="Milliseconds of a step, whatever it does.", panel=_CLOCK,
            metavar="MS",
        ),
    ] = 8.0,
    step_ms_per_ktok: Annotated[
        float,
        _option(
            "--step-ms-per-ktok", help="And per 1,000 tokens in it.", panel=_CLOCK, metavar="MS"
        ),
    ] = 12.0,
    block_like_vllm: Annotated[
        bool,
        _option(
            "--block-like-vllm",
            help="Let a request that can never fit block the queue for ever, as vLLM does, instead "
            "of setting it aside.",
            panel=_CLOCK,
        ),
    ] = False,
    format: Annotated[
        str | None,
        _option(
            "--format", help="Force a format that is not detected.", panel=_TRACE, metavar="NAME"
        ),
    ] = None,
    limit: Annotated[
        int | None,
        _option("--limit", help="The first N requests only.", panel=_TRACE, metavar="N"),
    ] = None,
    seed: Annotated[
        int | None,
        _option(
            "--seed",
            help="Seed of a built-in workload, or of the times at which recorded sessions start.",
            panel=_TRACE,
            metavar="N",
        ),
    ] = None,
    sort: Annotated[
        bool,
        _option(
            "--sort",
            help="Order requests by arrival instead of refusing a disorderly file.",
            panel=_TRACE,
        ),
    ] = False,
    last_block: Annotated[
        str | None,
        _option(
            "--last-block",
            help="Whether a prompt's partial last block has a hash id.",
            panel=_TRACE,
            metavar="[kept|dropped|either]",
        ),
    ] = None,
    tokens_per_id: Annotated[
        int | None,
        _option("--tokens-per-id", help="Tokens per hash id.", panel=_TRACE, metavar="TOKENS"),
    ] = None,
    identity_tokens: Annotated[
        int | None,
        _option(
            "--identity-tokens",
            help="Tokens per block that token ids are cut into: the engine's by default.",
            panel=_TRACE,
            metavar="TOKENS",
        ),
    ] = None,
    json: Annotated[
        str | None,
        _option(
            "--json", help="Write the report as JSON; - for standard output.", panel=_OUTPUT,
            metavar="PATH",
        ),
    ] = None,
    html: Annotated[
        str | None,
        _option("--html", help="Write the report as one HTML page.", panel=_OUTPUT, metavar="PATH"),
    ] = None,
    checksum: Annotated[
        bool,
        _option(
            "--checksum", help="Add checksums of all decisions and of the free queue.", panel=_OUTPUT
        ),
    ] = False,
    events: Annotated[str | None, typer.Option("--events", hidden=True)] = None,
) -> None:
    """Replay a trace through an exact twin of the engine's scheduler and KV memory."""
    flags = ReplayFlags(**locals())
    from kvatlas.cli.replay_run import run_replay

    raise typer.Exit(run_replay(flags))
