"""Cached memory goes back to the driver: when it is asked for, and by garbage collection.

Owns: which free segments are released, in which order. Leaves to others: when that is tried
(`_malloc_kernel`), expandable segments' pages (`_expandable_kernel`).
"""

from __future__ import annotations

from kvatlas.device._expandable_kernel import unmap_free
from kvatlas.device._free_kernel import complete_free, drop_node, first_from, unshelve
from kvatlas.device._twin_state_kernel import NONE, PENDING, UNLIMITED, Twin
from kvatlas.jit import inlined, kernel


@inlined
def _is_whole(twin: Twin, node: int) -> bool:
    """Return whether a block is all of a segment that is not expandable."""
    one = twin.nodes[node]
    return bool(one.space == NONE and one.before == NONE and one.after == NONE)


@kernel
def release_segment(twin: Twin, node: int) -> None:
    """Give a free block that is a whole segment back to the driver."""
    totals = twin.totals[0]
    unshelve(twin, node)
    totals.reserved -= twin.nodes[node].length
    totals.releases += 1
    drop_node(twin, node)


@kernel
def _release_shelf(twin: Twin, shelf: int) -> None:
    """Release every whole segment and every free page of a shelf."""
    node = first_from(twin, shelf, 1, 0)
    while node != NONE:
        # What is left of an unmapped block is smaller, so it does not come again.
        length, offset = int(twin.nodes[node].length), int(twin.nodes[node].offset)
        if _is_whole(twin, node):
            release_segment(twin, node)
        elif twin.nodes[node].space != NONE:
            unmap_free(twin, node)
        node = first_from(twin, shelf, length, offset + 1)


@kernel
def complete_pending(twin: Twin) -> None:
    """Wait for all streams: every PENDING block becomes free. O(nodes) if there is any."""
    if twin.totals[0].pending == 0:
        return
    for node in range(twin.nodes.shape[0]):
        if twin.nodes[node].state == PENDING:
            complete_free(twin, node)


@kernel
def release_cached(twin: Twin) -> None:
    """Give back what can be, of all streams of the common pool; private pools keep theirs.

    O(free blocks). Large size class first, as upstream does.
    """
    complete_pending(twin)
    for small in range(2):
        for shelf in range(twin.shelves.shape[0]):
            if twin.shelves[shelf].pool == 0 and twin.shelves[shelf].small == small:
                _release_shelf(twin, shelf)


@kernel
def _largest_below(twin: Twin, shelf: int, least: int, length: int, offset: int) -> int:
    """Return the last whole segment in order before a key, of `least` bytes or more; O(those)."""
    found, node = NONE, first_from(twin, shelf, least, 0)
    while node != NONE:
        mine, address = int(twin.nodes[node].length), int(twin.nodes[node].offset)
        if mine > length or (mine == length and address >= offset):
            return found
        if _is_whole(twin, node):
            found = node
        node = first_from(twin, shelf, mine, address + 1)
    return found


@kernel
def release_oversized(twin: Twin, shelf: int, size: int) -> bool:
    """Release unsplittable blocks of a shelf until `size` bytes are; whether that was enough.

    The smallest that is large enough alone, else the largest ones, one after the other.
    """
    max_split = int(twin.rules[0].max_split)
    if max_split == UNLIMITED:
        return False
    needed = max(size, max_split)
    node = first_from(twin, shelf, needed, 0)
    if node != NONE:
        if not _is_whole(twin, node):
            return False
        release_segment(twin, node)
        return True
    released = 0
    length, offset = UNLIMITED, 0
    while released < needed:
        node = _largest_below(twin, shelf, max_split, length, offset)
        if node == NONE:
            return False
        length, offset = int(twin.nodes[node].length), int(twin.nodes[node].offset)
        released += length
        release_segment(twin, node)
    return True


@inlined
def _age(twin: Twin, node: int) -> int:
    """Return for how many searches of its size class a free block has been passed over."""
    one = twin.nodes[node]
    return int(twin.calls[twin.shelves[one.shelf].age]) - int(one.aged)


@kernel
def collect_garbage(twin: Twin) -> None:
    """Release whole large segments of the common pool that are as old as the average or older.

    Until reserved bytes are back at the threshold, as long as a round finds any. O(free blocks) a
    round.
    """
    rules, totals = twin.rules[0], twin.totals[0]
    limit = int(rules.threshold * float(rules.allowed))
    if totals.reserved <= limit:
        return
    target = int(totals.reserved) - limit
    total_age, count = 0, 0
    for shelf in range(twin.shelves.shape[0]):
        if twin.shelves[shelf].pool != 0 or twin.shelves[shelf].small != 0:
            continue
        node = first_from(twin, shelf, 1, 0)
        while node != NONE:
            if _is_whole(twin, node):
                total_age += _age(twin, node)
                count += 1
            node = first_from(
                twin, shelf, int(twin.nodes[node].length), int(twin.nodes[node].offset) + 1
            )
    reclaimed, freed = 0, True
    while reclaimed < target and freed and count > 0:
        bound = float(total_age) / float(count)
        freed = False
        for shelf in range(twin.shelves.shape[0]):
            if twin.shelves[shelf].pool != 0 or twin.shelves[shelf].small != 0:
                continue
            node = first_from(twin, shelf, 1, 0)
            while node != NONE:
                length, offset = int(twin.nodes[node].length), int(twin.nodes[node].offset)
                if _is_whole(twin, node) and float(_age(twin, node)) >= bound:
                    freed = True
                    reclaimed += length
                    total_age -= _age(twin, node)
                    count -= 1
                    totals.collected += 1
                    release_segment(twin, node)
                node = first_from(twin, shelf, length, offset + 1)
