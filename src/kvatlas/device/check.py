"""A twin's books, looked through the slow and obvious way.

Owns: what must be true. Leaves to others: keeping it true (the kernels).
"""

from __future__ import annotations

import numpy as np

from kvatlas.device._free_kernel import releasable, shelf_in_order
from kvatlas.device._twin_state_kernel import (
    FREE,
    HELD,
    NONE,
    PENDING,
    SMALLEST,
    UNMAPPED,
    UNUSED,
    Twin,
)
from kvatlas.errors import InvariantError

__all__ = ["check_twin"]


def check_twin(twin: Twin) -> None:
    """Verify links, merging, trees, lists and sums; O(n log n). Raises: InvariantError."""
    nodes, totals = twin.nodes, twin.totals[0]
    used = np.flatnonzero(nodes["state"] != UNUSED)
    _demand(used.size == totals.num_nodes, "the number of nodes")
    _demand(totals.num_nodes + totals.num_unused == nodes.shape[0], "the number of unused nodes")
    sums = {"reserved": 0, "allocated": 0, "active": 0, "asked": 0, "releasable": 0, "idle": 0}
    pending = 0
    for node in used.tolist():
        one = nodes[node]
        state, length = int(one.state), int(one.length)
        _demand(length > 0 and length % SMALLEST == 0, "a block's length", node)
        _check_neighbours(twin, node)
        if state == UNMAPPED:
            _demand(one.space != NONE, "a piece without memory in a segment of memory", node)
            continue
        sums["reserved"] += length
        if state == FREE:
            common = int(twin.shelves[one.shelf].pool) == 0
            key = "releasable" if common else "idle"
            sums[key] += int(releasable(twin, node)) if common else length
            continue
        _demand(0 <= one.asked <= length, "more was asked for than is held", node)
        sums["active"] += length
        sums["asked"] += int(one.asked)
        sums["allocated"] += length if state == HELD else 0
        pending += state == PENDING
    for name, value in sums.items():
        _demand(value == int(getattr(totals, name)), f"the sum of {name} bytes")
    _demand(pending == int(totals.pending), "the number of blocks that wait")
    _check_shelves(twin)
    rules = twin.rules[0]
    _demand(int(totals.peak_reserved) >= int(totals.reserved), "the peak of reserved bytes")
    _demand(int(totals.peak_reserved) <= int(rules.capacity), "more memory than there is")


def _check_neighbours(twin: Twin, node: int) -> None:
    nodes = twin.nodes
    one = nodes[node]
    following = int(one.after)
    if following != NONE:
        other = nodes[following]
        _demand(int(other.before) == node, "a block does not know its left neighbour", node)
        _demand(one.offset + one.length == other.offset, "neighbours with a gap", node)
        _demand(one.shelf == other.shelf, "neighbours of two pools or streams", node)
        _demand(one.space == other.space, "neighbours of two segments", node)
        mergeable = int(one.state) in (FREE, UNMAPPED) and one.state == other.state
        _demand(not mergeable, "two free neighbours", node)
    if int(one.before) != NONE:
        _demand(int(nodes[one.before].after) == node, "a block its left neighbour does not know")


def _check_shelves(twin: Twin) -> None:
    """Every free block is in its tree, in order; every unmapped piece in its list, in order."""
    nodes = twin.nodes
    for shelf in range(twin.shelves.shape[0]):
        mine = nodes["shelf"] == shelf
        free = np.flatnonzero(mine & (nodes["state"] == FREE))
        expected = free[np.lexsort((nodes["offset"][free], nodes["length"][free]))]
        found = np.full(free.size + 1, NONE, np.int64)
        count = int(shelf_in_order(twin, shelf, found))
        _demand(count == free.size, "the number of free blocks in a tree", shelf)
        _demand(bool((found[:count] == expected).all()), "the order of a tree", shelf)
        listed: list[int] = []
        at = int(twin.shelves[shelf].unmapped)
        while at != NONE and len(listed) <= nodes.shape[0]:
            listed.append(at)
            at = int(nodes[at].right)
        unmapped = np.flatnonzero(mine & (nodes["state"] == UNMAPPED))
        unmapped = unmapped[np.argsort(nodes["offset"][unmapped])]
        _demand(listed == unmapped.tolist(), "the list of address space without memory", shelf)


def _demand(holds: bool, what: str, where: int | None = None) -> None:
    if not holds:
        place = "" if where is None else f" (at {where})"
        raise InvariantError(f"device allocator twin: {what} is wrong{place}")
