"""Flags that studies of one trace share (curve, policies, bench), and what the user gave to them.

Owns: their names, help and group; the fields. Leaves to others: defaults (`curve`, `policies`,
`bench`), what they mean (`capacity_input`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvatlas.cli.shared_flags import OUTPUT, option

__all__ = [
    "CAPACITIES",
    "ENGINE",
    "Arrivals",
    "BlockSize",
    "Capacities",
    "CapacityFlags",
    "CountPartial",
    "Csv",
    "CurveFlags",
    "Html",
    "MaxModelLen",
    "MaxNumBatchedTokens",
    "MaxNumSeqs",
    "PoliciesFlags",
    "StudyFlags",
    "Trace",
]

import typer

CAPACITIES, ENGINE = "Capacity", "Engine replays"
"""Groups of flags."""

Trace = Annotated[
    str | None,
    typer.Argument(
        help="A trace file, a directory of sessions, or a workload's name, as for kvatlas replay. "
        "Its prefixes must be known. Without it, the built-in multi-turn conversation.",
        show_default=False,
    ),
]
BlockSize = Annotated[
    int,
    option("--block-size", help="Tokens per block.", panel=CAPACITIES, metavar="TOKENS"),
]
Capacities = Annotated[
    str | None,
    option(
        "--capacities",
        help="Blocks of content that fit, as a list: exactly these are computed.",
        panel=CAPACITIES,
        metavar="N,N,...",
    ),
]
CountPartial = Annotated[
    bool,
    option(
        "--count-partial",
        help="A prompt's partial last block is a block like the others, as in most papers; vLLM "
        "caches whole blocks only.",
        panel=CAPACITIES,
    ),
]
MaxNumSeqs = Annotated[
    int,
    option("--max-num-seqs", help="Requests that run at once.", panel=ENGINE, metavar="N"),
]
MaxNumBatchedTokens = Annotated[
    int,
    option("--max-num-batched-tokens", help="Tokens per step.", panel=ENGINE, metavar="N"),
]
MaxModelLen = Annotated[
    int,
    option(
        "--max-model-len",
        help="Tokens of prompt and answer at which a request ends.",
        panel=ENGINE,
        metavar="TOKENS",
    ),
]
Arrivals = Annotated[
    str,
    option(
        "--arrivals",
        help="Keep a backlog waiting, or let requests come at their own times.",
        panel=ENGINE,
        metavar="[backlog|timed]",
    ),
]
Csv = Annotated[
    str | None,
    option(
        "--csv",
        help="Write the numbers as one table; - for standard output.",
        panel=OUTPUT,
        metavar="PATH",
    ),
]
Html = Annotated[
    str | None,
    option("--html", help="Write the report as one HTML page.", panel=OUTPUT, metavar="PATH"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFlags:
    """What every study of one trace takes; `None` where nothing was given."""

    trace: str | None
    block_size: int
    blocks: int | None
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    arrivals: str
    format: str | None
    limit: int | None
    seed: int | None
    sort: bool
    last_block: str | None
    tokens_per_id: int | None
    identity_tokens: int | None
    json: str | None
    csv: str | None
    html: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityFlags(StudyFlags):
    """What `kvatlas curve` and `kvatlas policies` take."""

    capacities: str | None
    count_partial: bool
    replays: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveFlags(CapacityFlags):
    """What `kvatlas curve` takes."""

    points: int | None
    all_points: bool
    with_outputs: bool
    model: str | None
    kv_dtype: str
    hbm: str | None
    host_memory: str | None
    disk: str | None
    prefill_share: float
    target: str | None
    warm_up: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PoliciesFlags(CapacityFlags):
    """What `kvatlas policies` takes."""

    policies: str | None
