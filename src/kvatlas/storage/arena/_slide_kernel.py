"""Sliding held ranges down so that the free ones between them become one.

Owns: the new addresses. Leaves to others: which stretch (`compaction`), and moving the bytes.
"""

from __future__ import annotations

from kvatlas.jit import entry
from kvatlas.storage.arena._ranges_kernel import (
    link_behind,
    make_free,
    new_node,
    unfree,
    unlink,
)
from kvatlas.storage.arena._state_kernel import FREE, I64, Arena


@entry
def slide(arena: Arena, first: int, last: int, moves: I64) -> int:
    """Slide what is held from node `first` to `last` to the beginning of that stretch.

    Every held range keeps its order and its alignment; padding that this needs is free ranges. The
    stretch has no free neighbour, and an unused node for each held range in it and one more.

    Returns: rows of `moves`, (n, 3): source, target, bytes; targets ascend and are below sources.
    """
    nodes, base = arena.nodes, int(arena.info[0].address)
    behind = int(nodes[first].before)
    stop = int(nodes[last].after)
    cursor = int(nodes[first].offset)
    end = int(nodes[last].offset) + int(nodes[last].length)
    at, count = first, 0
    while at != stop:
        following = int(nodes[at].after)
        if nodes[at].state == FREE:
            unfree(arena, at)
            unlink(arena, at)
        else:
            pad = -(base + cursor) & (int(nodes[at].align) - 1)
            if pad != 0:
                gap = new_node(arena)
                link_behind(arena, gap, behind)
                make_free(arena, gap, cursor, pad)
                cursor += pad
            if cursor != nodes[at].offset:
                moves[count, 0] = nodes[at].offset
                moves[count, 1] = cursor
                moves[count, 2] = nodes[at].length
                count += 1
                nodes[at].offset = cursor
            cursor += int(nodes[at].length)
            behind = at
        at = following
    if cursor < end:
        gap = new_node(arena)
        link_behind(arena, gap, behind)
        make_free(arena, gap, cursor, end - cursor)
    return count
