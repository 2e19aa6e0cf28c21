"""The settings of an engine that have a flag, each declared once.

Owns: their names, defaults, flags and help, for Python, the command line, the JSON and recordings;
which are not vLLM's, and what nano-vLLM has in their place. Leaves to others: which values go
together (`config_rules`), options (`kvatlas.cli`), command lines (`kvatlas.plan.command_line`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kvatlas.engine.setting import Setting, SettingValue, setting, settings_of

__all__ = [
    "CLOCK",
    "DRIVE_SETTINGS",
    "ENGINE_SETTINGS",
    "POOL",
    "PRESSURE",
    "SCHEDULER",
    "SETTINGS",
    "TIER",
    "DriveSettings",
    "EngineSettings",
]

POOL, TIER, SCHEDULER, CLOCK = "Pool", "Host tier", "Scheduler", "Arrivals and clock"
PRESSURE = "When memory is short (not vLLM's own)"
"""Groups of settings, as a help text is divided."""


def _of_tier(default: SettingValue, help: str, metavar: str, *, in_bytes: bool = False) -> Any:
    return setting(
        default, TIER, help, metavar, own=True, nano_has="no host tier", in_bytes=in_bytes
    )


def _of_pressure(default: SettingValue, help: str, metavar: str | None = None) -> Any:
    return setting(
        default, PRESSURE, help, metavar, own=True, nano_has="no policies for short memory"
    )


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """The settings of `EngineConfig` that have a flag each.

    Attributes:
        watermark: share of the pool that admission keeps free.
        eviction_policy: who is evicted, a name of `kvatlas.eviction.POLICIES`; `lru` is vLLM's
            order.
        placement: which free block ids a request gets, a name of `kvatlas.placement.PLACEMENTS`;
            `queue` is vLLM's order.
        host_blocks: blocks of a host tier below the device, 0 for none: what it holds extends a
            prompt's hit, and is brought back.
        host_policy: who leaves the host tier, a name of `kvatlas.tiers.TIER_POLICIES`.
        host_write_back: when blocks are written there: `evict`, when they lose their content;
            `free`, whenever a request gives them back; `preempt`, only when it is preempted.
        host_bandwidth: bytes per second, either direction; 0: moving blocks takes no time.
        host_block_bytes: bytes of a block in all layers; 0 when nobody asked for bytes.
        swap: `always` brings back what is there; `auto` only what is not computed again sooner;
            `never` nothing for preempted requests, which are computed again as in vLLM.
        forget_uncomputed: under the priority policy, a request that loses its blocks in the step
            that scheduled it takes the keys of what it did not compute along. vLLM 0.32 keeps them
            (False), so that a later request may hit blocks nobody has written.
        lazy_free_steps: steps that a finished request keeps its blocks unless somebody needs them;
            this and the rest is not vLLM's, and off by default.
        protect_waiting: of so many waiting requests, the hits are kept from eviction.
        preallocate_blocks: blocks that a decoding request takes ahead while they are free.
        preallocate_predicted: take them up to the predicted end of the output, not beyond.
        admission_growth: share of the blocks by which what runs is predicted to grow that admission
            leaves free, 0 to 1.
    """

    max_num_seqs: int = setting(256, SCHEDULER, "Requests that run at once.", "N")
    max_num_batched_tokens: int = setting(8192, SCHEDULER, "Tokens per step.", "N")
    max_model_len: int = setting(
        131072,
        SCHEDULER,
        "Tokens of prompt and answer at which a request ends.",
        "TOKENS",
        nano_has="no limit on a request's length",
    )
    policy: Literal["fcfs", "priority"] = setting(
        "fcfs", SCHEDULER, "Who is admitted first.", "[fcfs|priority]", nano_has="no priorities"
    )
    watermark: float = setting(
        0.0,
        SCHEDULER,
        "Share of the pool that admission keeps free.",
        "SHARE",
        nano_has="no watermark",
    )
    scheduler_reserve_full_isl: bool = setting(
        True,
        SCHEDULER,
        "Admit a request only when its whole prompt fits.",
        key="reserve_full_isl",
        nano_has="no reservation of whole prompts to switch",
    )
    long_prefill_token_threshold: int = setting(
        0,
        SCHEDULER,
        "Most prompt tokens of one request in a step; 0 for no such limit.",
        "N",
        nano_has="no limit on one prompt's tokens per step",
    )
    enable_prefix_caching: bool = setting(
        True,
        POOL,
        "Reuse equal prefixes.",
        key="prefix_caching",
        nano_has="no switch for its prefix cache",
    )
    eviction_policy: str = setting(
        "lru",
        POOL,
        "Who is evicted: lru, as in vLLM, or another policy that `kvatlas policies` compares.",
        "NAME",
        flag="--eviction",
        own=True,
        nano_has="one order of eviction",
    )
    placement: str = setting(
        "queue",
        POOL,
        "Which free blocks a request gets: queue, as in vLLM, sorted, window, or another of "
        "kvatlas.placement.",
        "NAME",
        own=True,
        nano_has="one order of its free blocks",
    )
    host_blocks: int = _of_tier(0, "The same in blocks; 0 for no tier.", "N")
    host_policy: str = _of_tier(
        "lru",
        "Who leaves the host tier: lru, or another eviction policy.",
        "NAME",
    )
    host_write_back: Literal["evict", "free", "preempt"] = _of_tier(
        "evict",
        "When blocks are written there: when they lose their content, whenever a request gives "
        "them back, or only at a preemption.",
        "[evict|free|preempt]",
    )
    host_bandwidth: float = _of_tier(
        0.0,
        "Bytes per second to the host and back, such as 25GB/s; without it moving blocks takes no "
        "time.",
        "BYTES/S",
        in_bytes=True,
    )
    host_block_bytes: int = _of_tier(
        0,
        "Bytes of a block in all layers, such as 2MiB, where no --model says it.",
        "BYTES",
        in_bytes=True,
    )
    swap: Literal["auto", "always", "never"] = _of_tier(
        "auto",
        "Bring blocks back only where that is sooner than computing them again, always, or never "
        "after a preemption.",
        "[auto|always|never]",
    )
    async_scheduling: bool = setting(
        False,
        SCHEDULER,
        "Schedule a step ahead of the last one's output.",
        nano_has="no async scheduling",
    )
    forget_uncomputed: bool = setting(
        False,
        SCHEDULER,
        "Leave out a fault of vLLM 0.32 under --policy priority: a request preempted in the step "
        "that scheduled it leaves keys of blocks that nobody computed, and others hit them.",
        own=True,
        nano_has="no priorities",
    )
    lazy_free_steps: int = _of_pressure(
        0,
        "Steps that a finished request keeps its blocks, unless somebody needs them.",
        "N",
    )
    protect_waiting: int = _of_pressure(
        0,
        "Of so many waiting requests, keep what they will hit from eviction.",
        "N",
    )
    preallocate_blocks: int = _of_pressure(
        0,
        "Blocks that a decoding request takes ahead while they are free.",
        "N",
    )
    preallocate_predicted: bool = _of_pressure(
        False,
        "Take them up to the end of the answer, as predicted from finished ones, and not beyond.",
    )
    admission_growth: float = _of_pressure(
        0.0,
        "Share of the predicted growth of what runs that admission leaves free.",
        "SHARE",
    )


@dataclass(frozen=True, kw_only=True)
class DriveSettings:
    """The settings of `DriveConfig`, all of which have a flag.

    Attributes:
        arrivals: `backlog` keeps `queue_depth` requests waiting; `timed` follows the trace's clock.
        queue_depth: requests.
        step_ms_base, step_ms_per_ktok: the linear step-time model, milliseconds.
        block_like_vllm: keep a request that can never fit at the head of the queue, where it blocks
            the rest for ever, as in vLLM; otherwise it is set aside and reported.
    """

    arrivals: Literal["backlog", "timed"] = setting(
        "backlog",
        CLOCK,
        "Keep a backlog waiting, or let requests come at their own times.",
        "[backlog|timed]",
    )
    queue_depth: int = setting(256, CLOCK, "Requests that wait in a backlog.", "N")
    step_ms_base: float = setting(8.0, CLOCK, "Milliseconds of a step, whatever it does.", "MS")
    step_ms_per_ktok: float = setting(12.0, CLOCK, "And per 1,000 tokens in it.", "MS")
    block_like_vllm: bool = setting(
        False,
        CLOCK,
        "Let a request that can never fit block the queue for ever, as vLLM does, instead of "
        "setting it aside.",
        one_way=True,
    )


ENGINE_SETTINGS = settings_of(EngineSettings)
"""Settings of `EngineConfig` that have a flag, in the order in which the JSON says them."""

DRIVE_SETTINGS = settings_of(DriveSettings)
"""Settings of `DriveConfig`, in the order in which the JSON says them."""

SETTINGS: Mapping[str, Setting] = {each.key: each for each in ENGINE_SETTINGS + DRIVE_SETTINGS}
"""All of them by their keys in the JSON."""
