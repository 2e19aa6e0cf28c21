"""What a replay's counts and sums mean: hit rate, ceiling, usage, waste, preemption, failures.

Owns: the formulas, from counts and integrals over the simulated clock. Leaves to others: queueing
and latency (`latency`), the course over time (`series`), and every presentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure.figures import Figures
from kvatlas.measure.final_waste import final_waste
from kvatlas.measure.latency import measure_latency
from kvatlas.measure.potential import lack_potential, measure_potential
from kvatlas.measure.tiers import measure_tier
from kvatlas.workload.model import Workload

__all__ = [
    "WARM_UP_SHARE",
    "Conditions",
    "Outcome",
    "lack_tier_and_pressure",
    "measure_ceiling",
    "measure_final_waste",
    "measure_replay",
]

WARM_UP_SHARE = 0.1
"""The share of the requests, from the first, that the ceiling after warm-up leaves out."""

_NO_CLOCK = "the simulated clock stood still: a step takes 0 ms under this step-time model"
_NOTHING = "nothing was scheduled"
_POLICIES = (
    ("lazy_kept", "--lazy-free-steps"),
    ("lazy_hurried", "--lazy-free-steps"),
    ("refreshed_blocks", "--protect-waiting"),
    ("prefetched", "--protect-waiting"),
    ("allocated_ahead", "--preallocate-blocks"),
    ("held_back", "--admission-growth"),
)
_WRITTEN_ON_EVICTION = (
    "blocks are written when they lose their content (--host-write-back evict), whatever happens "
    "at a preemption"
)
_CAUSES = ("cold", "capacity", "granularity", "configuration")


class Outcome(Protocol):
    """What is measured of a run: counts by the recorded names, sums, and times per request."""

    @property
    def decisions(self) -> Mapping[str, int | float | str]: ...
    @property
    def sums(self) -> Mapping[str, float]: ...
    @property
    def first_scheduled_ms(self) -> NDArray[np.float64]: ...
    @property
    def first_token_ms(self) -> NDArray[np.float64]: ...
    @property
    def finished_ms(self) -> NDArray[np.float64]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a run's sums must be held against.

    Attributes:
        usable_blocks: blocks in the pool less the null block.
        block_size: tokens per block of the only KV cache group, None with several groups.
        windowed: whether that group forgets old tokens, so that no plain ceiling applies.
        slots_hold_tokens: False for recurrent states, whose blocks are not made of slots.
        caching: whether the prefix cache is on.
        timed: whether requests came at their own times.
        max_model_len: tokens, None where the engine has no limit.
    """

    usable_blocks: int
    block_size: int | None
    windowed: bool = False
    slots_hold_tokens: bool = True
    caching: bool = True
    timed: bool = False
    max_model_len: int | None = None


def measure_replay(outcome: Outcome, workload: Workload, conditions: Conditions) -> Figures:
    """Return the figures of a run of `workload`; O(N log N + M), compiled for the M identities."""
    figures = Figures()
    _prefix(figures, outcome, workload, conditions)
    measure_ceiling(figures, workload, conditions)
    _usage(figures, outcome, workload, conditions)
    _waste(figures, outcome, workload, conditions)
    _pressure(figures, outcome)
    measure_tier(figures, outcome.decisions, outcome.sums)
    _rungs(figures, outcome)
    measure_latency(figures, outcome, workload, conditions.timed, conditions.max_model_len)
    return figures


def lack_tier_and_pressure(figures: Figures, reason: str) -> None:
    """Add every figure under `tier.` and `pressure.` as one that cannot be had."""
    known = Figures()
    measure_tier(known, {}, {})
    rungs = ("evicted_blocks", "defragmentations", "swapped_requests", "recomputed_requests")
    names = (*rungs, "refused_requests", *(name for name, _ in _POLICIES))
    figures.lack(reason, *known.values, *(f"pressure.{name}" for name in names))


def _prefix(figures: Figures, outcome: Outcome, workload: Workload, conditions: Conditions) -> None:
    counts = outcome.decisions
    names = ("prefix.token_hit_rate", "prefix.readmission_token_hit_rate")
    if not conditions.caching:
        figures.lack("prefix caching is off", *names)
    elif not workload.prefix_known:
        figures.lack("the trace has lengths only: which prompts share a prefix is unknown", *names)
    else:
        figures.ratio(
            names[0],
            float(counts["prefix_hits"]),
            float(counts["prefix_queries"]),
            "no request was admitted",
        )
        figures.ratio(
            names[1],
            float(counts["preempted_hits"]),
            float(counts["preempted_queries"]),
            "no preempted request was admitted again",
        )
    figures.put("prefix.evicted_blocks", int(outcome.sums["evictions"]))
    _attribution(figures, outcome, workload, conditions)


