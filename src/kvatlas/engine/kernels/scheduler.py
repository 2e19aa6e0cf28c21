"""One scheduler step: who runs, with how many tokens, who is admitted, who is preempted.

Owns: `schedule` and `update_from_output`. Leaves to others: blocks (`manager`), arrivals and the
clock (`drive`).
Mirrors v1/core/sched/scheduler.py and async_scheduler.py of vLLM 0.32.0: chunked prefill, FCFS and
priority, preemption by recompute; no speculative tokens, encoder budgets, LoRA limits, connectors.
"""

from __future__ import annotations

from kvatlas.engine.kernels import (
    foresight,
    lazy,
    manager,
    misses,
    protecting,
    queues,
    recording,
    tiering,
)
from kvatlas.engine.kernels.caching import cache_blocks, new_step_starts
from kvatlas.engine.kernels.lookup import find_longest_cache_hit
from kvatlas.engine.kernels.mamba_chunks import align_chunk
from kvatlas.engine.kernels.preemption import allocate_running
from kvatlas.engine.kernels.state import (
    FINISHED,
    I64,
    NEW_KIND,
    NONE,
    RESUMED_KIND,
    RUN_KIND,
    RUNNING,
    WAITING,
    Engine,
    Step,
)
from kvatlas.events import schema
from kvatlas.events._log_kernel import put_request
from kvatlas.jit import inlined, kernel
from kvatlas.records import Record


@kernel
def schedule(engine: Engine, step: Step, totals: Record) -> None:
    """Decide one step and advance the scheduled requests' computed tokens; O(running + blocks)."""
    requests, config = engine.requests, engine.config
    step.info.entries = 0
    step.info.tokens = 0
    step.info.preempted = 0
    step.info.refused_row = NONE
    new_step_starts(engine)
    lazy.step_begins(engine, engine.pressure)
    protecting.refresh(engine, engine.pressure)
    threshold = config.long_prefill_token_threshold
    if engine.queue.num_running + engine.queue.num_waiting <= 1:
        threshold = 0
    budget = _schedule_running(engine, step, totals, threshold)
    waiting = engine.queue.num_waiting > 0 and engine.queue.num_running < config.max_num_seqs
    if step.info.preempted == 0 and waiting:
        _admit(engine, step, totals, budget, threshold)
    for entry in range(step.info.entries):
        row = step.entries[entry].row
        tokens = step.entries[entry].tokens
        computed = requests[row].computed + tokens
        requests[row].computed = computed
        requests[row].in_flight += tokens
        chunk = computed < requests[row].num_tokens + requests[row].placeholders
        step.entries[entry].sampled = 0 if chunk else 1
        if engine.pool.log.info.on != 0:
            recording.chunk(engine, step, entry)
        if config.async_scheduling != 0 and not chunk:
            requests[row].placeholders += 1


@inlined
def _schedule_running(engine: Engine, step: Step, totals: Record, threshold: int) -> int:
    """Give every running request its next tokens, in running order; return the budget left."""
    requests, config, tables = engine.requests, engine.config, engine.tables
    num_groups = engine.groups.shape[0]
    budget = config.max_num_batched_tokens
    at = 0
    while at < engine.queue.num_running and budget > 0:
        row = engine.running[at]
        computed = requests[row].computed
        placeholders = requests[row].placeholders
        if (
            placeholders > 0
            and computed + 2 - placeholders >= requests[row].prompt + requests[row].max_tokens
        ):
            # Async: the output still in flight is already the last one.
            at += 1
            continue
        new_tokens = int(requests[row].num_tokens + placeholders - computed)
        if 0 < threshold < new_tokens:
            new_tokens = threshold
        new_tokens = min(new_tokens, budget, config.max_model_len - computed - 1)
        if config.mamba_align_split != 0:
            new_tokens = align_chunk(engine, row, new_tokens, 0)
        if new_tokens <= 0:
            at += 1
            continue
        slot = requests[row].slot
        entry = step.info.entries
        for group in range(num_groups):
            step.old_length[group, entry] = tables[group, slot].length
        if new_tokens != 1 or computed + 1 > requests[row].quiet_until:
            served, at, budget = allocate_running(engine, step, totals, row, new_tokens, at, budget)
            if not served:
                break
            if step.info.entries != entry:
                # Earlier entries were dropped: this one moves up.
                for group in range(num_groups):
                    step.old_length[group, step.info.entries] = step.old_length[group, entry]
        _record(engine, step, row, new_tokens, RUN_KIND, 0)
        budget -= new_tokens
        at += 1
    return int(budget)


