"""The driver: feed a workload to the scheduler, step after step, on a simulated clock.

Owns: arrivals (backlog or timed), the two-deep pipeline of async scheduling, the clock, per-step
sums, and the stream of decisions. Leaves to others: each step (`scheduler`), and what the sums mean
(`replay`). The rules are those under which the real Scheduler was recorded: before each step the
waiting queue is topped up (backlog) or receives what has arrived (timed); every request whose
prefill is complete samples one token; an idle timed engine jumps to the next arrival.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.engine import queues, scheduler
from kvatlas.engine.state import (
    F64,
    I64,
    MAMBA_ALIGN,
    MAMBA_NONE,
    NEW_KIND,
    NONE,
    REJECTED,
    RESUMED_KIND,
    RUN_KIND,
    WAITING,
    Engine,
    Record,
    Records,
    Step,
    record_dtype,
)
from kvatlas.engine.step_time import StepTime, step_ms
from kvatlas.jit import entry, inlined, kernel

U32 = NDArray[np.uint32]

# Words that separate the decision stream's parts.
STEP_WORD, ADMIT_WORD, GROW_WORD, PREEMPT_WORD = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFC
GROUP_WORD, SCHEDULED_WORD = 0xFFFFFFFB, 0xFFFFFFFA

_NO_ROW = 1 << 62

# Why `drive` returned.
DONE, SLICE_OVER, BLOCKED = range(3)

PROGRESS = record_dtype(
    next_row="i8",
    steps="i8",
    empty_steps="i8",
    scheduled_tokens="i8",
    running_sum="i8",
    pending="i8",  # 1 while a step's output is still in flight (async scheduling)
    just_finished="i8",  # vLLM keeps stepping once more to report finished requests
    blocked_row="i8",
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


class Arrivals(NamedTuple):
    """When requests come: all wait in a backlog, or each at its time."""

    arrival_ms: F64  # (R,)
    timed: int
    queue_depth: int  # backlog: the waiting queue is topped up to this many


class Sink(NamedTuple):
    """The stream of decisions as 32-bit words; mode 0 off, 1 what the checksum covers, 2 all."""

    words: U32
    used: I64  # (1,)
    mode: int
    step_words: int  # upper bound of the words of one step


class Progress(NamedTuple):
    """Where the drive stands and what it has summed up so far."""

    state: Record  # PROGRESS
    totals: Record  # TOTALS
    finished: I64  # (S,) working space
    times: Records  # (R,) TIMES, NaN until it happens


@inlined
def _put(sink: Sink, word: int) -> None:
    at = sink.used[0]
    sink.words[at] = word
    sink.used[0] = at + 1


@kernel
def _put_blocks(engine: Engine, sink: Sink, group: int, slot: int, first: int) -> None:
    at = sink.used[0]
    for i in range(first, engine.tables[group, slot].length):
        sink.words[at] = engine.table[group, slot, i]
        at += 1
    sink.used[0] = at


@kernel
def write_step(engine: Engine, step: Step, sink: Sink, number: int) -> None:
    """Append the decisions of one step in the order of the recorded checksums."""
    requests, tables = engine.requests, engine.tables
    num_groups = engine.groups.shape[0]
    _put(sink, STEP_WORD)
    _put(sink, number)
    for kind in (NEW_KIND, RESUMED_KIND):
        for entry in range(step.info.entries):
            if step.entries[entry].kind != kind:
                continue
            row = step.entries[entry].row
            _put(sink, ADMIT_WORD)
            _put(sink, row)
            _put(sink, step.entries[entry].hit)
            for group in range(num_groups):
                if group > 0:
                    _put(sink, GROUP_WORD)
                _put_blocks(engine, sink, group, requests[row].slot, 0)
    for entry in range(step.info.entries):
        if step.entries[entry].kind != RUN_KIND:
            continue
        row = step.entries[entry].row
        slot = requests[row].slot
        grown = False
        for group in range(num_groups):
            if tables[group, slot].length > step.old_length[group, entry]:
                grown = True
        if grown:
            _put(sink, GROW_WORD)
            _put(sink, row)
            for group in range(num_groups):
                if group > 0:
                    _put(sink, GROUP_WORD)
                _put_blocks(engine, sink, group, slot, step.old_length[group, entry])
    count = step.info.preempted
    if count > 0:
        last = NONE
        for _ in range(count):
            smallest = _NO_ROW
            for i in range(count):
                row = step.preempted[i]
                if last < row < smallest:
                    smallest = row
            _put(sink, PREEMPT_WORD)
            _put(sink, smallest)
            last = smallest
    if sink.mode == 2:
        _put(sink, SCHEDULED_WORD)
        _put(sink, engine.pool.info.free)
        for entry in range(step.info.entries):
            _put(sink, step.entries[entry].row)
            _put(sink, step.entries[entry].tokens)


@kernel
def _add_request(engine: Engine, progress: Progress) -> None:
    row = progress.state.next_row
    progress.state.next_row = row + 1
    if engine.requests[row].status != REJECTED:
        engine.requests[row].status = WAITING
        queues.push_back(engine, row)


@inlined
def _receive(engine: Engine, arrivals: Arrivals, progress: Progress) -> None:
    """Move new arrivals into the waiting queue."""
    state = progress.state
    num_requests = engine.requests.shape[0]
    if arrivals.timed == 0:
        while (
            state.next_row < num_requests
            and engine.queue.num_waiting < arrivals.queue_depth
        ):
            _add_request(engine, progress)
        return
    idle = (
        engine.queue.num_running == 0
        and engine.queue.num_waiting == 0
        and state.pending == 0
    )
    if idle and state.next_row < num_requests:
        progress.state.clock_ms = max(
            progress.state.clock_ms, arrivals.arrival_ms[state.next_row]
        )
    while (
        state.next_row < num_requests
        and arrivals.arrival_ms[state.next_row] <= progress.state.clock_ms
    ):
        _add_request(engine, progress)


@inlined
def _update(engine: Engine, step: Step, progress: Progress) -> None:
    """Take in the output of `step` and note the times of first and last tokens."""
    clock = progress.state.clock_ms
    for entry in range(step.info.entries):
        row = step.entries[entry].row
        if step.entries[entry].sampled != 0 and np.isnan(progress.times[row].first_token_ms):
            progress.times[row].first_token_ms = clock
    done = scheduler.update_from_output(engine, step, progress.totals, progress.finished)
    for i in range(done):
        progress.times[progress.finished[i]].finished_ms = clock
    if done > 0:
        progress.state.just_finished = 1


@kernel
def _copy_step(source: Step, target: Step) -> None:
    entries = source.info.entries
    for entry in range(entries):
        target.entries[entry].row = source.entries[entry].row
        target.entries[entry].tokens = source.entries[entry].tokens
        target.entries[entry].sampled = source.entries[entry].sampled
    target.info.entries = entries


@inlined
def _observe(engine: Engine, step: Step, progress: Progress, duration_ms: float) -> None:
    """Add one step to the sums; O(running)."""
    total = engine.config.num_blocks - 1
    usage = 1.0 - engine.pool.info.free / total if total > 0 else 0.0
    refused = 1 if step.info.refused_row != NONE else 0
    progress.state.peak_usage = max(progress.state.peak_usage, usage)
    _add_sums(engine, progress.state, usage, _wasted_slots(engine), refused, duration_ms)


@inlined
def _add_sums(
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
def _wasted_slots(engine: Engine) -> int:
    """Return the allocated slots that hold no token: the tails of the running requests' tables."""
    tables, groups = engine.tables, engine.groups
    wasted = 0
    for group in range(groups.shape[0]):
        kind = groups[group].kind
        if kind == MAMBA_ALIGN or kind == MAMBA_NONE:
            continue
        block_size = groups[group].block_size
        for at in range(engine.queue.num_running):
            request = engine.requests[engine.running[at]]
            wasted += tables[group, request.slot].length * block_size - request.computed
    return int(wasted)