def _attribution(
    figures: Figures, outcome: Outcome, workload: Workload, conditions: Conditions
) -> None:
    """Add why prompt tokens were missed, as `kvatlas.measure.misses` counts it from events."""
    names = tuple(f"attribution.{name}" for name in _CAUSES)
    queries, hits = (float(outcome.decisions[f"prefix_{name}"]) for name in ("queries", "hits"))
    if not conditions.caching:
        # Whatever might have been found: nobody looked.
        for name, share in zip(names, (0.0, 0.0, 0.0, 1.0), strict=True):
            figures.put(name, share)
    elif not workload.prefix_known:
        figures.lack("the trace has lengths only: which prompts share a prefix is unknown", *names)
    elif outcome.sums["missed"] != queries - hits:
        figures.lack("judged from events only for this engine or these layers: --events", *names)
    elif queries == hits:
        figures.lack("no prompt token was missed", *names)
    else:
        missed = outcome.sums["missed"]
        cold, capacity = outcome.sums["missed_cold"], outcome.sums["missed_capacity"]
        counts = (cold, capacity, missed - cold - capacity, 0.0)
        for name, tokens in zip(names, counts, strict=True):
            figures.put(name, tokens / missed)


def measure_ceiling(figures: Figures, workload: Workload, conditions: Conditions) -> None:
    """Add what an unbounded cache would find in `workload`, and one of this size; O(M)."""
    names = (
        "prefix.ceiling_token_hit_rate",
        "prefix.ceiling_token_hit_rate_after_warm_up",
        "prefix.ceiling_hit_tokens",
    )
    block_size = conditions.block_size
    if not workload.prefix_known:
        _lack_ceiling(figures, "the trace has lengths only: what could be reused is unknown", names)
        return
    if block_size is None or conditions.windowed or not conditions.slots_hold_tokens:
        _lack_ceiling(
            figures,
            "layers that forget (windows, states) have no single unbounded cache to compare with",
            names,
        )
        return
    span = workload.tokens_per_id
    if span % block_size and block_size % span:
        _lack_ceiling(
            figures, f"blocks of {block_size} tokens do not fit identities of {span}", names
        )
        return
    from kvatlas.workload.sharing import reused_prompt_tokens

    reused = reused_prompt_tokens(workload, block_size)
    queried = workload.prompt_tokens.astype(np.int64)
    warm = int(WARM_UP_SHARE * queried.size)
    for name, first in ((names[0], 0), (names[1], warm)):
        figures.ratio(name, float(reused[first:].sum()), float(queried[first:].sum()), "no prompts")
    figures.put(names[2], int(reused.sum()))
    measure_potential(figures, workload, conditions.usable_blocks, block_size)


def _lack_ceiling(figures: Figures, reason: str, names: tuple[str, ...]) -> None:
    figures.lack(reason, *names)
    lack_potential(figures, reason)


def _usage(figures: Figures, outcome: Outcome, workload: Workload, conditions: Conditions) -> None:
    sums = outcome.sums
    figures.put("usage.peak", float(outcome.decisions["peak_usage"]))
    figures.put("usage.mean_over_steps", float(outcome.decisions["mean_usage"]))
    span_ms = span_of(sums, workload)
    figures.ratio(
        "usage.time_weighted", sums["used_block_ms"] / conditions.usable_blocks, span_ms, _NO_CLOCK
    )
    figures.ratio("running.time_weighted", sums["running_ms"], span_ms, _NO_CLOCK)
    figures.ratio("queue.length_time_weighted", sums["waiting_ms"], span_ms, _NO_CLOCK)
    if span_ms > 0:
        figures.put("queue.head_refused_s", sums["refused_ms"] / 1e3)
    else:
        figures.lack(_NO_CLOCK, "queue.head_refused_s")
    figures.ratio("queue.head_refused_share", sums["refused_ms"], span_ms, _NO_CLOCK)
    figures.lack(
        "whether a later request would have fitted is looked at only while events are recorded: "
        "--events",
        "queue.head_of_line_s",
    )
    figures.put("clock.simulated_s", span_ms / 1e3)
    figures.put("clock.idle_s", max(0.0, span_ms - sums["busy_ms"]) / 1e3)
    figures.lack("the step-time model was not calibrated on a device", "clock.step_time_error")


