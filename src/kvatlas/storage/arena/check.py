"""The books of an arena and its size classes, looked through the slow and obvious way.

Owns: what must be true. Leaves to others: keeping it true (`_ranges_kernel`, `_shelves_kernel`).
"""

from __future__ import annotations

import numpy as np

from kvatlas.errors import InvariantError
from kvatlas.storage.arena._ranges_kernel import in_order
from kvatlas.storage.arena._state_kernel import FREE, HELD, I64, NONE, SHELVED, SUBS, Arena, Shelves
from kvatlas.storage.arena._tree_kernel import tree_count

__all__ = ["check_arena", "check_shelves"]


def check_arena(arena: Arena) -> None:
    """Verify order, coverage, alignment, merging, trees and sums; O(n). Raises: InvariantError."""
    info, nodes = arena.info[0], arena.nodes
    order = np.empty(nodes.shape[0], np.int64)
    count = in_order(arena, order)
    _demand(count <= nodes.shape[0], "the order of addresses has a cycle")
    order = order[:count]
    one = nodes[order]
    state, length, offset = one["state"], one["length"], one["offset"]
    ends = offset + length
    _demand(int(offset[0]) == info.origin, "the first range does not begin at the beginning")
    _demand(int(ends[-1]) == info.origin + info.capacity, "the last range does not end at the end")
    _demand(bool((ends[:-1] == offset[1:]).all()), "ranges overlap or leave a gap")
    _demand(
        bool((one["before"] == np.append(NONE, order[:-1])).all()), "a node does not know its left"
    )
    _demand(bool((length > 0).all() and (length % info.granule == 0).all()), "a length is odd")
    free, held, shelved = (state == which for which in (FREE, HELD, SHELVED))
    _demand(bool((free | held | shelved).all()), "an unused node is in the order")
    _demand(not (free[1:] & free[:-1]).any(), "two free ranges touch")
    users = one[held]
    addresses = users["offset"] + info.address
    _demand(bool((addresses % users["align"] == 0).all()), "an address is not aligned")
    _demand(
        bool(((users["asked"] >= 1) & (users["asked"] <= users["length"])).all()),
        "an allocation is smaller than what was asked",
    )
    for name, found in (
        ("free_bytes", length[free].sum()),
        ("free_ranges", np.count_nonzero(free)),
        ("held_bytes", length[~free].sum()),
        ("shelved_bytes", length[shelved].sum()),
        ("asked_bytes", users["asked"].sum()),
        ("live", users.size),
        ("num_unused", nodes.shape[0] - count),
    ):
        _demand(int(found) == info[name], f"{name} is wrong")
    _demand(info.allocations - info.frees == info.live, "allocations, frees and live do not agree")
    _check_unused(arena, set(order.tolist()))
    _check_trees(arena, order[free])


def _check_unused(arena: Arena, used: set[int]) -> None:
    at, seen = int(arena.info[0].unused), set[int]()
    while at != NONE:
        _demand(at not in used and at not in seen, "an unused node is used, or listed twice")
        seen.add(at)
        at = int(arena.nodes["after"][at])
    _demand(len(seen) == arena.info[0].num_unused, "an unused node is lost")


def _check_trees(arena: Arena, free: I64) -> None:
    """Walk the trees: keys ascend, parents outrank children, every free range is there."""
    left, right, rank, length, offset = (
        arena.nodes[name].tolist() for name in ("left", "right", "rank", "length", "offset")
    )
    seen: list[int] = []
    for tree in range(tree_count()):
        exponent, sub = divmod(tree, SUBS)
        root = int(arena.roots[tree])
        _demand(
            bool(int(arena.subs[exponent]) >> sub & 1) == (root != NONE), "a tree's bit is wrong"
        )
        path, at = list[int](), root
        while path or at != NONE:
            while at != NONE:
                path.append(at)
                at = left[at]
            at = path.pop()
            for child in (left[at], right[at]):
                _demand(child == NONE or rank[child] <= rank[at], "a child outranks its parent")
            seen.append(at)
            _demand(len(seen) <= free.size, "a tree has a cycle, or a range that is not free")
            at = right[at]
    for exponent, subs in enumerate(arena.subs.tolist()):
        _demand(
            bool(int(arena.info[0].exponents) >> exponent & 1) == (subs != 0),
            "an exponent is wrong",
        )
    keys = [(length[node], offset[node]) for node in seen]
    _demand(keys == sorted(keys), "the trees are out of order")
    _demand(sorted(seen) == sorted(free.tolist()), "a free range is in no tree")


def check_shelves(arena: Arena, shelves: Shelves) -> None:
    """Verify which ranges lie on which shelf, and their counts; O(n). Raises: InvariantError."""
    nodes = arena.nodes
    below = nodes["below"].tolist()
    for which, shelf in enumerate(shelves.shelves):
        at, seen = int(shelf.top), list[int]()
        while at != NONE:
            seen.append(at)
            _demand(len(seen) <= shelf.cached, "a shelf has a cycle, or does not know its ranges")
            at = below[at]
        lie = (nodes["state"] == SHELVED) & (nodes["shelf"] == which)
        _demand(sorted(seen) == np.flatnonzero(lie).tolist(), "a shelved range is on no shelf")
        _demand(bool((nodes["length"][lie] == shelf.length).all()), "a range is on a wrong shelf")
        live = (nodes["state"] == HELD) & (nodes["shelf"] == which)
        _demand(np.count_nonzero(live) == shelf.live, "a class does not know how many are held")
        _demand(
            shelf.refilled - shelf.returned == shelf.cached + shelf.live,
            "a class lost or gained a range",
        )


def _demand(holds: bool, broken: str) -> None:
    if not holds:
        raise InvariantError(f"arena: {broken}")
