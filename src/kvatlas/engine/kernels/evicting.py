"""What the pool tells an eviction policy, and how it takes the blocks that the policy gives up.

Owns: the seam: which block is which content, what it hangs from, and the free queue's order under a
policy (empty blocks first). Leaves to others: the policies (`kvatlas.eviction`).

Without a policy (`Pool.eviction` is None, vLLM's order) none of this exists in compiled code: every
function here takes `eviction` as an argument of its own, begins by asking whether it is None, and
Numba drops the rest when that is its type.
"""

from __future__ import annotations

from kvatlas.engine.kernels import placing
from kvatlas.engine.kernels.handing import hand_out
from kvatlas.engine.kernels.state import I32, NONE, NULL_BLOCK, Engine, Pool
from kvatlas.events import schema
from kvatlas.eviction import _hooks_kernel as hooks
from kvatlas.eviction._state_kernel import Eviction
from kvatlas.jit import inlined, kernel

_MASK62 = 0x3FFFFFFFFFFFFFFF


@inlined
def _content(pool: Pool, eviction: Eviction, block: int) -> int:
    """Return the number of what `block` holds; keys of several groups are told apart."""
    held = pool.blocks[block]
    if eviction.info.memory_mask >= 0:
        return int((held.key ^ (held.group << 55)) & _MASK62)
    return int(held.key * pool.slots.shape[0] + held.group)


@inlined
def _above(pool: Pool, eviction: Eviction, table: I32, at: int, group: int) -> int:
    """Return the block at table position `at` if others of `group` can hang from it, else NONE."""
    if eviction.linked[group] == 0:
        return NONE
    block = int(table[at])
    if block == NULL_BLOCK or eviction.items[block].cached == 0:
        return NONE
    return block if pool.blocks[block].group == group else NONE


@kernel
def take_chosen(pool: Pool, eviction: Eviction | None, count: int, out: I32, start: int) -> bool:
    """Take `count` blocks into `out[start:]`, empty ones first; False without a policy; O(count).

    The queue keeps empty blocks at its head. When none is left the policy names a victim; should it
    know none, which only free orders that no engine makes can cause, the head goes.
    """
    if eviction is None:
        return False
    blocks = pool.blocks
    sentinel = blocks.shape[0] - 1
    for i in range(start, start + count):
        block = int(blocks[sentinel].next_free)
        if blocks[block].key != NONE:
            chosen = hooks.victim(eviction)
            if chosen != NONE:
                block = chosen
            hooks.removed(eviction, block, _content(pool, eviction, block), True)
        out[i] = block
        taken = blocks[block]
        blocks[taken.prev_free].next_free = taken.next_free
        blocks[taken.next_free].prev_free = taken.prev_free
    placing.arrange(pool.placement, out, start, count)
    hand_out(pool, out, start, count)
    return True


@inlined
def touched(eviction: Eviction | None, block: int, was_free: bool) -> None:
    """A request hit `block`; nobody held it if it `was_free`."""
    if eviction is None:
        return
    if eviction.items[block].cached == 0:
        return
    hooks.used(eviction, block)
    if was_free:
        hooks.pinned(eviction, block)


@inlined
def released(pool: Pool, eviction: Eviction | None, table: I32, at: int, above: int) -> None:
    """Nobody holds `table[at]` any more; it hangs from `table[above]`, from nothing if negative."""
    if eviction is None:
        return
    block = int(table[at])
    if eviction.items[block].cached == 0:
        return
    parent = NONE
    if above >= 0:
        parent = _above(pool, eviction, table, above, int(pool.blocks[block].group))
    hooks.released(eviction, block, parent)


@inlined
def inserted(pool: Pool, eviction: Eviction | None, table: I32, at: int) -> None:
    """The block `table[at]` has just been cached; O(1)."""
    if eviction is None:
        return
    block = int(table[at])
    parent = NONE
    if at > 0:
        parent = _above(pool, eviction, table, at - 1, int(pool.blocks[block].group))
    hooks.inserted(eviction, block, _content(pool, eviction, block), parent, at)


@inlined
def request_begins(eviction: Eviction | None) -> None:
    """A request is admitted; its hits are touched next."""
    if eviction is None:
        return
    hooks.request_begins(eviction)


@inlined
def found(pool: Pool, eviction: Eviction | None, table: I32, count: int, group: int) -> None:
    """The first `count` blocks of `table` are what a request that begins has hit."""
    if eviction is None:
        return
    if count <= 0:
        return
    deepest = _above(pool, eviction, table, count - 1, group)
    if deepest != NONE:
        hooks.found(eviction, deepest, _content(pool, eviction, deepest))


@inlined
def request_ends(engine: Engine, eviction: Eviction | None, row: int) -> None:
    """Request `row` is about to give its blocks back; a next turn can share its prompt."""
    if eviction is None:
        return
    pool, slot = engine.pool, engine.requests[row].slot
    hooks.gives_back(eviction, int(engine.requests[row].num_tokens - engine.requests[row].prompt))
    if pool.log.info.free_cause == schema.BY_PREEMPTED:
        return
    for group in range(engine.groups.shape[0]):
        if eviction.linked[group] == 0:
            continue
        span = eviction.info.tail_span
        blocks = engine.requests[row].prompt // engine.groups[group].block_size
        tail = blocks // span * span - 1
        if tail < 0 or blocks > engine.tables[group, slot].length:
            continue
        table = engine.table[group, slot]
        item = _above(pool, eviction, table, tail, group)
        if item != NONE:
            # The turn is known where the prompt ends: hits before it may be another's as well.
            deepest = _above(pool, eviction, table, blocks - 1, group)
            if deepest == NONE:
                deepest = item
            hooks.request_ends(eviction, deepest, _content(pool, eviction, item))


@inlined
def dropped(pool: Pool, eviction: Eviction | None, block: int) -> None:
    """`block` is about to lose its content because somebody said so; a free one goes first now."""
    if eviction is None:
        return
    hooks.removed(eviction, block, _content(pool, eviction, block), False)
    blocks = pool.blocks
    old = blocks[block]
    if old.ref_count == 0:
        sentinel = blocks.shape[0] - 1
        blocks[old.prev_free].next_free = old.next_free
        blocks[old.next_free].prev_free = old.prev_free
        first = int(blocks[sentinel].next_free)
        old.prev_free = sentinel
        old.next_free = first
        blocks[sentinel].next_free = block
        blocks[first].prev_free = block


@inlined
def reset(eviction: Eviction | None) -> None:
    """All cached content is forgotten."""
    if eviction is None:
        return
    hooks.reset(eviction)