@kernel
def _admit(engine: Engine, step: Step, totals: Record, budget: int, threshold: int) -> None:
    """Admit waiting requests from the head until one does not fit."""
    requests, config = engine.requests, engine.config
    caching = engine.pool.info.caching != 0
    while budget > 0 and engine.queue.num_waiting > 0:
        if engine.queue.num_running >= config.max_num_seqs:
            break
        row = queues.first(engine)
        if requests[row].stale > 0:
            # Output of before the preemption is still in flight. With two steps in flight it has
            # always drained by the next schedule().
            break
        num_tokens = int(requests[row].num_tokens)
        hit = on_device = 0
        if caching:
            on_device, uncached = find_longest_cache_hit(engine, row, num_tokens - 1)
            requests[row].boundary = on_device + uncached if uncached != 0 else 0
            hit = tiering.extended(engine, engine.pool.tier, row, num_tokens - 1, on_device)
        with_hits = False
        if caching:
            for group in range(engine.groups.shape[0]):
                if engine.scratch[group].num_hits > 0:
                    with_hits = True
        new_tokens = num_tokens - hit
        if 0 < threshold < new_tokens:
            new_tokens = threshold
        new_tokens = min(new_tokens, budget)
        if config.mamba_align_split != 0:
            new_tokens = align_chunk(engine, row, new_tokens, hit)
        if new_tokens == 0:
            tiering.forget_found(engine.pool.tier)
            break
        watermark = config.watermark_blocks if engine.queue.num_running > 0 else 0
        growth = foresight.growth_blocks(engine, engine.pressure, row)
        watermark += growth
        must_fit = config.reserve_full_isl != 0 or growth > 0
        log = engine.pool.log
        looked_up_at = int(log.info.used)
        if log.info.on != 0:
            recording.lookup(engine, row, num_tokens, hit)
        if not manager.allocate_slots(engine, row, new_tokens, hit, with_hits, must_fit, watermark):
            totals.failed_waiting += 1
            foresight.refused(engine, engine.pressure, growth)
            step.info.refused_row = row
            tiering.forget_found(engine.pool.tier)
            if log.info.on != 0:
                recording.forget(log, looked_up_at)  # it was in vain
                later = recording.fitting_later(engine, watermark)
                recording.refusal(engine, row, schema.BY_ADMISSION, num_tokens, later)
            break
        if caching:
            if requests[row].preemptions > 0:
                totals.preempted_queries += num_tokens
                totals.preempted_hits += hit
                totals.preempted_restored += hit - on_device
            else:
                totals.queries += num_tokens
                totals.hits += hit
                totals.restored += hit - on_device
                if engine.seen.shape[0] > 1:
                    misses.judge(engine, totals, row, hit)
        queues.pop_first(engine)
        engine.running[engine.queue.num_running] = row
        engine.queue.num_running += 1
        if requests[row].status == WAITING:
            kind = NEW_KIND
            totals.admitted_new += 1
        else:
            kind = RESUMED_KIND
            totals.admitted_resumed += 1
            totals.recomputed_tokens += max(0, requests[row].lost - hit)
        _record(engine, step, row, new_tokens, kind, hit)
        budget -= new_tokens
        requests[row].status = RUNNING
        requests[row].computed = hit
        if log.info.on != 0:
            cause = schema.BY_NEW if kind == NEW_KIND else schema.BY_RESUMED
            put_request(log, schema.ADMITTED, cause, row, num_tokens, hit)


@inlined
def _record(engine: Engine, step: Step, row: int, tokens: int, kind: int, hit: int) -> None:
    at = step.info.entries
    step.entries[at].row = row
    step.entries[at].tokens = tokens
    step.entries[at].kind = kind
    step.entries[at].hit = hit
    step.info.entries = at + 1
    step.info.tokens += tokens


@kernel
def update_from_output(engine: Engine, step: Step, totals: Record, finished: I64) -> int:
    """Append one sampled token to every request whose prefill `step` completed; free the done.

    Writes the rows that finished into `finished` and returns their number; O(entries).
    """
    requests, config = engine.requests, engine.config
    num_finished = 0
    stopped_running = False
    for entry in range(step.info.entries):
        row = step.entries[entry].row
        requests[row].in_flight -= step.entries[entry].tokens
        is_stale = requests[row].stale > 0
        if is_stale:
            requests[row].stale -= step.entries[entry].tokens
        if requests[row].status >= FINISHED or step.entries[entry].sampled == 0:
            continue
        num_tokens = requests[row].num_tokens + 1
        requests[row].num_tokens = num_tokens
        stopped = (
            num_tokens >= config.max_model_len
            or num_tokens >= requests[row].prompt + requests[row].max_tokens
        )
        was_running = requests[row].status == RUNNING
        if config.async_scheduling != 0:
            if not is_stale:
                requests[row].placeholders -= 1
            if was_running and engine.pool.info.caching != 0:
                ready = requests[row].computed - requests[row].placeholders
                if ready > requests[row].quiet_until:
                    cache_blocks(engine, row, ready)
        if stopped:
            engine.pool.log.info.free_cause = schema.BY_FINISHED
            foresight.learn(engine, engine.pressure, row)
            if not lazy.kept(engine, engine.pressure, row):
                manager.free(engine, row)
            requests[row].status = FINISHED
            if engine.pool.log.info.on != 0:
                put_request(
                    engine.pool.log,
                    schema.FINISHED,
                    schema.BY_LENGTH,
                    row,
                    num_tokens,
                    int(requests[row].computed),
                )
            finished[num_finished] = row
            num_finished += 1
            if was_running:
                stopped_running = True
            else:
                queues.remove(engine, row)
    if stopped_running:
        kept = 0
        for at in range(engine.queue.num_running):
            row = engine.running[at]
            if requests[row].status == RUNNING:
                engine.running[kept] = row
                kept += 1
        engine.queue.num_running = kept
    totals.finished += num_finished
    return num_finished
