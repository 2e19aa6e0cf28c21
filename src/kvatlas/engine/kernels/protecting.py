"""Protection for who waits: what the first waiting requests would hit is kept from eviction.

Owns: when their hits move to the tail of the free queue, as if just used. Leaves to others: the
lookup (`lookup`), the queue's order otherwise (`pool`),
what comes from a tier below (`prefetching`). Nobody owns a block because of this: when
there is nothing else left, the protected ones are evicted like any other.
"""

from __future__ import annotations

from kvatlas.engine.kernels import prefetching
from kvatlas.engine.kernels.lookup import find_longest_cache_hit
from kvatlas.engine.kernels.pressure_state import Pressure
from kvatlas.engine.kernels.state import I64, NONE, NULL_BLOCK, Engine, Pool
from kvatlas.jit import inlined, kernel


@inlined
def removed(pressure: Pressure | None, blocks: int) -> None:
    """So many `blocks` have just left the free queue, wherever they stood in it."""
    if pressure is None:
        return
    pressure.info.removed += blocks


@inlined
def refresh(engine: Engine, pressure: Pressure | None) -> None:
    """Keep the hits of who waits from being evicted in this step; O(P), seldom O(hits)."""
    if pressure is None:
        return
    info = pressure.info
    if info.protect > 0 and engine.queue.num_waiting > 0 and engine.pool.info.caching != 0:
        _refresh(engine, pressure)


@kernel
def _refresh(engine: Engine, pressure: Pressure) -> None:
    """Move up the hits of who is new among the first, and of all before the queue reaches them.

    A block that moved to the tail is evicted after everything that was free then. Only what leaves
    the queue shortens that way, so nothing need be done before half of it has left.
    """
    info, watched, wanted = pressure.info, pressure.watched, pressure.wanted
    count = _first_waiting(engine, wanted)
    again = info.removed >= info.guard
    same = True
    for i in range(wanted.shape[0]):
        if i >= count:
            wanted[i] = NONE
        same = same and watched[i] == wanted[i]
    if same and not again:
        return
    kept = 0
    # The head of the queue last: of the protected it is to be the safest.
    for i in range(count - 1, -1, -1):
        row = wanted[i]
        known = False
        for j in range(watched.shape[0]):
            known = known or watched[j] == row
        if again or not known:
            moved = _move_up(engine, int(row))
            info.refreshes += 1
            if prefetching.fetch(engine, pressure, engine.pool.tier, int(row), kept + moved) > 0:
                moved = _move_up(engine, int(row))
            kept += moved
    info.refreshed_blocks += kept
    for i in range(wanted.shape[0]):
        watched[i] = wanted[i]
    ahead = info.removed + max(1, (engine.pool.info.free - kept) // 2)
    info.guard = ahead if again else min(info.guard, ahead)


@kernel
def _move_up(engine: Engine, row: int) -> int:
    """Move what `row` would hit, and nobody holds, to the tail, the deepest first; O(hits)."""
    find_longest_cache_hit(engine, row, int(engine.requests[row].num_tokens) - 1)
    moved = 0
    for group in range(engine.groups.shape[0]):
        for i in range(int(engine.scratch[group].num_hits) - 1, -1, -1):
            block = int(engine.hits[group, i])
            if block != NULL_BLOCK and engine.pool.blocks[block].ref_count == 0:
                _to_tail(engine.pool, block)
                moved += 1
    return moved


@inlined
def _to_tail(pool: Pool, block: int) -> None:
    blocks = pool.blocks
    sentinel = blocks.shape[0] - 1
    old = blocks[block]
    blocks[old.prev_free].next_free = old.next_free
    blocks[old.next_free].prev_free = old.prev_free
    last = int(blocks[sentinel].prev_free)
    old.prev_free = last
    old.next_free = sentinel
    blocks[last].next_free = block
    blocks[sentinel].prev_free = block


@kernel
def _first_waiting(engine: Engine, out: I64) -> int:
    """Write the rows that are admitted next into `out`, in order; return how many.

    O(P); under the priority policy, whose queue is a heap, O(P waiting).
    """
    waiting, requests, queue = engine.waiting, engine.requests, engine.queue
    count = min(out.shape[0], int(queue.num_waiting))
    for i in range(count):
        if engine.config.priority_policy == 0:
            out[i] = waiting[(queue.head + i) % waiting.shape[0]]
            continue
        best = NONE
        for at in range(queue.num_waiting):
            row = waiting[at]
            if i > 0 and requests[row].priority <= requests[out[i - 1]].priority:
                continue
            if best == NONE or requests[row].priority < requests[best].priority:
                best = row
        out[i] = best
    return int(count)
