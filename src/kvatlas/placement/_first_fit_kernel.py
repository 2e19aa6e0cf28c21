"""First fit: the run at the lowest address that is long enough, found in a tree of maxima.

Owns: the tree, and the search. Leaves to others: which runs there are (`_spans_kernel`). A run's
length stands at its first id; a node is the greatest of 16, so five levels serve a million ids.
"""

from __future__ import annotations

import numpy as np

from kvatlas.jit import kernel
from kvatlas.placement._state_kernel import NONE, MaxTree

_FAN_BITS = 4


def make_max_tree(size: int) -> MaxTree:
    """Return zeros at `size` places; 4 bytes each and a 15th more."""
    starts = [0]
    while True:
        groups = -(-size >> _FAN_BITS) if size > 0 else 1
        starts.append(starts[-1] + (groups << _FAN_BITS))
        if size <= 1:
            break
        size = groups
    return MaxTree(np.zeros(starts[-1], np.int32), np.array(starts, np.int64))


@kernel
def set_value(tree: MaxTree, place: int, value: int) -> None:
    """Let the number at `place` be `value`; O(log16 n)."""
    values, at = tree.values, place
    old = int(values[at])
    values[at] = value
    for level in range(1, tree.starts.shape[0] - 1):
        below = tree.starts[level - 1] + (at >> _FAN_BITS << _FAN_BITS)
        at >>= _FAN_BITS
        above = tree.starts[level] + at
        top = int(values[above])
        if value < top:
            if old < top:
                return
            # The greatest of its group has shrunk.
            value = int(values[below])
            for i in range(below + 1, below + (1 << _FAN_BITS)):
                value = max(value, int(values[i]))
        if value == top:
            return
        values[above] = value
        old = top


@kernel
def leftmost(tree: MaxTree, least: int) -> int:
    """Return the lowest place whose number is at least `least`, NONE without; O(log16 n)."""
    levels = tree.starts.shape[0] - 1
    if tree.values[tree.starts[levels - 1]] < least:
        return NONE
    at = 0
    for level in range(levels - 2, -1, -1):
        at <<= _FAN_BITS
        while tree.values[tree.starts[level] + at] < least:
            at += 1
    return at


@kernel
def greatest(tree: MaxTree) -> int:
    """Return the greatest number; O(1)."""
    return int(tree.values[tree.starts[tree.starts.shape[0] - 2]])
