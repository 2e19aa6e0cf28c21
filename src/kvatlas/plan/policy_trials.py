"""Replays of one trace, without and with each small policy, in a pool that is too small for it.

Owns: the pool, the host tier and the budget that they are tried with, the replays. Leaves to
others: which policies there are and what a difference means (`small_policies`), the figures
(`kvatlas.measure`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.engine.replay import blocks_needed
from kvatlas.engine.specs import FullAttentionSpec
from kvatlas.errors import InputError
from kvatlas.jit import COMPILED
from kvatlas.measure import Conditions, measure_replay
from kvatlas.plan.auto_block_size import choose_block_size
from kvatlas.plan.small_policies import (
    OFF,
    SMALL_POLICIES,
    PolicyTrial,
    SmallPolicy,
    TraceVerdicts,
    judged,
)
from kvatlas.pressure.hybrid.budgeted_replay import BudgetedReplay
from kvatlas.pressure.hybrid.memory_budget import MemoryBudget
from kvatlas.registry import named
from kvatlas.workload import Workload

__all__ = [
    "BYTES_PER_TOKEN",
    "DEVICE_PRICE",
    "Interrupted",
    "pool_under_pressure",
    "try_policies",
]

BYTES_PER_TOKEN = 131_072
"""Of all layers: Llama 3.1 8B in 16 bits."""
DEVICE_PRICE = 8
"""Bytes of the host that one on the device is worth where both share a budget."""

_TIER_BLOCKS = 4  # per block on the device
_TIER_BANDWIDTH = 25e9
_SLICE_STEPS = 1 << 15 if COMPILED else 64
_ROOM_FOR_LARGEST = 1.1
_ACTED = ("lazy_kept", "refreshed_blocks", "prefetched", "allocated_ahead", "held_back")

Progress = Callable[[str, int], None]


class Interrupted(Exception):
    """Raised by a progress function: what is under way is dropped, what is whole is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """What one trial runs on: settings, a budget if any, what was chosen in words."""

    config: EngineConfig
    budget: MemoryBudget | None = None
    chosen: str = ""
    acted: int = 0


def pool_under_pressure(
    workload: Workload,
    config: EngineConfig,
    drive: DriveConfig,
    share: float,
    go_on: Callable[[int], None] = lambda done: None,
) -> tuple[int, int]:
    """Return (blocks, peak): `share` of what running requests hold at most with plenty of memory.

    One replay in a pool with room for twice the mean request in every place. At least a tenth more
    than the largest request takes, so that everybody can be served.
    """
    if not 0 < share <= 1:
        raise InputError("a share of the peak demand", field="share", value=share)
    needed = blocks_needed(workload, config)
    if needed.size == 0:
        raise InputError("no request to replay", field="trace", value=workload.name)
    largest = int(needed.max())
    places = min(config.max_num_seqs, workload.num_requests)
    plenty = 2 * max(largest, int(np.ceil(needed.mean() * places))) + 2
    replay = Replay(workload, _placed(config.with_(num_blocks=plenty), workload), drive)
    for _ in replay.slices(max_steps=_SLICE_STEPS):
        go_on(replay.requests_finished)
    peak = round(float(replay.result().decisions["peak_usage"]) * (plenty - 1))
    return max(int(share * peak), int(_ROOM_FOR_LARGEST * largest) + 2, 2), peak


def try_policies(
    workload: Workload,
    config: EngineConfig,
    drive: DriveConfig,
    names: Sequence[str] | None = None,
    *,
    peak_blocks: int | None = None,
    on_progress: Progress = lambda name, done: None,
) -> TraceVerdicts:
    """Replay `workload` without and with each policy; one replay each.

    What a policy is judged beside is replayed and reported, too, asked for or not. `on_progress` is
    called before each and between slices with the policy under way and the requests finished. After
    an `Interrupted` of its the policies that are whole are returned.

    Raises: InputError for an unknown policy; Interrupted before the replay without any is whole.
    """
    asked = list(SMALL_POLICIES) if names is None else list(dict.fromkeys(names))
    for name in asked:
        named(SMALL_POLICIES, name, "policy", field="policies")
    off = _trial(OFF, workload, _Setting(config=config), drive, on_progress)
    done: dict[str, PolicyTrial] = {OFF: off}
    wanted = (each for name in asked for each in (SMALL_POLICIES[name].against, name))
    with suppress(Interrupted):
        for each in wanted:
            if each not in done:
                policy = SMALL_POLICIES[each]
                setting = _setting(policy, workload, config, drive)
                trial = _trial(each, workload, setting, drive, on_progress)
                done[each] = judged(trial, done[policy.against])
    return TraceVerdicts(
        trace=workload.name,
        requests=workload.num_requests,
        num_blocks=config.num_blocks,
        peak_blocks=peak_blocks,
        off=off,
        trials=tuple(trial for name, trial in done.items() if name != OFF),
    )