@kernel
def _blocked_row(engine: Engine, step: Step, pending: Step, progress: Progress) -> int:
    """Return the request that blocks the engine for ever, or NONE.

    A step without tokens changes nothing, so the next one decides the same, unless output is still
    in flight or (priority) a later arrival may overtake. A request that preempted itself while it
    ran alone has been refused by an otherwise empty pool.
    """
    if progress.state.pending != 0 and pending.info.entries > 0:
        return NONE
    if step.info.preempted > 0:
        alone = engine.queue.num_running == 0 and step.info.entries == 0
        return int(step.preempted[step.info.preempted - 1]) if alone else NONE
    if step.info.tokens > 0:
        return NONE
    more = progress.state.next_row < engine.requests.shape[0]
    if more and engine.config.priority_policy != 0:
        return NONE
    if engine.queue.num_running > 0:
        return int(engine.running[0])
    if engine.queue.num_waiting > 0:
        return queues.first(engine)
    return NONE


@kernel
def _glide(
    engine: Engine,
    step: Step,
    arrivals: Arrivals,
    duration_ms: float,
    sink: Sink,
    progress: Progress,
    last_step: int,
    last_token: int,
) -> None:
    """Repeat a step of pure decoding while it can change no block; O(running + steps).

    Until a request crosses a block boundary or finishes, or another arrives, every step decides the
    same: one token each, the same refusal at the head of the queue. Only clock and sums move.
    """
    requests, state, config = engine.requests, progress.state, engine.config
    running = engine.queue.num_running
    more = state.next_row < requests.shape[0]
    if arrivals.timed == 0 and more and engine.queue.num_waiting < arrivals.queue_depth:
        return  # An admission has made room in the backlog: the next step receives a request first.
    if engine.queue.num_waiting > 0 and running < config.max_num_seqs:
        if step.info.refused_row == NONE or config.hybrid != 0:
            return
    steps = last_step - state.steps
    for at in range(running):
        request = requests[engine.running[at]]
        to_end = min(request.prompt + request.max_tokens, config.max_model_len)
        steps = min(
            steps, request.quiet_until - request.computed, to_end - request.num_tokens - 1
        )
        if steps <= 0 or request.num_tokens - request.computed != 1:
            return
    if sink.mode == 2:
        return
    done = 0
    free, total = engine.pool.info.free, config.num_blocks - 1
    usage = 1.0 - free / total if total > 0 else 0.0
    wasted = _wasted_slots(engine)
    refused = 1 if step.info.refused_row != NONE else 0
    next_arrival = np.inf
    if arrivals.timed != 0 and more:
        next_arrival = arrivals.arrival_ms[state.next_row]
    while done < steps and state.scheduled_tokens < last_token and state.clock_ms < next_arrival:
        if sink.mode != 0:
            if sink.words.shape[0] - sink.used[0] < sink.step_words:
                break
            _put(sink, STEP_WORD)
            _put(sink, state.steps + 1)
        done += 1
        state.steps += 1
        state.scheduled_tokens += running
        state.clock_ms = state.clock_ms + duration_ms
        wasted -= running
        _add_sums(engine, state, usage, wasted, refused, duration_ms)
    progress.totals.failed_waiting += refused * done
    for at in range(running):
        request = requests[engine.running[at]]
        request.computed += done
        request.num_tokens += done


