"""The engine's settings, all of them.

Owns: what a user may ask of an engine, and what follows from it. Leaves to others: which settings
have a flag (`settings`), which values go together (`config_rules`), turning them into arrays
(`build`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from kvatlas.engine.config_rules import check_config
from kvatlas.engine.settings import ENGINE_SETTINGS, PRESSURE, EngineSettings
from kvatlas.engine.specs import FullAttentionSpec, KVCacheSpec, MambaSpec
from kvatlas.engine.versions import VLLM_VERSIONS, RuleSet, rules

__all__ = ["EngineConfig"]

_PRESSURE = tuple(setting for setting in ENGINE_SETTINGS if setting.panel == PRESSURE)


@dataclass(frozen=True, kw_only=True)
class EngineConfig(EngineSettings):
    """The settings of one simulated engine, under vLLM's names; validated on creation.

    Those with a flag come from `EngineSettings`, and these are its own:

    Attributes:
        num_blocks: blocks in the pool, the null block included (`num_gpu_blocks`).
        block_size: tokens per block of the default single full-attention group.
        num_lookahead_tokens: tokens beyond those scheduled for which a request gets room.
        kv_cache_groups: the groups that share the pool; None for one full-attention group.
        hash_block_size: tokens per block hash (`prefix_match_unit`); None for vLLM's default.
        prefix_cache_retention_interval: tokens; 0 keeps only replay boundaries of sliding-window
            and Mamba groups (vLLM's default), None keeps everything.
        version: whose rules, a key of `versions.VLLM_VERSIONS`.

    Raises:
        InputError: a value that vLLM would refuse, or that this twin does not model.
    """

    num_blocks: int
    block_size: int = 16
    num_lookahead_tokens: int = 0
    kv_cache_groups: tuple[KVCacheSpec, ...] | None = None
    hash_block_size: int | None = None
    prefix_cache_retention_interval: int | None = 0
    version: str = VLLM_VERSIONS[0]

    def __post_init__(self) -> None:
        check_config(self)

    @property
    def under_pressure(self) -> bool:
        """Whether any of the policies is on that vLLM does not have for when memory is short."""
        return any(getattr(self, setting.field) != setting.default for setting in _PRESSURE)

    @property
    def groups(self) -> tuple[KVCacheSpec, ...]:
        """The groups that share the pool."""
        if self.kv_cache_groups is not None:
            return self.kv_cache_groups
        return (FullAttentionSpec(block_size=self.block_size),)

    @property
    def rule_set(self) -> RuleSet:
        """The version's rules."""
        return rules(self.version)

    @property
    def scheduler_block_size(self) -> int:
        """The LCM of the groups' block sizes: hits are multiples of it."""
        return math.lcm(*(spec.block_size for spec in self.groups))

    @property
    def resolved_hash_block_size(self) -> int:
        """Tokens per block hash: the GCD of the groups' block sizes unless asked otherwise.

        The LCM with caching off, and where a Mamba group is not in `align` mode.
        """
        sizes = [spec.block_size for spec in self.groups]
        if len(sizes) == 1 or not self.enable_prefix_caching or self._has_mamba("none"):
            return self.scheduler_block_size
        return self.hash_block_size or math.gcd(*sizes)

    @property
    def max_in_flight_tokens(self) -> int:
        """Tokens scheduled but not settled: one batch, two with async scheduling."""
        return self.max_num_batched_tokens * (2 if self.async_scheduling else 1)

    @property
    def host_ms_per_block(self) -> float:
        """Milliseconds that a block takes to the host tier or back."""
        if self.host_bandwidth == 0:
            return 0.0
        return self.host_block_bytes / self.host_bandwidth * 1e3

    def with_(self, **changes: Any) -> EngineConfig:
        """Return a copy with `changes`, validated again."""
        return replace(self, **changes)

    def _has_mamba(self, mode: str) -> bool:
        return any(
            isinstance(spec, MambaSpec) and spec.mamba_cache_mode == mode for spec in self.groups
        )
