"""Free ranges in order of (length, offset): the smallest one that is large enough, in O(log n).

Owns: the trees. Leaves to others: when a range becomes free (`_ranges_kernel`). They are treaps: a
search tree by key in which every parent's rank is at least its children's; ranks are random, so
the expected depth is O(log n) whatever the order of insertions (Seidel and Aragon, Algorithmica
1996).
"""

from __future__ import annotations

import math

from kvatlas.jit import inlined, kernel
from kvatlas.storage.arena._state_kernel import EXPONENTS, NONE, SUB_BITS, SUBS, Arena


@inlined
def exponent_of(number: int) -> int:
    """Return the position of the highest 1 of a number from 1 to 2**53."""
    return math.frexp(float(number))[1] - 1


@inlined
def _lowest(bits: int) -> int:
    return exponent_of(bits & -bits)


@inlined
def tree_of(length: int) -> int:
    """Return the tree that ranges of this length are in."""
    exponent = exponent_of(length)
    if exponent >= SUB_BITS:
        sub = (length >> (exponent - SUB_BITS)) & (SUBS - 1)
    else:
        sub = (length << (SUB_BITS - exponent)) & (SUBS - 1)
    return exponent * SUBS + sub


@inlined
def _precedes(arena: Arena, node: int, length: int, offset: int) -> bool:
    mine = int(arena.nodes[node].length)
    return mine < length or (mine == length and int(arena.nodes[node].offset) < offset)


@inlined
def _attach(arena: Arena, tree: int, parent: int, right: bool, child: int) -> None:
    if parent == NONE:
        arena.roots[tree] = child
    elif right:
        arena.nodes[parent].right = child
    else:
        arena.nodes[parent].left = child


@kernel
def insert(arena: Arena, node: int) -> None:
    """Put a free range into its tree; expected O(log n)."""
    nodes = arena.nodes
    length, offset, rank = int(nodes[node].length), int(nodes[node].offset), int(nodes[node].rank)
    tree = tree_of(length)
    parent, right, at = NONE, False, int(arena.roots[tree])
    if at == NONE:
        arena.subs[tree >> SUB_BITS] |= 1 << (tree & (SUBS - 1))
        arena.info[0].exponents |= 1 << (tree >> SUB_BITS)
    while at != NONE and int(nodes[at].rank) >= rank:
        parent, right = at, _precedes(arena, at, length, offset)
        at = int(nodes[at].right if right else nodes[at].left)
    _attach(arena, tree, parent, right, node)
    # What hung here is split by the key: smaller ones to the left, larger ones to the right.
    lower, upper = NONE, NONE  # the ends of the two spines so far
    nodes[node].left = nodes[node].right = NONE
    while at != NONE:
        if _precedes(arena, at, length, offset):
            if lower == NONE:
                nodes[node].left = at
            else:
                nodes[lower].right = at
            lower = at
            at = int(nodes[at].right)
        else:
            if upper == NONE:
                nodes[node].right = at
            else:
                nodes[upper].left = at
            upper = at
            at = int(nodes[at].left)
    if lower != NONE:
        nodes[lower].right = NONE
    if upper != NONE:
        nodes[upper].left = NONE


@kernel
def remove(arena: Arena, node: int) -> None:
    """Take a range out of its tree; expected O(log n)."""
    nodes = arena.nodes
    length, offset = int(nodes[node].length), int(nodes[node].offset)
    tree = tree_of(length)
    parent, right, at = NONE, False, int(arena.roots[tree])
    while at != node:
        parent, right = at, _precedes(arena, at, length, offset)
        at = int(nodes[at].right if right else nodes[at].left)
    small, large = int(nodes[node].left), int(nodes[node].right)
    while small != NONE and large != NONE:
        if int(nodes[small].rank) >= int(nodes[large].rank):
            _attach(arena, tree, parent, right, small)
            parent, right, small = small, True, int(nodes[small].right)
        else:
            _attach(arena, tree, parent, right, large)
            parent, right, large = large, False, int(nodes[large].left)
    _attach(arena, tree, parent, right, large if small == NONE else small)
    if int(arena.roots[tree]) == NONE:
        arena.subs[tree >> SUB_BITS] &= ~(1 << (tree & (SUBS - 1)))
        if arena.subs[tree >> SUB_BITS] == 0:
            arena.info[0].exponents &= ~(1 << (tree >> SUB_BITS))


@kernel
def at_least(arena: Arena, length: int, offset: int) -> int:
    """Return the first range in order from (length, offset) on, NONE without; O(log n)."""
    nodes = arena.nodes
    tree = tree_of(length)
    found, at = NONE, int(arena.roots[tree])
    while at != NONE:
        if _precedes(arena, at, length, offset):
            at = int(nodes[at].right)
        else:
            found, at = at, int(nodes[at].left)
    if found != NONE:
        return found
    tree = _tree_behind(arena, tree)
    if tree == NONE:
        return NONE
    at = int(arena.roots[tree])
    while int(nodes[at].left) != NONE:
        at = int(nodes[at].left)
    return at


@inlined
def _tree_behind(arena: Arena, tree: int) -> int:
    """Return the next tree that is not empty; O(1)."""
    exponent = tree >> SUB_BITS
    rest = int(arena.subs[exponent]) & (-2 << (tree & (SUBS - 1)))
    if rest != 0:
        return exponent * SUBS + _lowest(rest)
    rest = int(arena.info[0].exponents) & (-2 << exponent)
    if rest == 0:
        return NONE
    exponent = _lowest(rest)
    return exponent * SUBS + _lowest(int(arena.subs[exponent]))


@kernel
def longest(arena: Arena) -> int:
    """Return the length of the longest free range, 0 without; O(log n)."""
    exponents = int(arena.info[0].exponents)
    if exponents == 0:
        return 0
    exponent = exponent_of(exponents)
    at = int(arena.roots[exponent * SUBS + exponent_of(int(arena.subs[exponent]))])
    while int(arena.nodes[at].right) != NONE:
        at = int(arena.nodes[at].right)
    return int(arena.nodes[at].length)


def tree_count() -> int:
    """Return how many trees an arena has."""
    return EXPONENTS * SUBS
