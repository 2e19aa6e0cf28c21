"""`kvatlas policies`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`policies_run`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from kvatlas.cli.capacity_flags import (
    CAPACITIES,
    ENGINE,
    Arrivals,
    BlockSize,
    Capacities,
    CountPartial,
    Csv,
    Html,
    MaxModelLen,
    MaxNumBatchedTokens,
    MaxNumSeqs,
    PoliciesFlags,
    Trace,
)
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

__all__ = ["policies"]


def policies(
    trace: Trace = None,
    block_size: BlockSize = 16,
    capacities: Capacities = None,
    blocks: Annotated[
        int | None,
        option(
            "--blocks",
            help="The capacity that matters most, looked at besides the others; the knee of the "
            "LRU curve by default. Blocks of content (vLLM's null block not counted).",
            panel=CAPACITIES,
            metavar="N",
        ),
    ] = None,
    policies: Annotated[
        str | None,
        option(
            "--policies",
            help="Which eviction policies, all of them by default. LRU is always there.",
            panel=CAPACITIES,
            metavar="NAME,NAME,...",
        ),
    ] = None,
    count_partial: CountPartial = False,
    replays: Annotated[
        int,
        option(
            "--replays",
            help="At how many capacities to replay the engine itself with each policy (the one "
            "that matters most first).",
            panel=ENGINE,
            metavar="N",
        ),
    ] = 0,
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
    """Say whether another eviction policy would help: all of them between LRU and the optimum."""
    flags = PoliciesFlags(**locals())
    from kvatlas.cli.policies_run import run_policies

    raise typer.Exit(run_policies(flags))
