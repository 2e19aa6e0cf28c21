"""Invariants of the engine, all of them, checked the slow and obvious way.

Owns: what must hold after every operation. Leaves to others: making it hold. O(blocks + tables).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kvatlas.engine.kernels.pressure_state import Pressure
from kvatlas.engine.kernels.state import NONE, NULL_BLOCK, RUNNING, Engine, Pool
from kvatlas.errors import InvariantError
from kvatlas.eviction.check import check_eviction
from kvatlas.placement.check import check_placement
from kvatlas.tiers.check import check_tier


def _require(holds: bool, promise: str) -> None:
    if not holds:
        raise InvariantError(promise)


def check_pool(pool: Pool) -> None:
    """Check queue, ref counts and index of `pool` against each other.

    Raises:
        InvariantError: names the first promise that is broken.
    """
    num_blocks = pool.blocks.shape[0] - 1
    next_free, prev_free = pool.blocks["next_free"].tolist(), pool.blocks["prev_free"].tolist()
    ref_count = pool.blocks["ref_count"].tolist()
    queue: list[int] = []
    block = next_free[num_blocks]
    previous = num_blocks
    while block != num_blocks:
        _require(0 <= block < num_blocks, f"the free queue holds {block}, which is no block")
        _require(prev_free[block] == previous, f"block {block}'s back link is wrong")
        _require(len(queue) < num_blocks, "the free queue runs in a circle")
        queue.append(block)
        previous, block = block, next_free[block]
    _require(prev_free[num_blocks] == previous, "the free queue's tail is wrong")
    _require(len(queue) == int(pool.info.free), "the number of free blocks is wrong")
    _require(NULL_BLOCK not in queue, "the null block is in the free queue")
    free = set(queue)
    used = 0
    for block in range(num_blocks):
        if block == NULL_BLOCK:
            continue
        count = ref_count[block]
        _require(count >= 0, f"block {block} has ref count {count}")
        _require(
            (count == 0) == (block in free), f"block {block}: ref count {count} and queue differ"
        )
        used += count > 0
    _require(len(free) + used + 1 == num_blocks, "free + used + null is not the whole pool")
    _check_index(pool)
    if pool.eviction is not None:
        _check_policy(pool, queue)
    if pool.tier is not None:
        check_tier(pool.tier)
    if pool.placement is not None:
        check_placement(pool.placement, placeable(pool))


def placeable(pool: Pool) -> NDArray[np.bool_]:
    """Return (N,) the blocks that a placement by address may choose from; O(N)."""
    blocks = pool.blocks[:-1]
    members = np.asarray(blocks["ref_count"] == 0)
    members[NULL_BLOCK] = False
    if pool.placement is not None and not pool.placement.info.any_free:
        members &= blocks["key"] == NONE
    return members


def _check_policy(pool: Pool, queue: list[int]) -> None:
    """Check that the eviction policy knows what is cached and held, and that empty goes first."""
    eviction = pool.eviction
    if eviction is None:
        return
    check_eviction(eviction)
    keys, ref_count = pool.blocks["key"].tolist(), pool.blocks["ref_count"].tolist()
    cached, held = eviction.items["cached"].tolist(), eviction.items["held"].tolist()
    for block, known in enumerate(cached):
        _require(bool(known) == (keys[block] != NONE), f"block {block}: the policy is wrong on it")
        if known:
            _require(bool(held[block]) == (ref_count[block] > 0), f"block {block}: held or not")
    full = [keys[block] != NONE for block in queue]
    _require(full == sorted(full), "an empty block waits behind a cached one")


def _check_index(pool: Pool) -> None:
    keys_of = pool.blocks["key"].tolist()
    cached = {block: key for block, key in enumerate(keys_of) if key != NONE}
    _require(len(cached) == int(pool.info.cached), "the number of cached blocks is wrong")
    group_of, dup_prev = pool.blocks["group"].tolist(), pool.blocks["dup_prev"].tolist()
    slot_of = pool.blocks["slot"].tolist()
    dup_next, dup_last = pool.blocks["dup_next"].tolist(), pool.blocks["dup_last"].tolist()
    seen: set[int] = set()
    for group in range(pool.slots.shape[0]):
        keys = set()
        for slot, block in enumerate(pool.slots[group].tolist()):
            if block == NONE:
                continue
            key = keys_of[block]
            _require(key not in keys, f"key {key} has two slots in group {group}")
            keys.add(key)
            first, before = block, NONE
            while block != NONE:
                _require(block not in seen, f"block {block} is cached twice")
                seen.add(block)
                _require(cached.get(block) == key, f"block {block} is filed under key {key}")
                _require(group_of[block] == group, f"block {block} is in another group")
                _require(dup_prev[block] == before, f"block {block}'s duplicate link")
                before, block = block, dup_next[block]
            _require(slot_of[first] == slot, f"block {first} does not know its slot")
            _require(first == before or dup_last[first] == before, f"last duplicate of {key}")
    _require(seen == set(cached), "a cached block cannot be found by its key")


def check_engine(engine: Engine, parked: Sequence[int] = ()) -> None:
    """Check the pool, and that ref counts equal the owners in the running requests' tables.

    `parked` blocks have one more owner: who took them out of the engine's hands.

    Raises:
        InvariantError: names the first promise that is broken.
    """
    check_pool(engine.pool)
    owners = Counter(parked)
    slots = []
    slot_of, status = engine.requests["slot"].tolist(), engine.requests["status"].tolist()
    for row, slot in enumerate(slot_of):
        _require(
            (status[row] == RUNNING) == (slot != NONE),
            f"request {row}: running and holding a slot differ",
        )
        if slot == NONE:
            continue
        slots.append(slot)
        for group in range(engine.groups.shape[0]):
            length = int(engine.tables[group, slot].length)
            table = [b for b in engine.table[group, slot, :length].tolist() if b != NULL_BLOCK]
            _require(len(set(table)) == len(table), f"request {row} holds a block twice")
            owners.update(table)
    limbo_slots = _limbo(engine)
    for slot in limbo_slots:
        for group in range(engine.groups.shape[0]):
            length = int(engine.tables[group, slot].length)
            owners.update(b for b in engine.table[group, slot, :length].tolist() if b != NULL_BLOCK)
    for block, count in enumerate(engine.pool.blocks["ref_count"].tolist()):
        if block != NULL_BLOCK:
            _require(
                count == owners[block],
                f"block {block}: ref count {count}, {owners[block]} owners",
            )
    slots += limbo_slots
    slots += engine.free_slots[: int(engine.queue.free_slots)].tolist()
    _require(sorted(slots) == list(range(engine.free_slots.shape[0])), "a slot is lost")
    running = engine.running[: int(engine.queue.num_running)].tolist()
    _require(len(set(running)) == len(running), "a request runs twice")
    _require(all(status[row] == RUNNING for row in running), "a request runs that should not")


def limbo_places(pressure: Pressure) -> list[int]:
    """Return the places of the limbo that are taken, in the order in which they come back."""
    info, size = pressure.info, pressure.limbo.shape[0]
    return [(int(info.limbo_head) + i) % size for i in range(int(info.limbo_count))]


def _limbo(engine: Engine) -> list[int]:
    """Return the slots of finished requests whose blocks have not come back yet."""
    pressure = engine.pressure
    if pressure is None:
        return []
    info, size = pressure.info, pressure.limbo.shape[0]
    _require(0 <= int(info.limbo_count) <= size, "the limbo holds more than it has room for")
    places = limbo_places(pressure)
    dues = pressure.limbo["due"][places].tolist()
    _require(dues == sorted(dues), "the limbo's order is wrong")
    _require(all(due >= int(info.step) for due in dues), "blocks in limbo are overdue")
    counts = pressure.lengths["longer_count"].tolist()
    _require(counts == sorted(counts, reverse=True), "fewer outputs are longer than a shorter one")
    _require(counts[0] <= int(info.finished), "more outputs are known than have finished")
    return [int(slot) for slot in pressure.limbo["slot"][places]]
