"""Preemption by recompute: when a running request finds no slots, who gives way, and how.

Owns: choosing and emptying victims. Leaves to others: when slots are needed (`scheduler`).
Mirrors the preemption loop of `Scheduler.schedule` and `_preempt_request` of vLLM 0.32.0.
"""

from __future__ import annotations

from kvatlas.engine.kernels import manager, queues, recording
from kvatlas.engine.kernels.pool import uncache
from kvatlas.engine.kernels.state import NONE, NULL_BLOCK, PREEMPTED, Engine, Step
from kvatlas.events import schema
from kvatlas.events._log_kernel import put_request
from kvatlas.jit import kernel
from kvatlas.records import Record


@kernel
def allocate_running(
    engine: Engine, step: Step, totals: Record, row: int, new_tokens: int, at: int, budget: int
) -> tuple[bool, int, int]:
    """Find slots for a running request, preempting others while there are none.

    Returns (served, position of `row` in running, token budget left).
    """
    while True:
        if manager.allocate_slots(engine, row, new_tokens, 0, False, False, 0):
            return True, at, budget
        totals.failed_running += 1
        victim_at = _victim(engine)
        victim = int(engine.running[victim_at])
        if engine.pool.log.info.on != 0:
            recording.refusal(engine, row, int(engine.pool.log.info.cause), new_tokens, victim)
        count = engine.queue.num_running - 1
        for i in range(victim_at, count):
            engine.running[i] = engine.running[i + 1]
        engine.queue.num_running = count
        if victim_at < at:
            at -= 1
            dropped = _unrecord(step, victim)
            budget += dropped
            if dropped > 0 and engine.config.forget_uncomputed != 0:
                _forget_uncomputed(engine, victim)
        _preempt(engine, step, totals, victim, row)
        if victim == row:
            return False, at, budget


@kernel
def _victim(engine: Engine) -> int:
    """Return the position in `running` of the request to preempt."""
    running, count = engine.running, int(engine.queue.num_running)
    at = count - 1
    if engine.config.priority_policy != 0:
        for i in range(count):
            if engine.requests[running[i]].priority > engine.requests[running[at]].priority:
                at = i
    return at


@kernel
def _preempt(engine: Engine, step: Step, totals: Record, row: int, needy: int) -> None:
    """Take all blocks from `row`, for `needy`, and put it back to wait."""
    requests = engine.requests
    requests[row].lost = requests[row].computed
    engine.pool.log.info.free_cause = schema.BY_PREEMPTED
    manager.free(engine, row)
    if engine.pool.log.info.on != 0:
        at = put_request(
            engine.pool.log, schema.PREEMPTED, NONE, row, NONE, int(requests[row].computed)
        )
        engine.pool.log.rows[at].other = needy
    requests[row].status = PREEMPTED
    requests[row].computed = 0
    requests[row].stale = requests[row].in_flight
    requests[row].placeholders = 0
    requests[row].preemptions += 1
    queues.push_front(engine, row)
    step.preempted[step.info.preempted] = row
    step.info.preempted += 1
    totals.preemptions += 1


@kernel
def _forget_uncomputed(engine: Engine, row: int) -> None:
    """Drop what `row` cached in this step, which nobody will compute now.

    Blocks are cached when they are scheduled, [0, computed) [computed, now). vLLM 0.32.0 drops the
    entry of a request that loses its blocks to a later one of the same step, but keeps the keys of
    the second part: a later hit on them reads slots that nobody has written.
    """
    slot = engine.requests[row].slot
    for group in range(engine.groups.shape[0]):
        first = engine.requests[row].computed // engine.groups[group].block_size
        for at in range(first, engine.tables[group, slot].length):
            block = int(engine.table[group, slot, at])
            if block != NULL_BLOCK:
                uncache(engine.pool, block)


@kernel
def _unrecord(step: Step, row: int) -> int:
    """Drop the entry of a request preempted after it was scheduled; return its tokens (0: none)."""
    count = step.info.entries
    for at in range(count):
        if step.entries[at].row == row:
            tokens = int(step.entries[at].tokens)
            for i in range(at, count - 1):
                step.entries[i].row = step.entries[i + 1].row
                step.entries[i].tokens = step.entries[i + 1].tokens
                for group in range(step.old_length.shape[0]):
                    step.old_length[group, i] = step.old_length[group, i + 1]
            step.info.entries = count - 1
            step.info.tokens -= tokens
            return tokens
    return 0
