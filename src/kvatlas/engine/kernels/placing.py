"""Which free blocks the pool hands out under a placement, and what it tells it.

Owns: the seam: taking blocks out of the free queue in a placement's order, and which of them a
placement by address may choose from. Leaves to others: the choice (`kvatlas.placement`).

Without a placement (`Pool.placement` is None, vLLM's order) none of this exists in compiled code:
every function here takes `placement` as an argument of its own, begins by asking whether it is
None, and Numba drops the rest when that is its type.
"""

from __future__ import annotations

from kvatlas.engine.kernels.handing import hand_out
from kvatlas.engine.kernels.state import I32, NONE, NULL_BLOCK, Pool
from kvatlas.jit import inlined, kernel
from kvatlas.placement._codes_kernel import FIRST_FIT, SORTED, WINDOW
from kvatlas.placement._sorted_kernel import drain, sort_ids
from kvatlas.placement._spans_kernel import give_span, take_ids, take_span
from kvatlas.placement._state_kernel import Placement
from kvatlas.placement._window_kernel import leave_out, window_size
from kvatlas.runs._bit_tree_kernel import holds, put, take


@kernel
def take_placed(pool: Pool, placement: Placement | None, count: int, out: I32, start: int) -> bool:
    """Take `count` blocks into `out[start:]` as the placement likes; False without one; O(count).

    What `out` holds before `start` is the block table that they continue.
    """
    if placement is None:
        return False
    if placement.info.code == WINDOW:
        _take_window(pool, placement, count, out, start)
    elif placement.info.code != SORTED:
        _take_addresses(pool, placement, count, out, start)
    else:
        _pop(pool, count, out, start)
        sort_ids(placement, out, start, count)
    hand_out(pool, out, start, count)
    return True


@inlined
def arrange(placement: Placement | None, out: I32, start: int, count: int) -> None:
    """Put blocks that an eviction policy has given up into the placement's order; O(count)."""
    if placement is None:
        return
    sort_ids(placement, out, start, count)


@kernel
def touched(pool: Pool, placement: Placement | None, block: int) -> None:
    """A free block, still with its content, has got an owner; O(log N)."""
    if placement is None:
        return
    if _by_address(placement) and _eligible(pool, placement, block):
        take_span(placement, block, 1)


@kernel
def freed(
    pool: Pool, placement: Placement | None, table: I32, start: int, stop: int, step: int
) -> None:
    """`table[start:stop:step]` have just lost an owner each; O(log N) for each run of them."""
    if placement is None:
        return
    if not _by_address(placement):
        return
    first = length = 0
    for i in range(start, stop, step):
        block = int(table[i])
        if block == NULL_BLOCK or pool.blocks[block].ref_count != 0:
            continue
        if not _eligible(pool, placement, block):
            continue
        if length > 0 and (block == first - 1 or block == first + length):
            first = min(first, block)
            length += 1
            continue
        if length > 0:
            give_span(placement, first, length)
        first, length = block, 1
    if length > 0:
        give_span(placement, first, length)


@inlined
def dropped(pool: Pool, placement: Placement | None, block: int) -> None:
    """`block` is about to lose its content because somebody said so; O(log N)."""
    if placement is None:
        return
    if not _by_address(placement) or placement.info.any_free != 0:
        return
    if pool.blocks[block].ref_count == 0:
        give_span(placement, block, 1)


@kernel
def reset(pool: Pool, placement: Placement | None) -> None:
    """All content is about to be forgotten, and no block is in use; O(N log N)."""
    if placement is None:
        return
    if not _by_address(placement) or placement.info.any_free != 0:
        return
    for block in range(pool.blocks.shape[0] - 1):
        if block != NULL_BLOCK and pool.blocks[block].key != NONE:
            give_span(placement, block, 1)


@inlined
def _by_address(placement: Placement) -> bool:
    return bool(placement.info.code >= FIRST_FIT)


@inlined
def _eligible(pool: Pool, placement: Placement, block: int) -> bool:
    """Return whether a placement by address may choose `block` while it is free."""
    return bool(placement.info.any_free != 0 or pool.blocks[block].key == NONE)


@kernel
def _take_addresses(pool: Pool, placement: Placement, count: int, out: I32, start: int) -> None:
    """Take what the placement may choose from, then the head of the queue; O(pieces log N)."""
    chosen = min(count, placement.info.members)
    take_ids(placement, chosen, out, start)
    for i in range(start, start + chosen):
        _unlink(pool, int(out[i]))
    if chosen < count:
        # All that is left caches something: these are the queue's own victims.
        _pop(pool, count - chosen, out, start + chosen)
        sort_ids(placement, out, start, count)


@inlined
def _pop(pool: Pool, count: int, out: I32, start: int) -> None:
    """Take `count` blocks from the head of the queue."""
    blocks = pool.blocks
    sentinel = blocks.shape[0] - 1
    block = int(blocks[sentinel].next_free)
    for i in range(start, start + count):
        out[i] = block
        block = int(blocks[block].next_free)
    blocks[sentinel].next_free = block
    blocks[block].prev_free = sentinel


@inlined
def _unlink(pool: Pool, block: int) -> None:
    """Take `block` out of the queue, wherever it is."""
    blocks = pool.blocks
    old = blocks[block]
    blocks[old.prev_free].next_free = old.next_free
    blocks[old.next_free].prev_free = old.prev_free


@kernel
def _take_window(pool: Pool, placement: Placement, count: int, out: I32, start: int) -> None:
    """Take `count` blocks near the queue's head in few runs; O(window + runs log runs).

    First those that go on where the block table ends; then the oldest that are not left out.
    """
    blocks, chosen = pool.blocks, placement.chosen
    sentinel = blocks.shape[0] - 1
    follow = NONE
    if start > 0 and out[start - 1] != NULL_BLOCK:
        follow = int(out[start - 1]) + 1
    if count == 1:
        _take_one(pool, placement, follow, out, start)
        return
    size = min(pool.info.free, window_size(placement, count))
    block = int(blocks[sentinel].next_free)
    for _ in range(size):
        put(chosen, block)
        block = int(blocks[block].next_free)
    at, stop = start, start + count
    if follow != NONE and placement.info.follow_blocks > 0:
        while at < stop and holds(chosen, follow):
            take(chosen, follow)
            out[at] = follow
            at += 1
            follow += 1
    leave_out(placement, size - count)
    rest = at
    block = int(blocks[sentinel].next_free)
    while at < stop:
        if holds(chosen, block):
            out[at] = block
            at += 1
        block = int(blocks[block].next_free)
    drain(placement)
    sort_ids(placement, out, rest, stop - rest)
    for i in range(start, stop):
        _unlink(pool, int(out[i]))


@inlined
def _take_one(pool: Pool, placement: Placement, follow: int, out: I32, start: int) -> None:
    """Take the head of the queue, or the block `follow` if it is near the head."""
    blocks = pool.blocks
    sentinel = blocks.shape[0] - 1
    block = int(blocks[sentinel].next_free)
    if 0 < follow < sentinel and blocks[follow].ref_count == 0:
        near = block
        for _ in range(min(placement.info.follow_blocks, pool.info.free)):
            if near == follow:
                block = follow
                break
            near = int(blocks[near].next_free)
    out[start] = block
    _unlink(pool, block)
