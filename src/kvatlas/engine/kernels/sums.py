"""What a drive adds up step by step: counts, and integrals over the simulated clock.

Owns: `Progress` and its sums. Leaves to others: what they mean (`replay`, `kvatlas.measure`).
"""

from __future__ import annotations

from typing import NamedTuple

from kvatlas.engine.kernels.state import CROSS, I64, MAMBA_ALIGN, MAMBA_NONE, NONE, Engine, Step
from kvatlas.jit import inlined
from kvatlas.records import Record, Records, record_dtype

PROGRESS = record_dtype(
    next_row="i8",
    steps="i8",
    empty_steps="i8",
    scheduled_tokens="i8",
    running_sum="i8",
    pending="i8",  # 1 while a step's output is still in flight (async scheduling)
    just_finished="i8",  # vLLM keeps stepping once more to report finished requests
    blocked_row="i8",
    vain_row="i8",  # the row that last preempted itself while it ran alone, NONE after any token
    vain_reach="i8",  # the farthest it got, computed tokens
    vain_times="i8",  # how often in a row it got no farther
    clock_ms="f8",
    usage_sum="f8",
    peak_usage="f8",
    used_block_ms="f8",  # integrals over the simulated clock
    wasted_slot_ms="f8",
    running_ms="f8",
    waiting_ms="f8",
    refused_ms="f8",
    busy_ms="f8",
)
TIMES = record_dtype(first_scheduled_ms="f8", first_token_ms="f8", finished_ms="f8")


class Progress(NamedTuple):
    """Where the drive stands and what it has summed up so far."""

    state: Record  # PROGRESS
    totals: Record  # TOTALS
    finished: I64  # (S,) working space
    times: Records  # (R,) TIMES, NaN until it happens


@inlined
def observe(engine: Engine, step: Step, progress: Progress, duration_ms: float) -> None:
    """Add one step to the sums; O(running)."""
    total = engine.config.num_blocks - 1
    usage = 1.0 - engine.pool.info.free / total if total > 0 else 0.0
    refused = 1 if step.info.refused_row != NONE else 0
    progress.state.peak_usage = max(progress.state.peak_usage, usage)
    add_sums(engine, progress.state, usage, wasted_slots(engine), refused, duration_ms)


@inlined
def add_sums(
    engine: Engine, state: Record, usage: float, wasted: int, refused: int, duration_ms: float
) -> None:
    running = engine.queue.num_running
    used = engine.config.num_blocks - 1 - engine.pool.info.free
    state.usage_sum += usage
    state.running_sum += running
    state.used_block_ms += used * duration_ms
    state.wasted_slot_ms += wasted * duration_ms
    state.running_ms += running * duration_ms
    state.waiting_ms += engine.queue.num_waiting * duration_ms
    state.refused_ms += refused * duration_ms
    state.busy_ms += duration_ms


@inlined
def wasted_slots(engine: Engine) -> int:
    """Return the allocated slots that hold no token: the tails of the running requests' tables.

    States have no slots, and those of cross attention hold no token of the decoder.
    """
    tables, groups = engine.tables, engine.groups
    wasted = 0
    for group in range(groups.shape[0]):
        kind = groups[group].kind
        if kind == MAMBA_ALIGN or kind == MAMBA_NONE or kind == CROSS:
            continue
        block_size = groups[group].block_size
        for at in range(engine.queue.num_running):
            request = engine.requests[engine.running[at]]
            wasted += tables[group, request.slot].length * block_size - request.computed
    return int(wasted)


@inlined
def slot_groups(engine: Engine) -> int:
    """Return in how many groups each computed token fills a slot."""
    count = 0
    for group in range(engine.groups.shape[0]):
        kind = engine.groups[group].kind
        if kind != MAMBA_ALIGN and kind != MAMBA_NONE and kind != CROSS:
            count += 1
    return count
