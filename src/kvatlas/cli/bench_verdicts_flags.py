"""What `kvatlas bench verdicts` takes: its flags.

Owns: their names, defaults and help. Leaves to others: what happens (`bench_verdicts_run`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from kvatlas.cli.capacity_flags import ENGINE, BlockSize
from kvatlas.cli.shared_flags import Json, Limit, option
from kvatlas.cli.taking import setting_flag

__all__ = ["VerdictsFlags"]

_POOL, _ENGINE = "Pool", "Engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictsFlags:
    """What the user gave; `None` where nothing was given."""

    traces: Annotated[
        list[str] | None,
        typer.Argument(
            help="Trace files, directories of sessions, or workloads' names, as for kvatlas "
            "replay. Without any, the built-in multi-turn conversation.",
            show_default=False,
        ),
    ] = None
    block_size: BlockSize = 16
    blocks: Annotated[
        int | None,
        option(
            "--blocks",
            help="Blocks in the pool for every trace, instead of --share.",
            panel=_POOL,
            metavar="N",
        ),
    ] = None
    share: Annotated[
        float | None,
        option(
            "--share",
            help="The pool's size: a share of the blocks that running requests hold at most when "
            "there is memory in plenty; 0.5 by default.",
            panel=_POOL,
            metavar="SHARE",
        ),
    ] = None
    policies: Annotated[
        str | None,
        option(
            "--policies",
            help="Which small policies, all of them by default.",
            panel=_ENGINE,
            metavar="NAME,NAME,...",
        ),
    ] = None
    max_num_seqs: int = setting_flag("max_num_seqs", ENGINE)
    max_num_batched_tokens: int = setting_flag("max_num_batched_tokens", ENGINE)
    max_model_len: int = setting_flag("max_model_len", ENGINE)
    arrivals: str = setting_flag("arrivals", ENGINE, default="timed")
    step_ms_base: float = setting_flag("step_ms_base", _ENGINE)
    step_ms_per_ktok: float = setting_flag("step_ms_per_ktok", _ENGINE)
    limit: Limit = None
    json: Json = None
