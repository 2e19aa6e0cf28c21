"""An engine's settings as a replay's JSON says them: to run again, to change, to write as flags.

Owns: `Setup`, from the JSON's `config` to an engine. Leaves to others: flags (`command_line`),
which change is worth trying (`rules`) and what it did (`effects`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kvatlas.engine import DriveConfig, EngineConfig, Replay, specs
from kvatlas.engine.nano import NanoConfig, NanoReplay
from kvatlas.engine.nano.build import engine_config
from kvatlas.engine.setting import Setting, SettingValue
from kvatlas.engine.settings import DRIVE_SETTINGS, ENGINE_SETTINGS, SETTINGS
from kvatlas.errors import InputError
from kvatlas.measure import Conditions
from kvatlas.plan.command_line import (
    FROM_MEMORY,
    NANO,
    NANO_BLOCK_SIZE,
    NANO_LACKS,
    change_between,
    command_of,
    flags_of,
)
from kvatlas.plan.groups import group_of, said_group
from kvatlas.units import format_bytes
from kvatlas.workload import Workload

__all__ = ["Setup", "Value"]

Value = SettingValue

_WHOLE = (
    "num_blocks",
    "block_size",
    "kv_memory_bytes",
    *(each.key for each in SETTINGS.values() if each.is_whole),
)
_BEFORE_IT_WAS_SAID = {each.key: each.usual for each in SETTINGS.values() if each.own}
"""What held in recordings older than a setting."""
_BOOKS_BYTES_PER_BLOCK = 104  # a record of 40 bytes, and up to four index slots of 16
_BOOKS_SHARE = 0.5  # of the machine's memory: the workload and the run's own analysis need theirs
_WINDOWED = (specs.SlidingWindowSpec, specs.ChunkedLocalAttentionSpec)
_STATES = (specs.MambaSpec, specs.CrossAttentionSpec)


@dataclass(frozen=True, slots=True)
class Setup:
    """Settings by the keys of the JSON's `config`; never changed, only copied.

    Raises (every method that needs a setting): InputError naming one that is missing or unusable.
    """

    said: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        if name not in self.said:
            if name in _BEFORE_IT_WAS_SAID:
                return _BEFORE_IT_WAS_SAID[name]
            raise InputError("the recording does not say this setting", field=name)
        return self.said[name]

    def check(self) -> None:
        """Verify that an engine can be made of the settings. Raises: InputError."""
        for name in _WHOLE:
            value = self.said.get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise InputError("must be a whole number", field=name, value=value)
        try:
            self.conditions()
            _ = self.drive, self.flags()
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError(f"the recorded settings are damaged: {error}") from error

    @property
    def is_nano(self) -> bool:
        """Whether nano-vLLM's rules apply."""
        return bool(self["engine"] == NANO)

    @property
    def vllm(self) -> EngineConfig:
        """The settings as vLLM's engine takes them, or the counterparts of nano-vLLM's."""
        if self.is_nano:
            return engine_config(self.nano, self["max_num_seqs"])
        return EngineConfig(
            num_blocks=self["num_blocks"],
            block_size=self["block_size"],
            kv_cache_groups=self._groups(),
            version=self["engine_version"],
            **self._values(ENGINE_SETTINGS),
        )

    @property
    def nano(self) -> NanoConfig:
        """The settings as nano-vLLM takes them."""
        return NanoConfig(
            num_blocks=self["num_blocks"],
            block_size=self["block_size"],
            max_num_seqs=self["max_num_seqs"],
            max_num_batched_tokens=self["max_num_batched_tokens"],
            version=self["engine_version"],
        )

    @property
    def drive(self) -> DriveConfig:
        """How requests come and how long a step takes."""
        return DriveConfig(**self._values(DRIVE_SETTINGS))

    def replay(self, workload: Workload) -> Replay:
        """Return the replay of `workload` under these settings.

        Raises: InputError, also when the books of so many blocks would take half of this machine.
        """
        books_bytes = self["num_blocks"] * _BOOKS_BYTES_PER_BLOCK
        machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if books_bytes > _BOOKS_SHARE * machine_bytes:
            raise InputError(
                f"the books of {self['num_blocks']:,} blocks take {format_bytes(books_bytes)}, too "
                "much of this machine's memory"
            )
        if self.is_nano:
            return NanoReplay(workload, self.nano, self.drive)
        config = self.vllm
        # No more can run than there are, and each place takes room for the longest request.
        places = max(1, min(config.max_num_seqs, workload.num_requests))
        return Replay(workload, config.with_(max_num_seqs=places), self.drive)

    def conditions(self) -> Conditions:
        """Return what the figures of that replay are held against."""
        config = self.vllm
        only = config.groups[0] if len(config.groups) == 1 else None
        return Conditions(
            usable_blocks=config.num_blocks - 1,
            block_size=None if only is None else only.block_size,
            windowed=isinstance(only, _WINDOWED),
            slots_hold_tokens=not isinstance(only, _STATES),
            caching=config.enable_prefix_caching,
            timed=self["arrivals"] == "timed",
            max_model_len=None if self.is_nano else config.max_model_len,
        )

    def with_(self, name: str, value: Value) -> Setup:
        """Return a copy with one setting changed and the cache's bytes kept, unless they are it.

        More blocks take more memory; blocks of another size are as many as fit the same memory.
        Raises: InputError when this engine or model has no such choice.
        """
        if self.is_nano and name in NANO_LACKS:
            raise InputError(f"nano-vLLM has {NANO_LACKS[name]}")
        if name == "num_blocks":
            return self._with_blocks(int(value))
        if name == "block_size":
            return self._with_block_size(int(value))._with_host_of(self)
        self[name]
        return Setup({**self.said, name: value})

    def flags(self) -> dict[str, str]:
        """Return the flags that say these settings, those left out that say a default."""
        return flags_of(self.said)

    def command(self) -> str:
        """Return the replay's command line, complete."""
        return command_of(self.said)

    def change_from(self, before: Setup) -> str:
        """Return the flags by which these settings differ from those `before`."""
        return change_between(before.said, self.said)

    def _values(self, settings: Iterable[Setting]) -> dict[str, Any]:
        """Return these settings by the names of their fields."""
        return {each.field: each.value(self[each.key]) for each in settings}

    @property
    def _from_memory(self) -> bool:
        return self.said.get("blocks_from") == FROM_MEMORY

    def _with_blocks(self, blocks: int) -> Setup:
        if self._from_memory:
            memory = int(self["kv_memory_bytes"] * blocks / self["num_blocks"])
            return self._of_memory(memory, self["block_size"])
        said = {**self.said, "num_blocks": blocks, "blocks_from": "--blocks"}
        said["usable_blocks"] = blocks if self.is_nano else blocks - 1
        return Setup(said)

    def _with_block_size(self, block_size: int) -> Setup:
        if self.is_nano and block_size % NANO_BLOCK_SIZE:
            raise InputError("nano-vLLM's attention kernel takes multiples of 256 tokens per block")
        if self._from_memory:
            return self._of_memory(self["kv_memory_bytes"], block_size)
        if self._groups() is not None:
            raise InputError("the block sizes of this model's layers depend on each other")
        blocks = int(self["num_blocks"]) * int(self["block_size"]) // block_size
        said = {**self._with_blocks(blocks).said, "block_size": block_size}
        # The one group of full attention, whose blocks these are.
        said["kv_cache_groups"] = [said_group(specs.FullAttentionSpec(block_size=block_size))]
        return Setup({**said, "block_sizes": [block_size]})

    def _with_host_of(self, before: Setup) -> Setup:
        """Return a copy whose host tier has the bytes that it had `before`, in other blocks."""
        if not before["host_blocks"]:
            return self
        was, now = int(before["block_size"]), int(self["block_size"])
        said = {**self.said, "host_blocks": max(1, int(before["host_blocks"]) * was // now)}
        if before["host_block_bytes"]:
            said["host_block_bytes"] = int(before["host_block_bytes"]) * now // was
        return Setup(said)

    def _of_memory(self, kv_memory_bytes: int, block_size: int) -> Setup:
        from kvatlas.model import pool_from_memory

        plan = pool_from_memory(
            str(kv_memory_bytes),
            self["model"],
            block_size,
            enable_prefix_caching=self["prefix_caching"],
            max_model_len=self["max_model_len"] or EngineConfig.max_model_len,
        )
        if plan.block_size != block_size:
            raise InputError(f"this model makes blocks of {block_size} into {plan.block_size}")
        return Setup(
            {
                **self.said,
                "num_blocks": plan.num_blocks,
                "usable_blocks": plan.num_blocks - (not self.is_nano),
                "block_size": plan.block_size,
                "kv_memory_bytes": kv_memory_bytes,
                "kv_cache_groups": [said_group(spec) for spec in plan.groups],
                "block_sizes": sorted({spec.block_size for spec in plan.groups}),
            }
        )

    def _groups(self) -> tuple[specs.KVCacheSpec, ...] | None:
        """Return the KV cache groups, None for the one of full attention that is the default."""
        groups = tuple(group_of(said) for said in self["kv_cache_groups"])
        return (
            None if groups == (specs.FullAttentionSpec(block_size=self["block_size"]),) else groups
        )
