"""Moves one after another: an order in which every block that is written to is empty by then.

Owns: that order. Leaves to others: which block goes where (`planning`), copying (`storage`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.jit import entry

I64 = NDArray[np.int64]

NONE = -1


@entry
def close_chains(came_from: I64, goes_to: I64, new_id: I64) -> None:
    """Let the empty block at the end of each chain of moves get the id at its beginning; O(blocks).

    That is what the moves do to it, told one after another: it changes places with each content.
    """
    for end in range(came_from.shape[0]):
        if came_from[end] == NONE or goes_to[end] != NONE:
            continue
        first = end
        while came_from[first] != NONE:
            first = came_from[first]
        new_id[end] = first


@entry
def order_moves(came_from: I64, goes_to: I64, sources: I64, targets: I64) -> int:
    """Write the moves in order, return how many; O(blocks).

    A chain of moves ends in an empty block and is told from that end; blocks that change places in
    a circle go through block 0, which is no block of theirs.

    Args:
        came_from: (N,) per block whose content comes to it, NONE for nobody's. Used up.
        goes_to: (N,) the other way round.
        sources, targets: (M,) room: a move per content, one more per circle.
    """
    count = 0
    for end in range(1, came_from.shape[0]):
        if goes_to[end] != NONE:
            continue
        target = end
        while came_from[target] != NONE:
            source = came_from[target]
            came_from[target] = NONE
            sources[count], targets[count] = source, target
            count += 1
            target = source
    for first in range(1, came_from.shape[0]):
        if came_from[first] == NONE:
            continue
        sources[count], targets[count] = first, 0
        count += 1
        target = first
        while came_from[target] != first:
            source = came_from[target]
            came_from[target] = NONE
            sources[count], targets[count] = source, target
            count += 1
            target = source
        came_from[target] = NONE
        sources[count], targets[count] = 0, target
        count += 1
    return count
