"""The flags of `kvatlas replay`, and what the user gave to them.

Owns: names, defaults and help of the flags, which others script against; those of an engine's
settings come from `kvatlas.engine.settings`. Leaves to others: what they mean (`engines`), the run
(`replay_run`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from kvatlas.cli.block_size_words import parsed_block_size
from kvatlas.cli.reading_flags import ReadingFlags
from kvatlas.cli.shared_flags import OUTPUT, Json, option
from kvatlas.cli.taking import setting_flag
from kvatlas.engine.settings import POOL, TIER

__all__ = ["ENGINE", "ReplayFlags"]

ENGINE = "Engine"
"""The group of flags that say whose rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayFlags(ReadingFlags):
    """The flags; `None` where nothing was given and the default depends on other flags.

    `given` names those that the user typed: a recording has settings of its own for the others.
    """

    trace: Annotated[
        str | None,
        typer.Argument(
            help="A trace file (JSONL, CSV, Parquet; also .gz, .zst), a directory of sessions, the "
            "name of a workload that `kvatlas traces list` shows, or a recording: then its load, "
            "under its own settings where no flag says otherwise. Without it, the built-in "
            "multi-turn conversation.",
            show_default=False,
        ),
    ] = None
    engine: Annotated[
        str,
        option("--engine", help="Whose rules.", panel=ENGINE, metavar="[vllm|nano-vllm]"),
    ] = "vllm"
    engine_version: Annotated[
        str | None,
        option(
            "--engine-version",
            help="Which version of them: 0.32 or pre-42656 for vllm, bb823b3 or 9e8507e for "
            "nano-vllm. The first by default.",
            panel=ENGINE,
            metavar="VERSION",
        ),
    ] = None
    blocks: Annotated[
        int | None,
        option(
            "--blocks",
            help="Blocks in the pool, as the engine counts them (vLLM's null block included). "
            "Room for 320,000 tokens by default: 20,000 blocks of 16.",
            panel=POOL,
            metavar="N",
        ),
    ] = None
    kv_memory: Annotated[
        str | None,
        option(
            "--kv-memory",
            help="Bytes for the KV cache instead of --blocks, such as 40GiB; needs --model.",
            panel=POOL,
            metavar="BYTES",
        ),
    ] = None
    model: Annotated[
        str | None,
        option(
            "--model",
            help="A config.json, its directory, or a model's name; its layers decide the KV cache "
            "groups.",
            panel=POOL,
            metavar="CONFIG",
        ),
    ] = None
    block_size: Annotated[
        int | None,
        option(
            "--block-size",
            help="Tokens per block: 16 by default, 256 for nano-vllm. With auto, chosen from the "
            "trace's lengths and prefixes; what other flags count in blocks of 16 stays the same "
            "memory.",
            panel=POOL,
            metavar="[TOKENS|auto]",
            parser=parsed_block_size,
        ),
    ] = None
    prefix_caching: bool = setting_flag("prefix_caching")
    eviction: str = setting_flag("eviction_policy")
    placement: str = setting_flag("placement")
    host_memory: Annotated[
        str | None,
        option(
            "--host-memory",
            help="Bytes of host memory, such as 64GiB, for blocks that leave the device; what is "
            "found there extends a prompt's hit.",
            panel=TIER,
            metavar="BYTES",
        ),
    ] = None
    host_blocks: int = setting_flag("host_blocks")
    host_policy: str = setting_flag("host_policy")
    host_write_back: str = setting_flag("host_write_back")
    host_bandwidth: str | None = setting_flag("host_bandwidth")
    host_block_bytes: str | None = setting_flag("host_block_bytes")
    swap: str = setting_flag("swap")
    memory_budget: Annotated[
        str | None,
        option(
            "--memory-budget",
            help="One budget for the device's blocks and a host tier, such as 640GiB, instead of a "
            "size for each: divided anew as the replay goes on by what would have been hit. "
            "--blocks or --kv-memory says how the device starts; half of it by default.",
            panel=TIER,
            metavar="BYTES",
        ),
    ] = None
    device_price: Annotated[
        float,
        option(
            "--device-price",
            help="What a byte on the device takes of the budget; one on the host takes 1.",
            panel=TIER,
            metavar="N",
        ),
    ] = 1.0
    budget_interval: Annotated[
        int,
        option(
            "--budget-interval",
            help="Admissions from one look at the division to the next; 0 to keep the first.",
            panel=TIER,
            metavar="N",
        ),
    ] = 64
    budget_step: Annotated[
        float,
        option(
            "--budget-step",
            help="Share of the budget that moves at a time.",
            panel=TIER,
            metavar="SHARE",
        ),
    ] = 1 / 32
    budget_least_gain: Annotated[
        float,
        option(
            "--budget-least-gain",
            help="Share of the time saved that a move must add.",
            panel=TIER,
            metavar="SHARE",
        ),
    ] = 0.01
    max_num_seqs: int = setting_flag("max_num_seqs")
    max_num_batched_tokens: int = setting_flag("max_num_batched_tokens")
    max_model_len: int = setting_flag("max_model_len")
    policy: str = setting_flag("policy")
    watermark: float = setting_flag("watermark")
    reserve_full_isl: bool = setting_flag("reserve_full_isl")
    long_prefill_token_threshold: int = setting_flag("long_prefill_token_threshold")
    async_scheduling: bool = setting_flag("async_scheduling")
    forget_uncomputed: bool = setting_flag("forget_uncomputed")
    lazy_free_steps: int = setting_flag("lazy_free_steps")
    protect_waiting: int = setting_flag("protect_waiting")
    preallocate_blocks: int = setting_flag("preallocate_blocks")
    preallocate_predicted: bool = setting_flag("preallocate_predicted")
    admission_growth: float = setting_flag("admission_growth")
    arrivals: str = setting_flag("arrivals")
    queue_depth: int = setting_flag("queue_depth")
    step_ms_base: float = setting_flag("step_ms_base")
    step_ms_per_ktok: float = setting_flag("step_ms_per_ktok")
    block_like_vllm: bool = setting_flag("block_like_vllm")
    json: Json = None
    html: Annotated[
        str | None,
        option("--html", help="Write the report as one HTML page.", panel=OUTPUT, metavar="PATH"),
    ] = None
    checksum: Annotated[
        bool,
        option(
            "--checksum", help="Add checksums of all decisions and of the free queue.", panel=OUTPUT
        ),
    ] = False
    events: Annotated[
        str | None,
        option(
            "--events",
            help="Record everything that changes memory: Parquet, or an Arrow stream, readable up "
            "to any cut, when PATH ends in .arrows.",
            panel=OUTPUT,
            metavar="PATH",
        ),
    ] = None
    given: frozenset[str] = frozenset()
