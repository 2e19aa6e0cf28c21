"""The driver: feed a workload to the scheduler, step after step, on a simulated clock.

Owns: receiving arrivals, the two-deep pipeline of async scheduling, the clock. Leaves to others:
each step (`scheduler`), stretches of pure decoding (`glide`), what is added up (`sums`) and written
down (`stream`). The rules are those under which the real Scheduler was
recorded: before each step the waiting queue is topped up (backlog) or receives what has arrived
(timed); every request whose prefill is complete samples one token; an idle timed engine jumps to
the next arrival.
"""

from __future__ import annotations

import numpy as np

from kvatlas.engine.kernels import manager, queues, recording, scheduler, tiering
from kvatlas.engine.kernels.arrivals import Arrivals
from kvatlas.engine.kernels.glide import glide
from kvatlas.engine.kernels.state import NEW_KIND, NONE, REJECTED, WAITING, Engine, Step
from kvatlas.engine.kernels.step_time import StepTime, step_ms
from kvatlas.engine.kernels.stream import Sink, write_step
from kvatlas.engine.kernels.sums import Progress, observe, wasted_slots
from kvatlas.events import schema
from kvatlas.events._log_kernel import put_request
from kvatlas.jit import entry, inlined, kernel
from kvatlas.records import Record

# Why `drive` returned.
DONE, SLICE_OVER, BLOCKED = range(3)

