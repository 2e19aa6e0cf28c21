"""nano-vLLM's Scheduler: one step is either prefill or decode, and prefill goes first.

Owns: who runs in a step, who is preempted, when a sequence ends. Leaves to others: blocks
(`manager`), the waiting queue's order (`waiting`), and the clock (`drive`). Mirrors
nanovllm/engine/kernels/scheduler.py (see `config`).

nano-vLLM's running deque is popped from the left as decode goes, and what was scheduled is put back
in front; victims are popped from the right. So the order never changes, and an array with a running
end does the same.
"""

from __future__ import annotations

from kvatlas.engine.kernels import recording
from kvatlas.engine.kernels.state import (
    I64,
    NEW_KIND,
    NONE,
    RESUMED_KIND,
    RUN_KIND,
    RUNNING,
    Engine,
    Step,
)
from kvatlas.engine.nano import manager
from kvatlas.engine.nano.waiting import pop_front, push_front
from kvatlas.events import schema
from kvatlas.events._log_kernel import put_request
from kvatlas.jit import inlined, kernel
from kvatlas.records import Record


@kernel
def prefill(engine: Engine, step: Step, totals: Record, chunked_prefill: int) -> None:
    """Admit from the head of the waiting queue until one does not fit; O(blocks touched).

    With chunked prefill, only the first of a step may be cut; it stays at the head, holding its
    blocks, and is therefore the first of the next step too.
    """
    requests, config, queue, info = engine.requests, engine.config, engine.queue, step.info
    log = engine.pool.log
    info.entries = 0
    info.tokens = 0
    info.preempted = 0
    info.refused_row = NONE
    while queue.num_waiting > 0 and info.entries < config.max_num_seqs:
        row = engine.waiting[queue.head]
        request = requests[row]
        left = config.max_num_batched_tokens - info.tokens
        if left == 0 or (chunked_prefill == 0 and request.num_tokens > left):
            break
        kind, hit = RUN_KIND, 0
        if request.slot == NONE:
            num_hits = manager.can_allocate(engine, row, chunked_prefill)
            if num_hits == NONE:
                if log.info.on != 0:
                    _refused(engine, row)
                totals.failed_waiting += 1
                info.refused_row = row
                break
            hit = num_hits * config.hash_block
            if request.num_tokens - hit > left and info.entries > 0:
                break
            if log.info.on != 0:
                recording.lookup(engine, row, int(request.num_tokens), hit)
                log.info.computed = hit + min(request.num_tokens - hit, left)
            manager.allocate(engine, row, num_hits)
            if chunked_prefill == 0:
                # The prompt's blocks can be hit before they are computed, in this very step.
                manager.hash_blocks(engine, row, request.num_tokens - hit)
            kind = _count_admission(request, totals, hit)
            if log.info.on != 0:
                cause = schema.BY_NEW if kind == NEW_KIND else schema.BY_RESUMED
                put_request(log, schema.ADMITTED, cause, row, int(request.num_tokens), hit)
        tokens = min(request.num_tokens - request.computed, left)
        done = request.computed + tokens == request.num_tokens
        if done:
            request.status = RUNNING
            engine.running[queue.num_running] = pop_front(engine.waiting, queue)
            queue.num_running += 1
        step.old_length[0, info.entries] = engine.tables[0, request.slot].length
        _record(step, row, tokens, kind, hit, done)
        if log.info.on != 0:
            computed = int(request.computed + tokens)
            put_request(log, schema.SCHEDULED, schema.BY_PREFILL, row, tokens, computed)


@kernel
def _refused(engine: Engine, row: int) -> None:
    """Log that the head of the queue found too few free blocks; none behind it is looked at."""
    tokens, block_size = int(engine.requests[row].num_tokens), engine.config.hash_block
    engine.pool.log.info.needed = (tokens + block_size - 1) // block_size
    recording.refusal(engine, row, schema.BY_ADMISSION, tokens, _fitting_later(engine))


