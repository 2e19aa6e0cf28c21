"""Recording: what the engine does, as rows of the event log.

Owns: which rows tell it, one function per event. Leaves to others: when they are called (whoever
changes the state, and only while somebody listens) and the rows themselves (`kvatlas.events`).
"""

from __future__ import annotations

from kvatlas.engine.kernels.demand import blocks_to_allocate
from kvatlas.engine.kernels.state import (
    I32,
    NONE,
    NULL_BLOCK,
    REJECTED,
    RUN_KIND,
    Engine,
    Pool,
    Step,
)
from kvatlas.events import schema
from kvatlas.events._log_kernel import Log, list_blocks, new_row, put_blocks, put_request
from kvatlas.jit import kernel


@kernel
def evictions(pool: Pool, table: I32, position: int, count: int) -> None:
    """Log the content that `table[position:position + count]` is about to lose; O(count).

    The queue holds what a request freed side by side, last block first, so keys come as runs.
    """
    blocks, log = pool.blocks, pool.log
    first_key = last_key = group = NONE
    run = stride = 0
    for i in range(count):
        popped = blocks[table[position + i]]
        key = int(popped.key)
        gap = key - last_key
        if run > 0 and not (
            key != NONE and popped.group == group and (gap == stride if run > 1 else gap * gap <= 1)
        ):
            _put_keys(
                log, schema.EVICTED, schema.BY_ALLOCATION, group, position + i - run, run,
                first_key, stride,
            )  # fmt: skip
            run = 0
        if key != NONE:
            if run == 0:
                first_key, group, stride = key, int(popped.group), 0
            else:
                stride = gap
            last_key = key
            run += 1
    if run > 0:
        _put_keys(
            log, schema.EVICTED, schema.BY_ALLOCATION, group, position + count - run, run,
            first_key, stride,
        )  # fmt: skip


@kernel
def _put_keys(
    log: Log,
    event: int,
    cause: int,
    group: int,
    position: int,
    count: int,
    key: int,
    key_stride: int,
) -> int:
    at = put_blocks(log, event, cause, group, position, count)
    log.rows[at].key = key
    log.rows[at].key_stride = key_stride
    return at


@kernel
def allocations(pool: Pool, out: I32, start: int, count: int) -> None:
    """Log the blocks `out[start:start + count]`, just popped; O(count)."""
    log = pool.log
    if count <= 0:
        return
    at = put_blocks(log, schema.ALLOCATED, int(log.info.cause), int(log.info.group), start, count)
    log.rows[at].ref_count = 1
    log.rows[at].computed_tokens = log.info.computed
    list_blocks(log, at, out, start, start + count, 1)


@kernel
def touches(pool: Pool, table: I32, start: int, stop: int) -> None:
    """Log the hits `table[start:stop]`, just touched; O(length)."""
    _owners(pool, schema.TOUCHED, NONE, table, start, stop, 1, True)


@kernel
def frees(pool: Pool, table: I32, start: int, stop: int, step: int) -> None:
    """Log that `table[start:stop:step]` have just lost an owner each; O(length).

    A request's table is known from what entered it; blocks that nobody's table holds are listed.
    """
    cause = int(pool.log.info.free_cause)
    _owners(pool, schema.FREED, cause, table, start, stop, step, pool.log.info.request == NONE)


@kernel
def _owners(
    pool: Pool,
    event: int,
    cause: int,
    table: I32,
    start: int,
    stop: int,
    step: int,
    listed: bool,
) -> None:
    """Log `table[start:stop:step]`, a row for each stretch with the same number of owners."""
    blocks, log = pool.blocks, pool.log
    first, owners = start, NONE
    for i in range(start, stop, step):
        block = int(table[i])
        count = NONE if block == NULL_BLOCK and pool.info.has_null != 0 else blocks[block].ref_count
        if count != owners:
            _put_owners(log, event, cause, table, first, i, step, owners, listed)
            first, owners = i, count
    _put_owners(log, event, cause, table, first, stop, step, owners, listed)


