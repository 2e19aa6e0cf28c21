"""Invariants of the nano-vLLM profile, checked the slow and obvious way; O(blocks + tables).

Owns: what must hold after every operation. Leaves to others: making it hold.
"""

from __future__ import annotations

from collections import Counter

from kvatlas.engine.kernels.state import NONE, RUNNING, Engine, Pool
from kvatlas.errors import InvariantError


def _require(holds: bool, promise: str) -> None:
    if not holds:
        raise InvariantError(promise)


def free_block_ids(pool: Pool) -> list[int]:
    """Return the free blocks from head to tail; O(blocks).

    Raises:
        InvariantError: the links do not form one ring.
    """
    sentinel = pool.blocks.shape[0] - 1
    next_free, prev_free = pool.blocks["next_free"].tolist(), pool.blocks["prev_free"].tolist()
    queue: list[int] = []
    previous, block = sentinel, next_free[sentinel]
    while block != sentinel:
        _require(0 <= block < sentinel, f"the free queue holds {block}, which is no block")
        _require(prev_free[block] == previous, f"block {block}'s back link is wrong")
        _require(len(queue) < sentinel, "the free queue runs in a circle")
        queue.append(block)
        previous, block = block, next_free[block]
    _require(prev_free[sentinel] == previous, "the free queue's tail is wrong")
    return queue


def check_nano_pool(pool: Pool) -> None:
    """Check queue, ref counts and index of `pool` against each other.

    Raises:
        InvariantError: names the first promise that is broken.
    """
    queue = free_block_ids(pool)
    _require(len(queue) == int(pool.info.free), "the number of free blocks is wrong")
    free = set(queue)
    for block, count in enumerate(pool.blocks["ref_count"].tolist()[:-1]):
        _require(count >= 0, f"block {block} has ref count {count}")
        _require((count == 0) == (block in free), f"block {block}: ref count and queue differ")
    keys = pool.blocks["key"].tolist()[:-1]
    cached = {block: key for block, key in enumerate(keys) if key != NONE}
    _require(len(cached) == int(pool.info.cached), "the number of cached blocks is wrong")
    found = {block: keys[block] for block in pool.slots[0].tolist() if block != NONE}
    _require(found == cached, "index and blocks differ")
    _require(len(set(found.values())) == len(found), "a key names two blocks")


def check_nano_engine(engine: Engine) -> None:
    """Check the pool, who holds what, the slots and both queues.

    Raises:
        InvariantError: names the first promise that is broken.
    """
    check_nano_pool(engine.pool)
    running = engine.running[: int(engine.queue.num_running)].tolist()
    _require(len(set(running)) == len(running), "a request runs twice")
    status, slot_of = engine.requests["status"].tolist(), engine.requests["slot"].tolist()
    _require(
        set(running) == {row for row, is_ in enumerate(status) if is_ == RUNNING},
        "status and the running queue differ",
    )
    ring, head = engine.waiting.shape[0], int(engine.queue.head)
    waiting = [int(engine.waiting[(head + i) % ring]) for i in range(int(engine.queue.num_waiting))]
    _require(len(set(waiting)) == len(waiting), "a request waits twice")
    holders = {row for row, slot in enumerate(slot_of) if slot != NONE}
    # A prompt that is computed in chunks waits at the head while it holds its blocks.
    _require(holders - set(running) <= set(waiting[:1]), "a request holds blocks but does not run")
    _require(set(running) <= holders, "a running request holds no blocks")
    owners: Counter[int] = Counter()
    block_size = int(engine.groups[0].block_size)
    for row in holders:
        length = int(engine.tables[0, slot_of[row]].length)
        table = engine.table[0, slot_of[row], :length].tolist()
        _require(len(set(table)) == len(table), f"request {row} holds a block twice")
        computed = int(engine.requests[row].computed)
        _require(computed <= length * block_size, f"request {row}: no place for {computed} tokens")
        owners.update(table)
    for block, count in enumerate(engine.pool.blocks["ref_count"].tolist()[:-1]):
        _require(count == owners[block], f"block {block}: {count} != {owners[block]} owners")
    free_slots = engine.free_slots[: int(engine.queue.free_slots)].tolist()
    held = [slot_of[row] for row in holders]
    _require(sorted(held + free_slots) == list(range(engine.free_slots.size)), "a slot is lost")