def span_of(sums: Mapping[str, float], workload: Workload) -> float:
    """Return the simulated milliseconds from the first arrival to where the clock stands."""
    if workload.num_requests == 0:
        return 0.0
    # A backlog waits from 0 on, whatever the trace says; a timed engine jumps to the first arrival.
    started_ms = sums["clock_ms"] - sums["busy_ms"]
    return sums["clock_ms"] - min(started_ms, round(float(workload.arrival_s[0]) * 1e3, 6))


def measure_final_waste(figures: Figures, workload: Workload, conditions: Conditions) -> None:
    """Add the waste of each request's last block alone, as if nothing were shared. O(N)."""
    name = "waste.final_length_share"
    if conditions.block_size is None or conditions.windowed or not conditions.slots_hold_tokens:
        figures.lack("layers that forget, or several groups: no one length says it", name)
        return
    found = final_waste(workload, conditions.block_size)
    slots = found.allocated_slots
    figures.ratio(name, slots - found.live_tokens, slots, "no requests")


def _waste(figures: Figures, outcome: Outcome, workload: Workload, conditions: Conditions) -> None:
    names = ("waste.internal_time_weighted", "waste.internal_mean_slots")
    measure_final_waste(figures, workload, conditions)
    sums = outcome.sums
    if conditions.block_size is None:
        figures.lack("several KV cache groups: their padding is not counted apart yet", *names)
        return
    if not conditions.slots_hold_tokens:
        figures.lack("a recurrent state is one piece: its block has no slots to waste", *names)
        return
    held_slot_ms = sums["used_block_ms"] * conditions.block_size
    nothing = _NO_CLOCK if sums["busy_ms"] == 0 else _NOTHING
    figures.ratio(names[0], sums["wasted_slot_ms"], held_slot_ms, nothing)
    figures.ratio(names[1], sums["wasted_slot_ms"], sums["busy_ms"], nothing)


def _pressure(figures: Figures, outcome: Outcome) -> None:
    counts, sums = outcome.decisions, outcome.sums
    figures.put("preemption.count", int(counts["preemptions"]))
    figures.put("preemption.recomputed_tokens", int(sums["recomputed_tokens"]))
    figures.ratio(
        "preemption.waste",
        sums["recomputed_tokens"],
        float(counts["scheduled_tokens"]),
        _NOTHING,
    )
    figures.put("allocation.failed_running", int(sums["failed_running"]))
    figures.put("allocation.failed_waiting", int(sums["failed_waiting"]))
    figures.put("allocation.blocks", int(sums["allocations"]))


def _rungs(figures: Figures, outcome: Outcome) -> None:
    """Add how often each rung of the ladder was taken, and what the policies did that are on."""
    counts, sums = outcome.decisions, outcome.sums
    swapped, recomputed = (int(sums.get(f"host_{name}", 0)) for name in ("swapped", "recomputed"))
    preemptions = int(counts["preemptions"])
    figures.put("pressure.evicted_blocks", int(sums["evictions"]))
    figures.lack(
        "blocks of one size never have to lie side by side: the engine has no such rung",
        "pressure.defragmentations",
    )
    names = ("pressure.swapped_requests", "pressure.recomputed_requests")
    if "host_swapped" not in sums:
        figures.lack("there is no tier below the device", names[0])
        figures.put(names[1], preemptions)
    elif preemptions == 0 or swapped + recomputed > 0:
        figures.put(names[0], swapped)
        figures.put(names[1], recomputed)
    else:
        # Nobody chose at the preemptions; what of it the host has is found block by block.
        figures.lack(
            _WRITTEN_ON_EVICTION, *names, "tier.swapped_requests", "tier.recomputed_requests"
        )
    if "refused_requests" in sums:
        figures.put("pressure.refused_requests", int(sums["refused_requests"]))
    else:
        figures.lack("who was set aside is not known here", "pressure.refused_requests")
    for name, flag in _POLICIES:
        if f"pressure_{name}" in sums:
            figures.put(f"pressure.{name}", int(sums[f"pressure_{name}"]))
        else:
            figures.lack(f"no policy for short memory is on: {flag}", f"pressure.{name}")
