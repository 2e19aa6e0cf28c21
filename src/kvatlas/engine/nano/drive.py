"""The drive of the nano-vLLM profile: step after step on the simulated clock.

Owns: the loop over a workload, and what is summed up per step. Leaves to others: each step
(`scheduler`), arrivals, the clock and the stream of decisions (`engine.drive`, the same as under
the vLLM profile). nano-vLLM knows no step without tokens and no pipeline: a step is scheduled,
computed and taken in, then the next one is.
"""

from __future__ import annotations

import numpy as np

from kvatlas.engine.kernels import recording
from kvatlas.engine.kernels.arrivals import Arrivals
from kvatlas.engine.kernels.drive import BLOCKED, DONE, SLICE_OVER
from kvatlas.engine.kernels.state import NEW_KIND, NONE, REJECTED, WAITING, Engine, Step
from kvatlas.engine.kernels.step_time import StepTime, step_ms
from kvatlas.engine.kernels.stream import Sink, write_step
from kvatlas.engine.kernels.sums import Progress
from kvatlas.engine.nano import scheduler
from kvatlas.engine.nano.waiting import pop_front, push_back
from kvatlas.events import schema
from kvatlas.events._log_kernel import put_request
from kvatlas.jit import entry, kernel

NEED_SLOTS = 3
"""Why `drive` returned, beside `engine.drive`'s reasons: more may be admitted than has slots."""


@kernel
def _receive(engine: Engine, arrivals: Arrivals, progress: Progress) -> None:
    """Move new arrivals into the waiting queue, less those set aside; O(arrivals)."""
    requests, queue, state = engine.requests, engine.queue, progress.state
    timed = arrivals.timed != 0
    num_rows = requests.shape[0]
    if timed and queue.num_running == 0 and queue.num_waiting == 0 and state.next_row < num_rows:
        # An idle engine jumps to the next arrival.
        state.clock_ms = max(state.clock_ms, arrivals.arrival_ms[state.next_row])
        engine.pool.log.info.time_ms = state.clock_ms
    while state.next_row < num_rows:
        row = state.next_row
        if timed:
            if arrivals.arrival_ms[row] > state.clock_ms:
                break
        elif queue.num_waiting >= arrivals.queue_depth:
            break
        state.next_row = row + 1
        if engine.pool.log.info.on != 0:
            recording.arrival(engine, row, arrivals.arrival_ms[row] if timed else state.clock_ms)
        if requests[row].status != REJECTED:
            requests[row].status = WAITING
            push_back(engine.waiting, queue, row)


@kernel
def _wasted_slots(engine: Engine, step: Step) -> tuple[int, int]:
    """Return the allocated slots without a token, and how many sequences hold blocks.

    O(sequences that hold blocks).
    """
    requests, queue = engine.requests, engine.queue
    block_size = engine.config.hash_block
    holding = queue.num_running
    # What this step computes is counted as computed: allocated, less computed, is wasted.
    wasted = -step.info.tokens
    for at in range(holding):
        request = requests[engine.running[at]]
        wasted += engine.tables[0, request.slot].length * block_size - request.computed
    if queue.num_waiting > 0:
        request = requests[engine.waiting[queue.head]]
        if request.slot != NONE:
            # A prompt between two chunks holds its blocks, but waits in nano-vLLM's books.
            wasted += engine.tables[0, request.slot].length * block_size - request.computed
            holding += 1
    return wasted, holding


@kernel
def _observe(
    engine: Engine, step: Step, progress: Progress, wasted: int, holding: int, duration_ms: float
) -> None:
    """Add one step to the sums; O(1)."""
    queue, state = engine.queue, progress.state
    total = engine.config.num_blocks
    used = total - engine.pool.info.free
    waiting = queue.num_waiting + queue.num_running - holding
    usage = used / total
    state.usage_sum += usage
    if usage > state.peak_usage:
        state.peak_usage = usage
    state.running_sum += holding
    state.used_block_ms += used * duration_ms
    state.wasted_slot_ms += wasted * duration_ms
    state.running_ms += holding * duration_ms
    state.waiting_ms += waiting * duration_ms
    if step.info.refused_row != NONE:
        state.refused_ms += duration_ms
    state.busy_ms += duration_ms