def _setting(
    policy: SmallPolicy, workload: Workload, config: EngineConfig, drive: DriveConfig
) -> _Setting:
    if policy.block_size:
        found = choose_block_size(workload, config, drive)
        size = found.block_size
        return _Setting(
            config=config.with_(block_size=size, num_blocks=found.num_blocks),
            chosen=f"{size}-token blocks",
            acted=int(size != config.block_size),
        )
    config = config.with_(**policy.settings)
    if not policy.tiered:
        return _Setting(config=config)
    usable, block_bytes = config.num_blocks - 1, BYTES_PER_TOKEN * config.block_size
    tiered = config.with_(
        host_blocks=_TIER_BLOCKS * usable,
        host_bandwidth=_TIER_BANDWIDTH,
        host_block_bytes=block_bytes,
    )
    if not policy.budgeted:
        return _Setting(config=tiered)
    budget = MemoryBudget(
        budget_bytes=(DEVICE_PRICE + _TIER_BLOCKS) * usable * block_bytes,
        block_bytes=block_bytes,
        device_price=DEVICE_PRICE,
        device_blocks=usable,
    )
    return _Setting(config=tiered, budget=budget)


def _trial(
    name: str, workload: Workload, setting: _Setting, drive: DriveConfig, on_progress: Progress
) -> PolicyTrial:
    on_progress(name, 0)
    config = _placed(setting.config, workload)
    replay = (
        Replay(workload, config, drive)
        if setting.budget is None
        else BudgetedReplay(workload, config, drive, budget=setting.budget)
    )
    for _ in replay.slices(max_steps=_SLICE_STEPS):
        on_progress(name, replay.requests_finished)
    result = replay.result()
    only = config.groups[0] if len(config.groups) == 1 else None
    conditions = Conditions(
        usable_blocks=config.num_blocks - 1,
        block_size=only.block_size if isinstance(only, FullAttentionSpec) else None,
        caching=config.enable_prefix_caching,
        timed=drive.arrivals == "timed",
        max_model_len=config.max_model_len,
    )
    values = measure_replay(result, workload, conditions).values
    acted, detail = _done(replay, setting)

    def known(figure: str) -> float | None:
        value = values.get(figure)
        return None if value is None else float(value)

    return PolicyTrial(
        name=name,
        token_hit_rate=known("prefix.token_hit_rate"),
        preemptions=int(result.decisions["preemptions"]),
        recomputed_tokens=int(result.sums["recomputed_tokens"]),
        queue_mean_s=known("queue.time_mean_s"),
        finish_mean_s=known("latency.e2e_mean_s"),
        finished_after_s=known("clock.simulated_s") or 0.0,
        never_served=len(result.rejected),
        acted=acted,
        detail=detail,
    )


def _done(replay: Replay, setting: _Setting) -> tuple[int, str]:
    """Return how often the policy did anything, and what it chose in words."""
    if isinstance(replay, BudgetedReplay):
        now = replay.loop.division
        text = f"{now.device_blocks:,} on the device and {now.host_blocks:,} on the host at the end"
        return replay.loop.moves, text
    pressure, tier = replay.engine.pressure, replay.engine.pool.tier
    acted = setting.acted
    if pressure is not None:
        acted += sum(int(getattr(pressure.info, count)) for count in _ACTED)
    elif tier is not None:
        acted += int(tier.info.restored)
    return acted, setting.chosen


def _placed(config: EngineConfig, workload: Workload) -> EngineConfig:
    """No more can run than there are, and each place takes room for the longest request."""
    return config.with_(max_num_seqs=max(1, min(config.max_num_seqs, workload.num_requests)))