@kernel
def _fitting_later(engine: Engine) -> int:
    """Return the first request behind the head that fits without a hit, or NONE; O(waiting)."""
    queue, block_size = engine.queue, engine.config.hash_block
    size = engine.waiting.shape[0]
    for at in range(1, queue.num_waiting):
        row = int(engine.waiting[(queue.head + at) % size])
        if (
            engine.requests[row].num_tokens + block_size - 1
        ) // block_size <= engine.pool.info.free:
            return row
    return NONE


@kernel
def _count_admission(request: Record, totals: Record, hit: int) -> int:
    """Count the lookup of an admitted request; return the kind of its entry."""
    if request.preemptions == 0:
        totals.queries += request.num_tokens
        totals.hits += hit
        totals.admitted_new += 1
        return NEW_KIND
    totals.preempted_queries += request.num_tokens
    totals.preempted_hits += hit
    totals.admitted_resumed += 1
    if request.lost > hit:
        totals.recomputed_tokens += request.lost - hit
    return RESUMED_KIND


@kernel
def decode(engine: Engine, step: Step, totals: Record) -> None:
    """Give each running sequence one token, in order; without a block, preempt from the end.

    No entries come out where nano-vLLM's assertion fails: nobody runs, and the first waiting
    request fits neither the empty pool nor (without chunked prefill) the token budget.
    """
    queue = engine.queue
    at = 0
    while at < queue.num_running and at < engine.config.max_num_seqs:
        row = engine.running[at]
        step.old_length[0, at] = engine.tables[0, engine.requests[row].slot].length
        while not manager.append(engine, row):
            totals.failed_running += 1
            queue.num_running -= 1
            victim = engine.running[queue.num_running]
            if engine.pool.log.info.on != 0:
                engine.pool.log.info.needed = 1
                recording.refusal(engine, row, schema.BY_DECODE, 1, int(victim))
            manager.deallocate(engine, victim, True)
            if engine.pool.log.info.on != 0:
                engine.pool.log.rows[engine.pool.log.info.used - 1].other = row
            push_front(engine.waiting, queue, victim)
            step.preempted[step.info.preempted] = victim
            step.info.preempted += 1
            totals.preemptions += 1
            if victim == row:
                return
        _record(step, row, 1, RUN_KIND, 0, True)
        at += 1


@inlined
def _record(step: Step, row: int, tokens: int, kind: int, hit: int, sampled: bool) -> None:
    entry = step.entries[step.info.entries]
    entry.row = row
    entry.tokens = tokens
    entry.kind = kind
    entry.hit = hit
    entry.sampled = sampled
    step.info.entries += 1
    step.info.tokens += tokens


@kernel
def postprocess(
    engine: Engine, step: Step, totals: Record, finished: I64, chunked_prefill: int
) -> int:
    """Publish what `step` computed, append the sampled tokens, free the done; O(entries).

    A sequence ends with its `max_tokens`-th token; a trace gives the true length of an output, so
    that the end-of-sequence token is that token too. Writes the rows that finished into `finished`
    and returns their number.
    """
    requests, queue = engine.requests, engine.queue
    done = 0
    for at in range(step.info.entries):
        entry = step.entries[at]
        request = requests[entry.row]
        if chunked_prefill != 0 or entry.kind == RUN_KIND:
            manager.hash_blocks(engine, entry.row, entry.tokens)
        request.computed += entry.tokens
        if entry.sampled == 0:
            continue
        request.num_tokens += 1
        if request.num_tokens - request.prompt == request.max_tokens:
            manager.deallocate(engine, entry.row, False)
            finished[done] = entry.row
            done += 1
    if done > 0:
        kept = 0
        for at in range(queue.num_running):
            row = engine.running[at]
            if requests[row].status == RUNNING:
                engine.running[kept] = row
                kept += 1
        queue.num_running = kept
    totals.finished += done
    return done