@kernel
def _update(engine: Engine, step: Step, progress: Progress, chunked_prefill: int) -> None:
    """Take in the output of `step` and note the times of first and last tokens; O(entries)."""
    clock_ms = progress.state.clock_ms
    times = progress.times
    for at in range(step.info.entries):
        row = step.entries[at].row
        if step.entries[at].sampled != 0 and np.isnan(times[row].first_token_ms):
            times[row].first_token_ms = clock_ms
    done = scheduler.postprocess(engine, step, progress.totals, progress.finished, chunked_prefill)
    for i in range(done):
        times[progress.finished[i]].finished_ms = clock_ms


@entry
def drive(
    engine: Engine,
    step: Step,
    arrivals: Arrivals,
    step_time: StepTime,
    sink: Sink,
    progress: Progress,
    chunked_prefill: int,
    max_steps: int,
    max_tokens: int,
) -> int:
    """Run up to `max_steps` steps or `max_tokens` tokens; return why it ended.

    DONE, SLICE_OVER (call again), NEED_SLOTS (grow, then call again) or BLOCKED: the first waiting
    request (`blocked_row`) can never be served; nano-vLLM ends with a failed assertion there.
    O(running + blocks touched) per step; all state lives in the arguments.
    """
    state, log = progress.state, engine.pool.log.info
    last_step = state.steps + max_steps
    last_token = state.scheduled_tokens + max_tokens
    while state.steps < last_step and state.scheduled_tokens < last_token:
        if sink.mode != 0 and sink.words.shape[0] - sink.used[0] < sink.step_words:
            return SLICE_OVER
        if log.on != 0:
            room = engine.pool.log.rows.shape[0] - log.used
            if min(room, engine.pool.log.ids.shape[0] - log.ids_used) < log.step_rows:
                return SLICE_OVER
            log.step = state.steps + 1
            log.time_ms = state.clock_ms
        _receive(engine, arrivals, progress)
        if engine.queue.num_running == 0 and engine.queue.num_waiting == 0:
            if state.next_row >= engine.requests.shape[0]:
                return DONE
            continue
        if engine.queue.free_slots < min(engine.queue.num_waiting, engine.config.max_num_seqs):
            return NEED_SLOTS
        scheduler.prefill(engine, step, progress.totals, chunked_prefill)
        if step.info.entries == 0:
            scheduler.decode(engine, step, progress.totals)
        state.steps += 1
        tokens = step.info.tokens
        state.scheduled_tokens += tokens
        started_ms = state.clock_ms
        duration_ms = step_ms(step_time, tokens)
        state.clock_ms = started_ms + duration_ms
        for at in range(step.info.entries):
            if step.entries[at].kind == NEW_KIND:
                progress.times[step.entries[at].row].first_scheduled_ms = started_ms
        wasted, holding = _wasted_slots(engine, step)
        _observe(engine, step, progress, wasted, holding, duration_ms)
        if log.on != 0:
            recording.step(engine, step, 1, wasted, duration_ms)
            # Prompts between two chunks hold blocks, but wait in nano-vLLM's books.
            said = engine.pool.log.rows[log.used - 1]
            said.waiting += said.running - holding
            said.running = holding
            log.time_ms = state.clock_ms
        if sink.mode != 0:
            write_step(engine, step, sink, state.steps)
        if step.info.entries == 0:
            state.empty_steps += 1
            state.blocked_row = engine.waiting[engine.queue.head]
            return BLOCKED
        _update(engine, step, progress, chunked_prefill)
    return SLICE_OVER


@entry
def set_aside(engine: Engine) -> None:
    """Take the first waiting request out for good: it can never be served."""
    row = pop_front(engine.waiting, engine.queue)
    engine.requests[row].status = REJECTED
    if engine.pool.log.info.on != 0:
        put_request(engine.pool.log, schema.FINISHED, schema.BY_SET_ASIDE, row, NONE, 0)
