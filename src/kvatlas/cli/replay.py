"""`kvatlas replay`: the flags.

Owns: names, defaults and help of the flags, which others script against. Leaves to others: what
they mean for an engine (`engines`) and the run itself (`replay_run`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from kvatlas.cli.replay_flags import ReplayFlags
from kvatlas.cli.shared_flags import (
    OUTPUT,
    Format,
    IdentityTokens,
    Json,
    LastBlock,
    Limit,
    Seed,
    Sort,
    TokensPerId,
    option,
    switch,
)

__all__ = ["replay"]

_ENGINE, _POOL, _SCHEDULER = "Engine", "Pool", "Scheduler"
_TIER, _CLOCK = "Host tier", "Arrivals and clock"
_PRESSURE = "When memory is short (not vLLM's own)"


def replay(
    ctx: typer.Context,
    trace: Annotated[
        str | None,
        typer.Argument(
            help="A trace file (JSONL, CSV, Parquet; also .gz, .zst), a directory of sessions, the "
            "name of a workload that `kvatlas traces list` shows, or a recording: then its load, "
            "under its own settings where no flag says otherwise. Without it, the built-in "
            "multi-turn conversation.",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        str,
        option("--engine", help="Whose rules.", panel=_ENGINE, metavar="[vllm|nano-vllm]"),
    ] = "vllm",
    engine_version: Annotated[
        str | None,
        option(
            "--engine-version",
            help="Which version of them: 0.32 or pre-42656 for vllm, bb823b3 or 9e8507e for "
            "nano-vllm. The first by default.",
            panel=_ENGINE,
            metavar="VERSION",
        ),
    ] = None,
    blocks: Annotated[
        int | None,
        option(
            "--blocks",
            help="Blocks in the pool, as the engine counts them (vLLM's null block included). "
            "Room for 320,000 tokens by default: 20,000 blocks of 16.",
            panel=_POOL,
            metavar="N",
        ),
    ] = None,
    kv_memory: Annotated[
        str | None,
        option(
            "--kv-memory",
            help="Bytes for the KV cache instead of --blocks, such as 40GiB; needs --model.",
            panel=_POOL,
            metavar="BYTES",
        ),
    ] = None,
    model: Annotated[
        str | None,
        option(
            "--model",
            help="A config.json, its directory, or a model's name; its layers decide the KV cache "
            "groups.",
            panel=_POOL,
            metavar="CONFIG",
        ),
    ] = None,
    block_size: Annotated[
        int | None,
        option(
            "--block-size",
            help="Tokens per block: 16 by default, 256 for nano-vllm.",
            panel=_POOL,
            metavar="TOKENS",
        ),
    ] = None,
    prefix_caching: Annotated[
        bool,
        switch("prefix-caching", on=True, help="Reuse equal prefixes.", panel=_POOL),
    ] = True,
    eviction: Annotated[
        str,
        option(
            "--eviction",
            help="Who is evicted: lru, as in vLLM, or another policy that `kvatlas policies` "
            "compares.",
            panel=_POOL,
            metavar="NAME",
        ),
    ] = "lru",
    placement: Annotated[
        str,
        option(
            "--placement",
            help="Which free blocks a request gets: queue, as in vLLM, sorted, window, or another "
            "of kvatlas.placement.",
            panel=_POOL,
            metavar="NAME",
        ),
    ] = "queue",
    host_memory: Annotated[
        str | None,
        option(
            "--host-memory",
            help="Bytes of host memory, such as 64GiB, for blocks that leave the device; what is "
            "found there extends a prompt's hit.",
            panel=_TIER,
            metavar="BYTES",
        ),
    ] = None,
    host_blocks: Annotated[
        int,
        option(
            "--host-blocks", help="The same in blocks; 0 for no tier.", panel=_TIER, metavar="N"
        ),
    ] = 0,
    host_policy: Annotated[
        str,
        option(
            "--host-policy",
            help="Who leaves the host tier: lru, or another eviction policy.",
            panel=_TIER,
            metavar="NAME",
        ),
    ] = "lru",
    host_write_back: Annotated[
        str,
        option(
            "--host-write-back",
            help="When blocks are written there: when they lose their content, whenever a request "
            "gives them back, or only at a preemption.",
            panel=_TIER,
            metavar="[evict|free|preempt]",
        ),
    ] = "evict",
    host_bandwidth: Annotated[
        str | None,
        option(
            "--host-bandwidth",
            help="Bytes per second to the host and back, such as 25GB/s; without it moving blocks "
            "takes no time.",
            panel=_TIER,
            metavar="BYTES/S",
        ),
    ] = None,
    host_block_bytes: Annotated[
        str | None,
        option(
            "--host-block-bytes",
            help="Bytes of a block in all layers, such as 2MiB, where no --model says it.",
            panel=_TIER,
            metavar="BYTES",
        ),
    ] = None,
    swap: Annotated[
        str,
        option(
            "--swap",
            help="Bring blocks back only where that is sooner than computing them again, always, "
            "or never after a preemption.",
            panel=_TIER,
            metavar="[auto|always|never]",
        ),
    ] = "auto",
    max_num_seqs: Annotated[
        int,
        option("--max-num-seqs", help="Requests that run at once.", panel=_SCHEDULER, metavar="N"),
    ] = 256,
    max_num_batched_tokens: Annotated[
        int,
        option("--max-num-batched-tokens", help="Tokens per step.", panel=_SCHEDULER, metavar="N"),
    ] = 8192,
    max_model_len: Annotated[
        int,
        option(
            "--max-model-len",
            help="Tokens of prompt and answer at which a request ends.",
            panel=_SCHEDULER,
            metavar="TOKENS",
        ),
    ] = 131072,
    policy: Annotated[
        str,
        option(
            "--policy", help="Who is admitted first.", panel=_SCHEDULER, metavar="[fcfs|priority]"
        ),
    ] = "fcfs",
    watermark: Annotated[
        float,
        option(
            "--watermark",
            help="Share of the pool that admission keeps free.",
            panel=_SCHEDULER,
            metavar="SHARE",
        ),
    ] = 0.0,
    reserve_full_isl: Annotated[
        bool,
        switch(
            "reserve-full-isl",
            on=True,
            help="Admit a request only when its whole prompt fits.",
            panel=_SCHEDULER,
        ),
    ] = True,
    long_prefill_token_threshold: Annotated[
        int,
        option(
            "--long-prefill-token-threshold",
            help="Most prompt tokens of one request in a step; 0 for no such limit.",
            panel=_SCHEDULER,
            metavar="N",
        ),
    ] = 0,
    async_scheduling: Annotated[
        bool,
        switch(
            "async-scheduling",
            on=False,
            help="Schedule a step ahead of the last one's output.",
            panel=_SCHEDULER,
        ),
    ] = False,
    lazy_free_steps: Annotated[
        int,
        option(
            "--lazy-free-steps",
            help="Steps that a finished request keeps its blocks, unless somebody needs them.",
            panel=_PRESSURE,
            metavar="N",
        ),
    ] = 0,
    protect_waiting: Annotated[
        int,
        option(
            "--protect-waiting",
            help="Of so many waiting requests, keep what they will hit from eviction.",
            panel=_PRESSURE,
            metavar="N",
        ),
    ] = 0,
    preallocate_blocks: Annotated[
        int,
        option(
            "--preallocate-blocks",
            help="Blocks that a decoding request takes ahead while they are free.",
            panel=_PRESSURE,
            metavar="N",
        ),
    ] = 0,
    preallocate_predicted: Annotated[
        bool,
        switch(
            "preallocate-predicted",
            on=False,
            help="Take them up to the end of the answer, as predicted from finished ones, and not "
            "beyond.",
            panel=_PRESSURE,
        ),
    ] = False,
    admission_growth: Annotated[
        float,
        option(
            "--admission-growth",
            help="Share of the predicted growth of what runs that admission leaves free.",
            panel=_PRESSURE,
            metavar="SHARE",
        ),
    ] = 0.0,
    arrivals: Annotated[
        str,
        option(
            "--arrivals",
            help="Keep a backlog waiting, or let requests come at their own times.",
            panel=_CLOCK,
            metavar="[backlog|timed]",
        ),
    ] = "backlog",
    queue_depth: Annotated[
        int,
        option("--queue-depth", help="Requests that wait in a backlog.", panel=_CLOCK, metavar="N"),
    ] = 256,
    step_ms_base: Annotated[
        float,
        option(
            "--step-ms-base",
            help="Milliseconds of a step, whatever it does.",
            panel=_CLOCK,
            metavar="MS",
        ),
    ] = 8.0,
    step_ms_per_ktok: Annotated[
        float,
        option(
            "--step-ms-per-ktok", help="And per 1,000 tokens in it.", panel=_CLOCK, metavar="MS"
        ),
    ] = 12.0,
    block_like_vllm: Annotated[
        bool,
        option(
            "--block-like-vllm",
            help="Let a request that can never fit block the queue for ever, as vLLM does, instead "
            "of setting it aside.",
            panel=_CLOCK,
        ),
    ] = False,
    format: Format = None,
    limit: Limit = None,
    seed: Seed = None,
    sort: Sort = False,
    last_block: LastBlock = None,
    tokens_per_id: TokensPerId = None,
    identity_tokens: IdentityTokens = None,
    json: Json = None,
    html: Annotated[
        str | None,
        option("--html", help="Write the report as one HTML page.", panel=OUTPUT, metavar="PATH"),
    ] = None,
    checksum: Annotated[
        bool,
        option(
            "--checksum", help="Add checksums of all decisions and of the free queue.", panel=OUTPUT
        ),
    ] = False,
    events: Annotated[
        str | None,
        option(
            "--events",
            help="Record everything that changes memory: Parquet, or an Arrow stream, readable up "
            "to any cut, when PATH ends in .arrows.",
            panel=OUTPUT,
            metavar="PATH",
        ),
    ] = None,
) -> None:
    """Replay a trace through an exact twin of the engine's scheduler and KV memory."""
    values = {name: value for name, value in locals().items() if name != "ctx"}
    typed = (name for name in values if _is_typed(ctx, name))
    flags = ReplayFlags(**values, given=frozenset(typed))
    from kvatlas.cli.replay_run import run_replay

    raise typer.Exit(run_replay(flags))


def _is_typed(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
