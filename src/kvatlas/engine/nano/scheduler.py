"""nano-vLLM's Scheduler: one step is either prefill or decode, and prefill goes first.

Owns: who runs in a step, who is preempted, when a sequence ends. Leaves to others: blocks
(`manager`), the order of the waiting queue (`engine.queues`, first come first served), and the
clock (`drive`). Mirrors nanovllm/engine/scheduler.py (see `config`).

nano-vLLM's running deque is popped from the left as decode goes, and what was scheduled is put
back in front; victims are popped from the right. So the order never changes, and an array with a
running end does the same.
"""

from __future__ import annotations

from kvatlas.engine import queues
from kvatlas.engine.nano import manager
from kvatlas.engine.state import (
    I64,
    NEW_KIND,
    NONE,
    RESUMED_KIND,
    RUN_KIND,
    RUNNING,
    Engine,
    Record,
    Step,
)
from kvatlas.jit import inlined, kernel


@kernel
def schedule(engine: Engine, step: Step, totals: Record, chunked_prefill: int) -> None:
    """Decide one step: prefill what fits of the waiting, or else decode; O(sequences + blocks).

    A step without entries is one where nano-vLLM's assertion fails: the first waiting request fits
    neither the empty pool nor, without chunked prefill, the token budget.
    """
    step.info.entries = 0
    step.info.tokens = 0
    step.info.preempted = 0
    step.info.refused_row = NONE
    _prefill(engine, step, totals, chunked_prefill)
    if step.info.entries == 0:
        _decode(engine, step, totals)


@kernel
def _prefill(engine: Engine, step: Step, totals: Record, chunked_prefill: int) -> None:
    """Admit from the head of the waiting queue until one does not fit.

    With chunked prefill, only the first of a step may be cut; it stays at the head, holding its
    blocks, and is therefore the first of the next step too.
    """
    requests, config = engine.requests, engine.config
    while engine.queue.num_waiting > 0 and step.info.entries < config.max_num_seqs:
        row = queues.first(engine)
        num_tokens = int(requests[row].num_tokens)
        left = config.max_num_batched_tokens - step.info.tokens
        if left == 0 or (chunked_prefill == 0 and num_tokens > left):
            break
        kind = RUN_KIND
        hit = 0
        if requests[row].slot == NONE:
            hits = manager.can_allocate(engine, row, chunked_prefill)
            if hits == NONE:
                totals.failed_waiting += 1
                step.info.refused_row = row
                break
            hit = hits * engine.groups[0].block_size
            tokens = num_tokens - hit
            if tokens > left and step.info.entries > 0:
                break
            kind = _admit(engine, totals, row, hits, hit, chunked_prefill)
        else:
            tokens = int(num_tokens - requests[row].computed)
        tokens = min(tokens, left)
        done = requests[row].computed + tokens == num_tokens
        if done:
            requests[row].status = RUNNING
            queues.pop_first(engine)
            engine.running[engine.queue.num_running] = row
            engine.queue.num_running += 1
        at = step.info.entries
        step.old_length[0, at] = engine.tables[0, requests[row].slot].length
        _record(step, row, tokens, kind, hit, int(done))


@kernel
def _admit(
    engine: Engine, totals: Record, row: int, hits: int, hit: int, chunked_prefill: int
) -> int:
    """Give `row` its blocks and count the lookup; return the kind of its entry."""
    num_tokens = engine.requests[row].num_tokens
    manager.allocate(engine, row, hits, chunked_prefill)
    if engine.requests[row].preemptions == 0:
        totals.queries += num_tokens
        totals.hits += hit
        totals.admitted_new += 1
        return NEW_KIND
    totals.preempted_queries += num_tokens
    totals.preempted_hits += hit
    totals.admitted_resumed += 1
    totals.recomputed_tokens += max(0, engine.requests[row].lost - hit)
    return RESUMED_KIND


@kernel
def _decode(engine: Engine, step: Step, totals: Record) -> None:
    """Give each running sequence one token, in order; without a block, preempt from the end."""
    requests, queue = engine.requests, engine.queue
    at = 0
    while at < queue.num_running and at < engine.config.max_num_seqs:
        row = engine.running[at]
        while not manager.can_append(engine, row):
            totals.failed_running += 1
            _preempt_last(engine, step, totals)
            if at == queue.num_running:
                # It was the last itself.
                return
        step.old_length[0, at] = engine.tables[0, requests[row].slot].length
        manager.may_append(engine, row)
        _record(step, row, 1, RUN_KIND, 0, 1)
        at += 1


@kernel
def _preempt_last(engine: Engine, step: Step, totals: Record) -> None:
    """Take all blocks from the sequence that runs last, and let it wait first."""
    engine.queue.num_running -= 1
    row = engine.running[engine.queue.num_running]
    manager.deallocate(engine, row, True)
    queues.push_front(engine, row)
    step.preempted[step.info.preempted] = row
    step.info.preempted += 1
    totals.preemptions += 1


@inlined
def _record(step: Step, row: int, tokens: int, kind: int, hit: int, sampled: int) -> None:
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
    requests = engine.requests
    done = 0
    for at in range(step.info.entries):
        entry = step.entries[at]
        row = entry.row
        if chunked_prefill != 0 or entry.kind == RUN_KIND:
            manager.hash_blocks(engine, row, entry.tokens)
        requests[row].computed += entry.tokens
        if entry.sampled == 0:
            continue
        requests[row].num_tokens += 1
        if requests[row].num_tokens - requests[row].prompt == requests[row].max_tokens:
            manager.deallocate(engine, row, False)
            finished[done] = row
            done += 1
    if done > 0:
        _drop_finished(engine)
    totals.finished += done
    return done


@kernel
def _drop_finished(engine: Engine) -> None:
    """Take the finished out of the running, which keep their order."""
    kept = 0
    for at in range(engine.queue.num_running):
        row = engine.running[at]
        if engine.requests[row].status == RUNNING:
            engine.running[kept] = row
            kept += 1
    engine.queue.num_running = kept
