"""Gliding: the steps between two changes of a block, in one go.

Owns: when nothing can change, and what moves all the same. Leaves to others: the steps that do
change something (`drive`). On one request at a time this saves nine tenths of the run.
"""

from __future__ import annotations

import numpy as np

from kvatlas.engine.kernels import foresight, lazy, recording
from kvatlas.engine.kernels.arrivals import Arrivals
from kvatlas.engine.kernels.state import NONE, Engine, Step
from kvatlas.engine.kernels.stream import STEP_WORD, Sink, put
from kvatlas.engine.kernels.sums import Progress, add_sums, slot_groups, wasted_slots
from kvatlas.jit import kernel


@kernel
def glide(
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
    refused = 1 if step.info.refused_row != NONE else 0
    may_admit = engine.queue.num_waiting > 0 and running < config.max_num_seqs
    if may_admit and (refused == 0 or config.hybrid != 0 or foresight.restless(engine.pressure)):
        return
    steps = lazy.quiet_steps(engine.pressure, int(last_step - state.steps))
    for at in range(running):
        request = requests[engine.running[at]]
        to_end = min(request.prompt + request.max_tokens, config.max_model_len)
        steps = min(steps, request.quiet_until - request.computed, to_end - request.num_tokens - 1)
        if steps <= 0 or request.num_tokens - request.computed != 1:
            return
    if sink.mode == 2:
        return
    done = 0
    free, total = engine.pool.info.free, config.num_blocks - 1
    usage = 1.0 - free / total if total > 0 else 0.0
    wasted = wasted_slots(engine)
    filled = running * slot_groups(engine)
    next_arrival = np.inf
    if arrivals.timed != 0 and more:
        next_arrival = arrivals.arrival_ms[state.next_row]
    while done < steps and state.scheduled_tokens < last_token and state.clock_ms < next_arrival:
        if sink.mode != 0:
            if sink.words.shape[0] - sink.used[0] < sink.step_words:
                break
            put(sink, STEP_WORD)
            put(sink, state.steps + 1)
        done += 1
        state.steps += 1
        state.scheduled_tokens += running
        state.clock_ms = state.clock_ms + duration_ms
        wasted -= filled
        add_sums(engine, state, usage, wasted, refused, duration_ms)
    if done > 0 and engine.pool.log.info.on != 0:
        recording.glided(engine, step, done, refused, wasted + (done - 1) * filled, duration_ms)
        engine.pool.log.info.time_ms = state.clock_ms
    lazy.steps_passed(engine.pressure, done)
    progress.totals.failed_waiting += refused * done
    for at in range(running):
        request = requests[engine.running[at]]
        request.computed += done
        request.num_tokens += done