@entry
def drive(
    engine: Engine,
    step: Step,
    pending: Step,
    arrivals: Arrivals,
    step_time: StepTime,
    sink: Sink,
    progress: Progress,
    max_steps: int,
    max_tokens: int,
) -> int:
    """Run up to `max_steps` steps or `max_tokens` scheduled tokens; return DONE, SLICE_OVER, BLOCKED.

    Stops early while the sink has room for another step only. Call again to go on; all state lives
    in the arguments. O(running + blocks touched) per step.
    """
    state, config = progress.state, engine.config
    num_requests = engine.requests.shape[0]
    last_step = state.steps + max_steps
    last_token = state.scheduled_tokens + max_tokens
    while state.steps < last_step and state.scheduled_tokens < last_token:
        if sink.mode != 0 and sink.words.shape[0] - sink.used[0] < sink.step_words:
            return SLICE_OVER
        _receive(engine, arrivals, progress)
        alive = (
            engine.queue.num_running > 0
            or engine.queue.num_waiting > 0
            or state.just_finished != 0
        )
        if not alive:
            if state.pending != 0:
                state.pending = 0
                _update(engine, pending, progress)
                continue
            if state.next_row >= num_requests:
                return DONE
            continue
        state.just_finished = 0
        started_ms = progress.state.clock_ms
        scheduler.schedule(engine, step, progress.totals)
        state.steps += 1
        tokens = step.info.tokens
        state.scheduled_tokens += tokens
        if tokens == 0:
            state.empty_steps += 1
        duration_ms = step_ms(step_time, tokens)
        progress.state.clock_ms = started_ms + duration_ms
        for entry in range(step.info.entries):
            if step.entries[entry].kind == NEW_KIND:
                progress.times[step.entries[entry].row].first_scheduled_ms = started_ms
        _observe(engine, step, progress, duration_ms)
        if sink.mode != 0:
            write_step(engine, step, sink, state.steps)
        blocked = NONE
        if tokens == 0 or step.info.preempted > 0:
            blocked = _blocked_row(engine, step, pending, progress)
        if config.async_scheduling == 0:
            _update(engine, step, progress)
            if state.just_finished == 0 and 0 < tokens == engine.queue.num_running:
                _glide(engine, step, arrivals, duration_ms, sink, progress, last_step, last_token)
        else:
            had_pending = state.pending != 0
            if had_pending:
                _update(engine, pending, progress)
            _copy_step(step, pending)
            state.pending = 1
            if not had_pending and tokens == 0 and not (
                engine.queue.num_running > 0
                or engine.queue.num_waiting > 0
                or state.just_finished != 0
            ):
                state.pending = 0
                _update(engine, pending, progress)
        if blocked != NONE:
            state.blocked_row = blocked
            return BLOCKED
    return SLICE_OVER


@entry
def reject(engine: Engine, row: int) -> None:
    """Take a request that blocks the engine out of it: it will never be served."""
    from_running = False
    kept = 0
    for at in range(engine.queue.num_running):
        other = engine.running[at]
        if other == row:
            from_running = True
        else:
            engine.running[kept] = other
            kept += 1
    engine.queue.num_running = kept
    if from_running:
        scheduler.manager.free(engine, row)
    else:
        queues.remove(engine, row)
    engine.requests[row].status = REJECTED

