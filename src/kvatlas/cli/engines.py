"""From flags to an engine: vLLM's or nano-vLLM's, its pool, and what its figures are held against.

Owns: defaults that depend on the engine, which flags an engine does not have, and errors that name
the flag. Leaves to others: the rules of the values (`EngineConfig`, `NanoConfig`, `DriveConfig`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, cast

from kvatlas.cli.replay import ReplayFlags
from kvatlas.engine.replay import Replay
from kvatlas.engine.results import DriveConfig
from kvatlas.engine.specs import (
    ChunkedLocalAttentionSpec,
    CrossAttentionSpec,
    EngineConfig,
    MambaSpec,
    SlidingWindowSpec,
)
from kvatlas.errors import InputError
from kvatlas.measure import Conditions
from kvatlas.units import format_bytes, parse_bytes
from kvatlas.workload import Workload

__all__ = ["DEFAULT_POOL_TOKENS", "EngineChoice", "choose_engine", "naming_flags"]

DEFAULT_POOL_TOKENS = 320_000
"""Tokens in the pool when nobody says: 20,000 of vLLM's blocks, 1,250 of nano-vLLM's."""

_BLOCK_SIZES = {"vllm": 16, "nano-vllm": 256}
_FLAG_OF_FIELD = {
    "num_blocks": "--blocks",
    "enable_prefix_caching": "--prefix-caching",
    "scheduler_reserve_full_isl": "--reserve-full-isl",
    "hash_block_size": "--block-size",
    "kv_cache_groups": "--model",
    "version": "--engine-version",
}
_FLAGS = {field.name for field in fields(ReplayFlags)}
_LARGEST = 2**31 - 1
_POOL_BYTES_PER_BLOCK = 104  # a record of 40 bytes, and up to four index slots of 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """An engine ready to be given a workload.

    Attributes:
        title: its name for people.
        config: vLLM's settings, or those of nano-vLLM's that have a counterpart.
        drive: how requests come.
        block_size: tokens per block that identities are cut into.
        pool: where the number of blocks comes from, by the keys of the JSON's `config`.
        notes: plain sentences that a user must read.
        build: makes the replay.
    """

    title: str
    config: EngineConfig
    drive: DriveConfig
    block_size: int
    version: str
    pool: dict[str, Any]
    notes: tuple[str, ...]
    is_nano: bool
    build: Callable[[Workload, bool], Replay]

    def conditions(self) -> Conditions:
        """Return what the figures are held against."""
        groups = self.config.groups
        only = groups[0] if len(groups) == 1 else None
        return Conditions(
            usable_blocks=self.config.num_blocks - 1,
            block_size=None if only is None else only.block_size,
            windowed=isinstance(only, SlidingWindowSpec | ChunkedLocalAttentionSpec),
            slots_hold_tokens=not isinstance(only, MambaSpec | CrossAttentionSpec),
            caching=self.config.enable_prefix_caching,
            timed=self.drive.arrivals == "timed",
            max_model_len=None if self.is_nano else self.config.max_model_len,
        )


@contextmanager
def naming_flags() -> Iterator[None]:
    """Let errors about a setting or an option name the flag that holds it."""
    try:
        yield
    except InputError as error:
        if error.line is None:
            if error.field in _FLAG_OF_FIELD:
                error.field = _FLAG_OF_FIELD[error.field]
            elif error.field in _FLAGS:
                error.field = "--" + error.field.replace("_", "-")
        raise


def choose_engine(flags: ReplayFlags) -> EngineChoice:
    """Return the engine that the flags describe. Raises: InputError naming the flag."""
    with naming_flags():
        if flags.engine not in _BLOCK_SIZES:
            raise InputError(
                "unknown engine", field="engine", value=flags.engine,
                remedy=f"use {' or '.join(_BLOCK_SIZES)}",
            )
        for name in ("blocks", "block_size", "max_num_seqs", "max_num_batched_tokens",
                     "max_model_len", "queue_depth", "long_prefill_token_threshold"):  # fmt: skip
            value = getattr(flags, name)
            if value is not None and value > _LARGEST:
                raise InputError("must be below 2**31", field=name, value=value)
        drive = DriveConfig(
            arrivals=cast(Any, flags.arrivals),
            queue_depth=flags.queue_depth,
            step_ms_base=flags.step_ms_base,
            step_ms_per_ktok=flags.step_ms_per_ktok,
            block_like_vllm=flags.block_like_vllm,
        )
        choice = _nano(flags, drive) if flags.engine == "nano-vllm" else _vllm(flags, drive)
        _require_memory(choice.config.num_blocks)
        return choice


def _require_memory(num_blocks: int) -> None:
    pool_bytes = num_blocks * _POOL_BYTES_PER_BLOCK
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if pool_bytes > machine_bytes:
        raise InputError(
            f"the books of this pool take {format_bytes(pool_bytes)}, more than this machine has",
            field="num_blocks", value=num_blocks, remedy="use fewer blocks",
        )


def _vllm(flags: ReplayFlags, drive: DriveConfig) -> EngineChoice:
    num_blocks, block_size, groups, pool, notes = _pool(flags)
    config = EngineConfig(
        num_blocks=num_blocks,
        block_size=block_size,
        kv_cache_groups=groups,
        max_num_seqs=flags.max_num_seqs,
        max_num_batched_tokens=flags.max_num_batched_tokens,
        max_model_len=flags.max_model_len,
        policy=cast(Any, flags.policy),
        watermark=flags.watermark,
        scheduler_reserve_full_isl=flags.reserve_full_isl,
        long_prefill_token_threshold=flags.long_prefill_token_threshold,
        enable_prefix_caching=flags.prefix_caching,
        async_scheduling=flags.async_scheduling,
        **({} if flags.engine_version is None else {"version": flags.engine_version}),
    )

    def build(workload: Workload, checksum: bool) -> Replay:
        # No more can run than there are, and each place takes room for the longest request.
        places = max(1, min(config.max_num_seqs, workload.num_requests))
        try:
            return Replay(workload, config.with_(max_num_seqs=places), drive, checksum=checksum)
        except InputError as error:
            if groups is not None and error.field == "block_size":
                error.remedy = (
                    f"with this model --block-size {flags.block_size or 16} means blocks of"
                    f" {block_size}: use --no-prefix-caching, or a trace with token ids"
                )
            raise

    return EngineChoice(
        title=f"vLLM {config.rule_set.version}",
        config=config,
        drive=drive,
        block_size=config.resolved_hash_block_size,
        version=config.rule_set.version,
        pool=pool,
        notes=notes,
        is_nano=False,
        build=build,
    )


def _nano(flags: ReplayFlags, drive: DriveConfig) -> EngineChoice:
    from kvatlas.engine.nano import NanoConfig, NanoReplay
    from kvatlas.engine.nano.build import engine_config

    _refuse_what_nano_lacks(flags)
    num_blocks, block_size, groups, pool, notes = _pool(flags)
    if groups is not None and (len(groups) > 1 or _forgets(groups[0])):
        raise InputError(
            "nano-vLLM serves models of full attention only", field="model", value=flags.model,
            remedy="leave out --engine nano-vllm",
        )
    config = NanoConfig(
        num_blocks=num_blocks,
        block_size=block_size,
        max_num_seqs=flags.max_num_seqs,
        max_num_batched_tokens=flags.max_num_batched_tokens,
        **({} if flags.engine_version is None else {"version": flags.engine_version}),
    )

    def build(workload: Workload, checksum: bool) -> Replay:
        return NanoReplay(workload, config, drive, checksum=checksum)

    return EngineChoice(
        title=f"nano-vLLM {config.rules.version}",
        config=engine_config(config, config.max_num_seqs),
        drive=drive,
        block_size=config.block_size,
        version=config.rules.version,
        pool=pool,
        notes=notes,
        is_nano=True,
        build=build,
    )


def _refuse_what_nano_lacks(flags: ReplayFlags) -> None:
    for name, value, harmless, what in (
        ("policy", flags.policy, "fcfs", "no priorities"),
        ("watermark", flags.watermark, 0.0, "no watermark"),
        ("reserve_full_isl", flags.reserve_full_isl, True, "no such switch"),
        ("long_prefill_token_threshold", flags.long_prefill_token_threshold, 0, "no such limit"),
        ("prefix_caching", flags.prefix_caching, True, "no switch for its prefix cache"),
        ("async_scheduling", flags.async_scheduling, False, "no async scheduling"),
        ("max_model_len", flags.max_model_len, 131072, "no limit on a request's length"),
    ):
        if value != harmless:
            raise InputError(
                f"nano-vLLM has {what}", field=name, value=value, remedy="leave the flag out"
            )


def _forgets(spec: object) -> bool:
    return isinstance(
        spec, SlidingWindowSpec | ChunkedLocalAttentionSpec | MambaSpec | CrossAttentionSpec
    )


def _pool(
    flags: ReplayFlags,
) -> tuple[int, int, tuple[Any, ...] | None, dict[str, Any], tuple[str, ...]]:
    """Return blocks, block size, groups (None: one of full attention), JSON keys, notes."""
    block_size = _BLOCK_SIZES[flags.engine] if flags.block_size is None else flags.block_size
    if block_size < 1:
        raise InputError("must be at least 1", field="block_size", value=block_size)
    said: dict[str, Any] = {"model": flags.model, "kv_memory_bytes": None,
                            "bytes_per_block": None, "bytes_per_token": None}  # fmt: skip
    if flags.kv_memory is None:
        if flags.model is not None:
            raise InputError(
                "a model says how many bytes a block takes, not how many blocks there are",
                field="model", value=flags.model, remedy="add --kv-memory, such as 40GiB",
            )
        if flags.blocks is not None:
            return flags.blocks, block_size, None, {"blocks_from": "--blocks", **said}, ()
        num_blocks = max(2, DEFAULT_POOL_TOKENS // block_size)
        note = (
            f"no --blocks given: {num_blocks:,} blocks, room for {num_blocks * block_size:,} tokens"
        )
        return num_blocks, block_size, None, {"blocks_from": "default", **said}, (note,)
    if flags.blocks is not None:
        raise InputError(
            "two sizes for one pool", field="kv_memory", value=flags.kv_memory,
            remedy="give either --blocks or --kv-memory",
        )
    if flags.model is None:
        raise InputError(
            "how many bytes a block takes depends on the model", field="kv_memory",
            value=flags.kv_memory, remedy="add --model",
        )
    from kvatlas.model import pool_from_memory

    plan = pool_from_memory(
        flags.kv_memory, flags.model, block_size,
        enable_prefix_caching=flags.prefix_caching, max_model_len=flags.max_model_len,
    )
    said |= {
        "blocks_from": "--kv-memory",
        "kv_memory_bytes": parse_bytes(flags.kv_memory),
        "bytes_per_block": plan.bytes_per_block,
        "bytes_per_token": plan.bytes_per_token,
    }
    return plan.num_blocks, plan.block_size, plan.groups, said, tuple(plan.notes)
