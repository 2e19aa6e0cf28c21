"""`kvatlas bench`: strategies side by side on one workload; the flags.

Owns: names, defaults and help. Leaves to others: what happens (`bench_placement_run`), and the
verb `verdicts` (`bench_verdicts`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from kvatlas.cli.bench_flags import PlacementFlags
from kvatlas.cli.bench_verdicts import bench_verdicts
from kvatlas.cli.capacity_flags import (
    Arrivals,
    BlockSize,
    Csv,
    Html,
    MaxModelLen,
    MaxNumBatchedTokens,
    MaxNumSeqs,
    Trace,
)
from kvatlas.cli.help import GroupedCommand
from kvatlas.cli.shared_flags import (
    Format,
    IdentityTokens,
    Json,
    LastBlock,
    Limit,
    Seed,
    Sort,
    TokensPerId,
    option,
)

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Compare strategies on one workload.",
)

_PLACEMENT, _ENGINE = "Placement", "Full scheduler"


@app.callback()
def _bench() -> None:
    """Compare strategies on one workload."""


@app.command("placement", cls=GroupedCommand, short_help="Which free blocks a request gets.")
def bench_placement(
    trace: Trace = None,
    block_size: BlockSize = 16,
    blocks: Annotated[
        int | None,
        option(
            "--blocks",
            help="Blocks in the pool, vLLM's null block included, as for kvatlas replay. By "
            "default an eighth of the trace's different blocks, within bounds.",
            panel=_PLACEMENT,
            metavar="N",
        ),
    ] = None,
    policies: Annotated[
        str | None,
        option(
            "--policies",
            help="Which placement policies, all of them by default. The queue is always there.",
            panel=_PLACEMENT,
            metavar="NAME,NAME,...",
        ),
    ] = None,
    page_blocks: Annotated[
        int,
        option(
            "--page-blocks",
            help="Consecutive blocks that are mapped and released together. 32 blocks of 16 "
            "tokens are 2 MiB of one layer of Llama 3 8B.",
            panel=_PLACEMENT,
            metavar="N",
        ),
    ] = 32,
    copy_blocks: Annotated[
        int | None,
        option(
            "--copy-blocks",
            help="The most blocks that one copy descriptor may move; any number by default.",
            panel=_PLACEMENT,
            metavar="N",
        ),
    ] = None,
    scheduler: Annotated[
        bool,
        option(
            "--scheduler",
            help="Run them in the full scheduler too: many requests at once, chunked prompts, "
            "answers block by block.",
            panel=_ENGINE,
        ),
    ] = False,
    max_num_seqs: MaxNumSeqs = 256,
    max_num_batched_tokens: MaxNumBatchedTokens = 8192,
    max_model_len: MaxModelLen = 131072,
    arrivals: Arrivals = "backlog",
    format: Format = None,
    limit: Limit = None,
    seed: Seed = None,
    sort: Sort = False,
    last_block: LastBlock = None,
    tokens_per_id: TokensPerId = None,
    identity_tokens: IdentityTokens = None,
    json: Json = None,
    csv: Csv = None,
    html: Html = None,
) -> None:
    """Compare placement policies: runs per request, hits, time per block, free runs, pages."""
    flags = PlacementFlags(**locals())
    from kvatlas.cli.bench_placement_run import run_placement

    raise typer.Exit(run_placement(flags))


app.command("verdicts", cls=GroupedCommand, short_help="What small policies gain or lose.")(
    bench_verdicts
)
