"""Flags that studies of one trace share (curve, policies, bench), and what the user gave to them.

Owns: their names, help and group; the fields. Leaves to others: the flags of one study (`curve`,
`policies`, `bench`), what they mean (`capacity_input`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from kvatlas.cli.block_size_words import parsed_tokens
from kvatlas.cli.reading_flags import ReadingFlags
from kvatlas.cli.shared_flags import OUTPUT, Json, option
from kvatlas.cli.taking import setting_flag

__all__ = [
    "CAPACITIES",
    "ENGINE",
    "BlockSize",
    "Capacities",
    "CountPartial",
    "Csv",
    "Html",
    "StudyFlags",
    "Trace",
]

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
    option(
        "--block-size",
        help="Tokens per block.",
        panel=CAPACITIES,
        metavar="TOKENS",
        parser=parsed_tokens,
    ),
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
class StudyFlags(ReadingFlags):
    """What every study of one trace takes; `None` where nothing was given."""

    trace: Trace = None
    block_size: BlockSize = 16
    max_num_seqs: int = setting_flag("max_num_seqs", ENGINE)
    max_num_batched_tokens: int = setting_flag("max_num_batched_tokens", ENGINE)
    max_model_len: int = setting_flag("max_model_len", ENGINE)
    arrivals: str = setting_flag("arrivals", ENGINE)
    json: Json = None
    csv: Csv = None
    html: Html = None
