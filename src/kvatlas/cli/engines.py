"""From flags to an engine: vLLM's or nano-vLLM's, and what its figures are held against.

Owns: which flags an engine does not have. Leaves to others: the pool's size (`pools`), the rules of
the values (`EngineConfig`, `NanoConfig`, `DriveConfig`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvatlas.cli.flag_names import naming_flags
from kvatlas.cli.host_tier import host_settings, naming_host_memory
from kvatlas.cli.memory_budget import choose_budget
from kvatlas.cli.pools import BLOCK_SIZES, PoolChoice, choose_pool
from kvatlas.cli.replay_flags import ReplayFlags
from kvatlas.engine.config import EngineConfig
from kvatlas.engine.replay import Replay
from kvatlas.engine.results import DriveConfig
from kvatlas.engine.setting import Setting
from kvatlas.engine.settings import DRIVE_SETTINGS, ENGINE_SETTINGS, PRESSURE, TIER
from kvatlas.engine.specs import (
    ChunkedLocalAttentionSpec,
    CrossAttentionSpec,
    MambaSpec,
    SlidingWindowSpec,
)
from kvatlas.engine.versions import VLLM_VERSIONS
from kvatlas.errors import InputError
from kvatlas.measure import Conditions
from kvatlas.workload import Workload

if TYPE_CHECKING:
    from kvatlas.plan.auto_block_size import ChosenBlockSize
    from kvatlas.pressure.hybrid import MemoryBudget

__all__ = ["EngineChoice", "choose_engine"]

_WINDOWED = (SlidingWindowSpec, ChunkedLocalAttentionSpec)
_STATES = (MambaSpec, CrossAttentionSpec)

_INTEGERS = (
    "blocks",
    "block_size",
    *(
        setting.name
        for setting in ENGINE_SETTINGS + DRIVE_SETTINGS
        # The policies for short memory have a limit of their own.
        if setting.is_whole and not setting.in_bytes and setting.panel != PRESSURE
    ),
)
_LARGEST = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """An engine ready to be given a workload.

    Attributes:
        title: its name for people.
        version: whose rules, exactly.
        config: vLLM's settings, or those of nano-vLLM's that have a counterpart.
        drive: how requests come.
        pool: the pool.
        identity_tokens: tokens per block that token ids are best cut into.
        is_nano: nano-vLLM, which has no null block and no limit on lengths.
        build: makes the replay of a workload, with checksums or without.
        block_size_choice: how the block size was chosen, None where somebody gave it.
    """

    title: str
    version: str
    config: EngineConfig
    drive: DriveConfig
    pool: PoolChoice
    identity_tokens: int
    is_nano: bool
    build: Callable[[Workload, bool], Replay]
    block_size_choice: ChosenBlockSize | None = None

    def conditions(self) -> Conditions:
        """Return what the figures are held against."""
        groups = self.config.groups
        only = groups[0] if len(groups) == 1 else None
        return Conditions(
            usable_blocks=self.config.num_blocks - 1,
            block_size=None if only is None else only.block_size,
            windowed=isinstance(only, _WINDOWED),
            slots_hold_tokens=not isinstance(only, _STATES),
            caching=self.config.enable_prefix_caching,
            timed=self.drive.arrivals == "timed",
            max_model_len=None if self.is_nano else self.config.max_model_len,
        )


def choose_engine(
    flags: ReplayFlags,
    *,
    pool: PoolChoice | None = None,
    more: Mapping[str, Any] | None = None,
) -> EngineChoice:
    """Return the engine that the flags describe. Raises: InputError naming the flag.

    A recording brings its `pool`, and `more` settings of vLLM's that have no flag.
    """
    with naming_flags():
        if flags.engine not in BLOCK_SIZES:
            raise InputError(
                "unknown engine",
                field="engine",
                value=flags.engine,
                remedy=f"use {' or '.join(BLOCK_SIZES)}",
            )
        for name in _INTEGERS:
            value = getattr(flags, name)
            if value is not None and value > _LARGEST:
                raise InputError("must be below 2**31", field=name, value=value)
        drive = DriveConfig(**_values(flags, DRIVE_SETTINGS))
        if flags.engine == "nano-vllm":
            _refuse_what_nano_lacks(flags)
        _refuse_what_does_nothing(flags)
        budgeted = choose_budget(flags)
        if flags.engine == "nano-vllm":
            return _nano(flags, drive, pool or choose_pool(flags))
        if budgeted is None:
            return _vllm(flags, drive, pool or choose_pool(flags), more or {})
        budget, pool, flags = budgeted
        return _vllm(flags, drive, pool, more or {}, budget)


def _vllm(
    flags: ReplayFlags,
    drive: DriveConfig,
    pool: PoolChoice,
    more: Mapping[str, Any],
    budget: MemoryBudget | None = None,
) -> EngineChoice:
    with naming_host_memory(flags):
        config = EngineConfig(
            num_blocks=pool.num_blocks,
            block_size=pool.block_size,
            kv_cache_groups=pool.groups,
            version=flags.engine_version or VLLM_VERSIONS[0],
            **_values(flags, (setting for setting in ENGINE_SETTINGS if setting.panel != TIER)),
            **host_settings(flags, pool),
            **more,
        )

    def build(workload: Workload, checksum: bool) -> Replay:
        # No more can run than there are, and each place takes room for the longest request.
        places = max(1, min(config.max_num_seqs, workload.num_requests))
        placed = config.with_(max_num_seqs=places)
        try:
            if budget is not None:
                from kvatlas.pressure.hybrid import BudgetedReplay

                return BudgetedReplay(workload, placed, drive, budget=budget, checksum=checksum)
            return Replay(workload, placed, drive, checksum=checksum)
        except InputError as error:
            asked = flags.block_size or BLOCK_SIZES[flags.engine]
            if error.field == "block_size" and asked != pool.block_size:
                error.remedy = (
                    f"with this model --block-size {asked} means blocks of {pool.block_size}: "
                    "use --no-prefix-caching, or a trace with token ids"
                )
            raise

    version = config.rule_set.version
    return EngineChoice(
        title=f"vLLM {version}",
        version=version,
        config=config,
        drive=drive,
        pool=pool,
        identity_tokens=config.resolved_hash_block_size,
        is_nano=False,
        build=build,
    )


def _nano(flags: ReplayFlags, drive: DriveConfig, pool: PoolChoice) -> EngineChoice:
    from kvatlas.engine.nano import NanoConfig, NanoReplay
    from kvatlas.engine.nano.build import engine_config
    from kvatlas.engine.nano.config import NANO_VERSIONS

    groups = pool.groups or ()
    if len(groups) > 1 or any(isinstance(spec, _WINDOWED + _STATES) for spec in groups):
        raise InputError(
            "nano-vLLM serves models of full attention only",
            field="model",
            value=flags.model,
            remedy="leave out --engine nano-vllm",
        )
    config = NanoConfig(
        num_blocks=pool.num_blocks,
        block_size=pool.block_size,
        max_num_seqs=flags.max_num_seqs,
        max_num_batched_tokens=flags.max_num_batched_tokens,
        version=flags.engine_version or NANO_VERSIONS[0],
    )

    def build(workload: Workload, checksum: bool) -> Replay:
        return NanoReplay(workload, config, drive, checksum=checksum)

    return EngineChoice(
        title=f"nano-vLLM {config.rules.version}",
        version=config.rules.version,
        config=engine_config(config, config.max_num_seqs),
        drive=drive,
        pool=pool,
        identity_tokens=config.block_size,
        is_nano=True,
        build=build,
    )


def _values(flags: ReplayFlags, settings: Iterable[Setting]) -> dict[str, Any]:
    """Return what the flags say of `settings`, by the names of their fields."""
    return {setting.field: getattr(flags, setting.name) for setting in settings}


def _refuse_what_does_nothing(flags: ReplayFlags) -> None:
    """Refuse a flag that another leaves nothing to do; a recording may say both, and is replayed.

    Raises: InputError.
    """
    given = flags.given
    if (
        flags.protect_waiting
        and not flags.prefix_caching
        and not given.isdisjoint(("protect_waiting", "prefix_caching"))
    ):
        raise InputError(
            "keeps what waiting requests will hit, and without prefix caching nothing is hit",
            field="protect_waiting",
            value=flags.protect_waiting,
            remedy="leave out one of --protect-waiting and --no-prefix-caching",
        )
    if (
        flags.forget_uncomputed
        and flags.policy != "priority"
        and not given.isdisjoint(("forget_uncomputed", "policy"))
    ):
        raise InputError(
            f"only under --policy priority is there anything to forget, not under {flags.policy}",
            field="forget_uncomputed",
            value=True,
            remedy="add --policy priority, or leave the flag out",
        )


def _refuse_what_nano_lacks(flags: ReplayFlags) -> None:
    lacked = [(each.name, each.usual, each.nano_has) for each in ENGINE_SETTINGS if each.nano_has]
    tier = [(name, None, "no host tier") for name in ("host_memory", "memory_budget")]
    for name, harmless, has in (*lacked, *tier):
        if getattr(flags, name) != harmless:
            raise InputError(
                f"nano-vLLM has {has}",
                field=name,
                value=getattr(flags, name),
                remedy="leave the flag out",
            )