@kernel
def _put_owners(
    log: Log,
    event: int,
    cause: int,
    table: I32,
    start: int,
    stop: int,
    step: int,
    owners: int,
    listed: bool,
) -> None:
    if owners == NONE or (stop - start) * step <= 0:
        return
    at = put_blocks(log, event, cause, int(log.info.group), start, (stop - start) // step)
    log.rows[at].ref_count = owners
    if listed:
        list_blocks(log, at, table, start, stop, step)


@kernel
def cachings(pool: Pool, group: int, table: I32, start: int, stop: int) -> None:
    """Log that the blocks `table[start:stop]` have just been cached; O(length)."""
    blocks, log = pool.blocks, pool.log
    first_key = last_key = NONE
    run = stride = 0
    for i in range(start, stop):
        block = int(table[i])
        null = block == NULL_BLOCK and pool.info.has_null != 0
        key = NONE if null else int(blocks[block].key)
        gap = key - last_key
        if run > 0 and (null or not (gap == stride if run > 1 else gap * gap <= 1)):
            _put_cached(log, group, table, i - run, run, first_key, stride)
            run = 0
        if not null:
            if run == 0:
                first_key, stride = key, 0
            else:
                stride = gap
            last_key = key
            run += 1
    if run > 0:
        _put_cached(log, group, table, stop - run, run, first_key, stride)


@kernel
def _put_cached(
    log: Log, group: int, table: I32, start: int, count: int, key: int, stride: int
) -> None:
    at = _put_keys(log, schema.CACHED, NONE, group, start, count, key, stride)
    if log.info.request == NONE:
        list_blocks(log, at, table, start, start + count, 1)


@kernel
def swapped_out(pool: Pool, block: int) -> None:
    """Log that `block` has just been copied to the host; blocks in a row of calls share one."""
    log = pool.log
    info = log.info
    last = log.rows[max(0, int(info.used) - 1)]
    if (
        info.used > 0
        and info.ids_used < log.ids.shape[0]
        and last.event == schema.SWAPPED_OUT
        and last.step == info.step
        and last.request == info.request
        and last.blocks_at + last.count == info.ids_used
    ):
        last.count += 1
    else:
        at = put_blocks(log, schema.SWAPPED_OUT, schema.BY_HOST, 0, NONE, 1)
        if info.ids_used == log.ids.shape[0]:
            info.dropped += 1
            log.rows[at].count = 0
            return
        log.rows[at].blocks_at = info.ids_used
    log.ids[info.ids_used] = block
    info.ids_used += 1


@kernel
def swapped_in(pool: Pool, table: I32, start: int, stop: int) -> None:
    """Log that the blocks `table[start:stop]` have been copied back from the host; O(length)."""
    at = put_blocks(pool.log, schema.SWAPPED_IN, schema.BY_HOST, 0, start, stop - start)
    list_blocks(pool.log, at, table, start, stop, 1)


@kernel
def reset(pool: Pool) -> None:
    """Log that the whole cache is about to be forgotten."""
    row = pool.log.rows[new_row(pool.log, schema.RESET, NONE)]
    row.count = pool.info.cached


@kernel
def eviction(pool: Pool, block: int, cause: int) -> None:
    """Log that `block` is about to lose its content though nobody allocates it."""
    log, held = pool.log, pool.blocks[block]
    at = _put_keys(log, schema.EVICTED, cause, int(held.group), NONE, 1, int(held.key), 0)
    log.rows[at].blocks_at = log.info.ids_used
    log.ids[log.info.ids_used] = block
    log.info.ids_used += 1


@kernel
def arrival(engine: Engine, row: int, time_ms: float) -> None:
    """Log a request, and that it will never be served if it is set aside already."""
    log, request = engine.pool.log, engine.requests[row]
    at = put_request(log, schema.ARRIVED, NONE, row, int(request.prompt), NONE)
    log.rows[at].time_ms = time_ms
    if request.status == REJECTED:
        put_request(log, schema.FINISHED, schema.BY_SET_ASIDE, row, NONE, 0)


@kernel
def slots_begin(engine: Engine, row: int, computed: int, decodes: bool) -> None:
    """Set the context of what `allocate_slots` does for `row`."""
    info = engine.pool.log.info
    info.request = row
    info.computed = computed
    info.cause = schema.BY_DECODE if decodes else schema.BY_PREFILL


@kernel
def refusal(engine: Engine, row: int, cause: int, tokens: int, other: int) -> None:
    """Log that `row` was refused slots; the same refusal, step after step, is one row."""
    log, pool = engine.pool.log, engine.pool
    info = log.info
    if info.failed_at != NONE and cause == schema.BY_ADMISSION:
        last = log.rows[info.failed_at]
        same = last.request == row and last.other == other and last.blocks_needed == info.needed
        if same and last.step + last.count == info.step:
            last.count += 1
            return
    at = put_request(log, schema.ALLOCATION_FAILED, cause, row, tokens, NONE)
    refused = log.rows[at]
    refused.count = 1
    refused.other = other
    refused.blocks_needed = info.needed
    refused.free_blocks = pool.info.free
    if cause == schema.BY_ADMISSION:
        info.failed_at = at


@kernel
def step(engine: Engine, done: Step, steps: int, wasted: int, span_ms: float) -> None:
    """Log `steps` equal steps that computed what `done` says, ending in the present state."""
    log, pool = engine.pool.log, engine.pool
    row = log.rows[new_row(log, schema.STEP, NONE)]
    row.request = NONE
    row.count = steps
    row.tokens = done.info.tokens
    row.running = engine.queue.num_running
    row.waiting = engine.queue.num_waiting
    row.free_blocks = pool.info.free
    row.wasted_slots = wasted
    row.span_ms = span_ms


@kernel
def lookup(engine: Engine, row: int, tokens: int, hit: int) -> None:
    """Log what the cache held for `row`, before its blocks are touched."""
    cause = schema.BY_RESUMED if engine.requests[row].preemptions > 0 else schema.BY_NEW
    if engine.pool.info.caching == 0:
        hit = NONE
    put_request(engine.pool.log, schema.LOOKED_UP, cause, row, tokens, hit)


@kernel
def forget(log: Log, at: int) -> None:
    """Take row `at` out again; the rows since, of blocks freed for it, move up; O(them)."""
    for i in range(at, log.info.used - 1):
        log.rows[i] = log.rows[i + 1]
    log.info.used -= 1


@kernel
def chunk(engine: Engine, step: Step, entry: int) -> None:
    """Log a scheduled entry unless it decodes."""
    scheduled = step.entries[entry]
    request = engine.requests[scheduled.row]
    decodes = (
        scheduled.kind == RUN_KIND
        and scheduled.tokens == 1
        and scheduled.sampled != 0
        and request.computed > request.prompt
    )
    if not decodes:
        put_request(
            engine.pool.log,
            schema.SCHEDULED,
            schema.BY_PREFILL,
            scheduled.row,
            scheduled.tokens,
            request.computed,
        )


@kernel
def fitting_later(engine: Engine, watermark: int) -> int:
    """Return the first request behind the head that would fit without any hit, or NONE.

    O(waiting). Hits only lower the need, so a request named here would have fitted; one that needs
    its hits to fit is not seen.
    """
    config, queue = engine.config, engine.queue
    size = engine.waiting.shape[0]
    best = NONE
    for at in range(1, queue.num_waiting):
        # The priority policy keeps a heap: positions 1 and on, in no order that matters here.
        place = at if config.priority_policy != 0 else (queue.head + at) % size
        row = int(engine.waiting[place])
        if best != NONE and engine.requests[row].priority > engine.requests[best].priority:
            continue
        tokens = int(engine.requests[row].num_tokens)
        if config.reserve_full_isl == 0:
            tokens = min(tokens, config.max_num_batched_tokens)
        tokens = min(tokens, config.max_model_len)
        need = watermark
        for group in range(engine.groups.shape[0]):
            need += blocks_to_allocate(engine, group, row, tokens, tokens, 0, False, True)
        if need <= engine.pool.info.free:
            best = row
            if config.priority_policy == 0:
                break
    return best


@kernel
def glided(
    engine: Engine, done: Step, steps: int, refused: int, wasted: int, span_ms: float
) -> None:
    """Log `steps` steps of pure decoding after `done`, the first with `wasted` slots."""
    log = engine.pool.log
    log.info.step += 1
    if refused != 0:
        if log.info.failed_at != NONE:
            log.rows[log.info.failed_at].count += steps
        else:
            watermark = engine.config.watermark_blocks if engine.queue.num_running > 0 else 0
            later = fitting_later(engine, watermark)
            row = int(done.info.refused_row)
            refusal(engine, row, schema.BY_ADMISSION, int(engine.requests[row].num_tokens), later)
            log.rows[log.info.failed_at].count = steps
    step(engine, done, steps, wasted, span_ms)
