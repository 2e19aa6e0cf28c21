"""The kernels that the public classes call, one step or one request at a time.

Owns: nothing but the doors: each entry compiles on its first call and is kept on disk. Leaves to
others: the rules behind them, and whole replays (`drive`).
"""

from __future__ import annotations

from kvatlas.engine.kernels import (
    caching,
    evicting,
    manager,
    prefix_index,
    queues,
    recording,
    scheduler,
)
from kvatlas.engine.kernels import pool as pool_
from kvatlas.engine.kernels.lookup import find_longest_cache_hit
from kvatlas.engine.kernels.state import (
    FINISHED,
    I32,
    I64,
    NONE,
    NULL_BLOCK,
    RUNNING,
    WAITING,
    Engine,
    Pool,
    Step,
)
from kvatlas.events import schema
from kvatlas.events._log_kernel import put_request
from kvatlas.jit import entry
from kvatlas.records import Record


@entry
def get_new_blocks(pool: Pool, count: int, out: I32) -> None:
    """Pop `count` blocks into `out`; the caller has checked that they are free."""
    pool_.get_new_blocks(pool, count, out, 0)


@entry
def touch(pool: Pool, blocks: I32) -> None:
    """Add an owner to each of `blocks`."""
    for i in range(blocks.shape[0]):
        pool_.touch(pool, int(blocks[i]))
    if pool.log.info.on != 0:
        recording.touches(pool, blocks, 0, blocks.shape[0])


@entry
def free_blocks(pool: Pool, blocks: I32) -> None:
    """Take an owner from each of `blocks`, in order."""
    pool_.free_blocks(pool, blocks, 0, blocks.shape[0], 1)


@entry
def cache_blocks(pool: Pool, group: int, keys: I64, blocks: I32) -> None:
    """Cache each of `blocks` under its key; null blocks are passed over."""
    for i in range(blocks.shape[0]):
        block = int(blocks[i])
        if block != NULL_BLOCK:
            prefix_index.insert(pool, group, keys[i], block, prefix_index.home(pool, keys[i]))
            pool.info.cached += 1
            pool.info.inserts += 1
            evicting.inserted(pool, pool.eviction, blocks, i)
    if pool.log.info.on != 0:
        recording.cachings(pool, group, blocks, 0, blocks.shape[0])


@entry
def find(pool: Pool, group: int, key: int) -> int:
    """Return the block first cached under (`key`, `group`), or NONE."""
    return int(prefix_index.find(pool, group, key, prefix_index.home(pool, key)))


@entry
def evict(pool: Pool, block: int) -> bool:
    """Drop the content cached in `block`, wherever the block is; say whether there was any."""
    return bool(pool_.uncache(pool, block))


@entry
def reset_prefix_cache(pool: Pool) -> bool:
    """Forget all cached content unless a block is in use."""
    return bool(pool_.reset_prefix_cache(pool))


@entry
def lookup(engine: Engine, row: int, max_length: int) -> tuple[int, int]:
    """Find the longest cached prefix of request `row`; the blocks are in `engine.hits`."""
    hit, uncached = find_longest_cache_hit(engine, row, max_length)
    return hit, uncached


@entry
def allocate_slots(
    engine: Engine, row: int, new: int, hit: int, with_hits: bool, must_fit: bool, watermark: int
) -> bool:
    """See `manager.allocate_slots`."""
    return bool(manager.allocate_slots(engine, row, new, hit, with_hits, must_fit, watermark))


@entry
def cache_request(engine: Engine, row: int, num_tokens: int) -> None:
    """Cache the blocks that request `row`'s first `num_tokens` tokens fill."""
    caching.cache_blocks(engine, row, num_tokens)


@entry
def free(engine: Engine, row: int) -> None:
    """Take all blocks from request `row`."""
    manager.free(engine, row)


@entry
def new_step_starts(engine: Engine) -> None:
    """Tell the Mamba groups that a step begins."""
    caching.new_step_starts(engine)


@entry
def add_request(engine: Engine, row: int) -> None:
    """Let request `row` wait."""
    engine.requests[row].status = WAITING
    queues.push_back(engine, row)
    if engine.pool.log.info.on != 0:
        put_request(
            engine.pool.log, schema.ARRIVED, NONE, row, int(engine.requests[row].prompt), NONE
        )


@entry
def schedule(engine: Engine, step: Step, totals: Record) -> None:
    """See `scheduler.schedule`."""
    scheduler.schedule(engine, step, totals)


@entry
def update_from_output(engine: Engine, step: Step, totals: Record, finished: I64) -> int:
    """See `scheduler.update_from_output`."""
    return int(scheduler.update_from_output(engine, step, totals, finished))


@entry
def abort(engine: Engine, row: int) -> None:
    """Finish request `row` now, whether it runs or waits."""
    if engine.requests[row].status == RUNNING:
        kept = 0
        for at in range(engine.queue.num_running):
            other = engine.running[at]
            if other != row:
                engine.running[kept] = other
                kept += 1
        engine.queue.num_running = kept
        engine.pool.log.info.free_cause = schema.BY_ABORTED
        manager.free(engine, row)
    else:
        queues.remove(engine, row)
    engine.requests[row].status = FINISHED
    if engine.pool.log.info.on != 0:
        request = engine.requests[row]
        put_request(
            engine.pool.log,
            schema.FINISHED,
            schema.BY_ABORTED,
            row,
            int(request.num_tokens),
            int(request.computed),
        )