# A cycle of admission and self-preemption that has come around so often comes around for ever.
_VAIN_TIMES = 16


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
    """Run up to `max_steps` steps or `max_tokens` tokens; return DONE, SLICE_OVER or BLOCKED.

    Stops early while the sink has room for another step only. Call again to go on; all state lives
    in the arguments. O(running + blocks touched) per step.
    """
    state, config, log = progress.state, engine.config, engine.pool.log.info
    num_requests = engine.requests.shape[0]
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
            log.time_ms = progress.state.clock_ms
        _receive(engine, arrivals, progress)
        alive = (
            engine.queue.num_running > 0 or engine.queue.num_waiting > 0 or state.just_finished != 0
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
        plain_ms = step_ms(step_time, tokens)
        duration_ms = tiering.lengthened(engine.pool.tier, plain_ms)
        progress.state.clock_ms = started_ms + duration_ms
        for i in range(step.info.entries):
            if step.entries[i].kind == NEW_KIND:
                progress.times[step.entries[i].row].first_scheduled_ms = started_ms
        observe(engine, step, progress, duration_ms)
        if log.on != 0:
            recording.step(engine, step, 1, wasted_slots(engine), duration_ms)
            log.time_ms = progress.state.clock_ms
        if sink.mode != 0:
            write_step(engine, step, sink, state.steps)
        blocked = NONE
        if tokens == 0 or step.info.preempted > 0:
            blocked = _blocked_row(engine, step, pending, arrivals, progress)
        if config.async_scheduling == 0:
            _update(engine, step, progress)
            if state.just_finished == 0 and 0 < tokens == engine.queue.num_running:
                glide(engine, step, arrivals, plain_ms, sink, progress, last_step, last_token)
        else:
            had_pending = state.pending != 0
            if had_pending:
                _update(engine, pending, progress)
            _copy_step(step, pending)
            state.pending = 1
            if (
                not had_pending
                and tokens == 0
                and not (
                    engine.queue.num_running > 0
                    or engine.queue.num_waiting > 0
                    or state.just_finished != 0
                )
            ):
                state.pending = 0
                _update(engine, pending, progress)
        if blocked != NONE:
            state.blocked_row = blocked
            return BLOCKED
    return SLICE_OVER


@inlined
def _receive(engine: Engine, arrivals: Arrivals, progress: Progress) -> None:
    """Move new arrivals into the waiting queue."""
    state = progress.state
    num_requests = engine.requests.shape[0]
    if arrivals.timed == 0:
        while state.next_row < num_requests and engine.queue.num_waiting < arrivals.queue_depth:
            _add_request(engine, arrivals, progress)
        return
    idle = engine.queue.num_running == 0 and engine.queue.num_waiting == 0 and state.pending == 0
    if idle and state.next_row < num_requests:
        progress.state.clock_ms = max(progress.state.clock_ms, arrivals.arrival_ms[state.next_row])
        engine.pool.log.info.time_ms = progress.state.clock_ms
    while (
        state.next_row < num_requests
        and arrivals.arrival_ms[state.next_row] <= progress.state.clock_ms
    ):
        _add_request(engine, arrivals, progress)


@kernel
def _add_request(engine: Engine, arrivals: Arrivals, progress: Progress) -> None:
    row = progress.state.next_row
    progress.state.next_row = row + 1
    if engine.pool.log.info.on != 0:
        clock_ms = progress.state.clock_ms
        recording.arrival(engine, row, arrivals.arrival_ms[row] if arrivals.timed else clock_ms)
    if engine.requests[row].status != REJECTED:
        engine.requests[row].status = WAITING
        queues.push_back(engine, row)


@inlined
def _update(engine: Engine, step: Step, progress: Progress) -> None:
    """Take in the output of `step` and note the times of first and last tokens."""
    clock = progress.state.clock_ms
    for i in range(step.info.entries):
        row = step.entries[i].row
        if step.entries[i].sampled != 0:
            progress.state.vain_row = NONE
            if np.isnan(progress.times[row].first_token_ms):
                progress.times[row].first_token_ms = clock
    done = scheduler.update_from_output(engine, step, progress.totals, progress.finished)
    for i in range(done):
        progress.times[progress.finished[i]].finished_ms = clock
    if done > 0:
        progress.state.just_finished = 1


@kernel
def _copy_step(source: Step, target: Step) -> None:
    entries = source.info.entries
    for i in range(entries):
        target.entries[i].row = source.entries[i].row
        target.entries[i].tokens = source.entries[i].tokens
        target.entries[i].sampled = source.entries[i].sampled
    target.info.entries = entries


@kernel
def _preempted_in_vain(engine: Engine, state: Record, row: int) -> bool:
    """Say whether `row`, which has just preempted itself while it ran alone, will do so for ever.

    It is admitted again, and may get farther: what it computed is cached, its chunks fall
    elsewhere, or others use its absence. Only when it got no farther time after time, and no token
    came out of the engine in between, does it turn in circles.
    """
    if row != state.vain_row or engine.requests[row].lost > state.vain_reach:
        state.vain_row = row
        state.vain_reach = engine.requests[row].lost
        state.vain_times = 0
    state.vain_times += 1
    return bool(state.vain_times >= _VAIN_TIMES)


@kernel
def _blocked_row(
    engine: Engine, step: Step, pending: Step, arrivals: Arrivals, progress: Progress
) -> int:
    """Return the request that blocks the engine for ever, or NONE.

    A step without tokens changes nothing, so the next one decides the same, unless output is still
    in flight or a later arrival (timed; a backlog is full already) may overtake under the priority
    policy, or ends the time in which a lone request computes its prompt in larger chunks.
    """
    config = engine.config
    to_come = arrivals.timed != 0 and progress.state.next_row < engine.requests.shape[0]
    lone = engine.queue.num_running + engine.queue.num_waiting <= 1
    may_help = to_come and config.long_prefill_token_threshold > 0 and lone
    if step.info.preempted > 0:
        if engine.queue.num_running > 0 or step.info.entries > 0:
            return NONE
        row = int(step.preempted[step.info.preempted - 1])
        may_help = may_help or (to_come and arrivals.patient != 0)
        return row if _preempted_in_vain(engine, progress.state, row) and not may_help else NONE
    if progress.state.pending != 0 and pending.info.entries > 0:
        return NONE
    may_help = may_help or (to_come and config.priority_policy != 0)
    if step.info.tokens > 0 or may_help:
        return NONE
    if engine.queue.num_running > 0:
        return int(engine.running[0])
    if engine.queue.num_waiting > 0:
        return queues.first(engine)
    return NONE


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
    engine.pool.log.info.free_cause = schema.BY_SET_ASIDE
    if from_running:
        manager.free(engine, row)
    else:
        queues.remove(engine, row)
    engine.requests[row].status = REJECTED
    if engine.pool.log.info.on != 0:
        put_request(engine.pool.log, schema.FINISHED, schema.BY_SET_ASIDE, row, NONE, 0)
