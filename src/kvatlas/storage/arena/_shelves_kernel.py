"""Size classes over an arena: freed ranges lie on shelves, and each shelf follows its demand.

Owns: when a shelf is filled, emptied, and by how much. Leaves to others: the arena
(`_ranges_kernel`), which classes there are (`build`).

A shelf that ran dry since the last look doubles the ranges that it takes at the next miss; one
that always had some left gives three quarters of those never needed back to the arena and halves
its batch: the rule by which jemalloc's thread caches follow demand (tcache garbage collection,
since 3.0). Whatever does not fit empties all shelves before it fails, so that no request fails for
memory that nobody uses.
"""

from __future__ import annotations

from kvatlas.jit import entry, inlined, kernel
from kvatlas.storage.arena._ranges_kernel import (
    give_range,
    handle_of,
    node_of,
    note_failure,
    note_given_back,
    note_handed_out,
    take_range,
)
from kvatlas.storage.arena._state_kernel import (
    GROW,
    HELD,
    I64,
    MOST_TAKEN,
    NONE,
    SHELVED,
    Arena,
    Shelves,
)

MOST_BATCH = 64
"""Ranges that one refill takes at most."""
NODES_PER_CALL = MOST_TAKEN * (MOST_BATCH + 1)


@inlined
def _shelf_for(shelves: Shelves, length: int) -> int:
    """Return the smallest class that holds `length` bytes, NONE when it is too large for all."""
    low, high = 0, shelves.shelves.shape[0]
    while low < high:
        middle = (low + high) >> 1
        if shelves.shelves[middle].length < length:
            low = middle + 1
        else:
            high = middle
    return low if low < shelves.shelves.shape[0] else NONE


@kernel
def _shelve(arena: Arena, shelves: Shelves, node: int) -> None:
    one = arena.nodes[node]
    shelf = shelves.shelves[one.shelf]
    one.state = SHELVED
    one.below = shelf.top
    shelf.top = node
    shelf.cached += 1
    arena.info[0].shelved_bytes += one.length


@kernel
def _unshelve(arena: Arena, shelves: Shelves, which: int) -> int:
    """Take the top range of a shelf that has one."""
    shelf = shelves.shelves[which]
    node = int(shelf.top)
    one = arena.nodes[node]
    shelf.top = one.below
    shelf.cached -= 1
    shelf.low = min(shelf.low, shelf.cached)
    one.state = HELD
    arena.info[0].shelved_bytes -= one.length
    return node


@kernel
def _return_some(arena: Arena, shelves: Shelves, which: int, count: int) -> None:
    for _ in range(count):
        give_range(arena, _unshelve(arena, shelves, which))
    shelves.shelves[which].returned += count


@kernel
def _return_all(arena: Arena, shelves: Shelves) -> None:
    for which in range(shelves.shelves.shape[0]):
        _return_some(arena, shelves, which, int(shelves.shelves[which].cached))


@kernel
def _look(arena: Arena, shelves: Shelves) -> None:
    """Let every shelf follow what it was asked for since the last look."""
    course = shelves.course[0]
    course.looks += 1
    course.until = course.interval
    for which in range(shelves.shelves.shape[0]):
        shelf = shelves.shelves[which]
        idle = int(shelf.low)
        if idle > 0:
            _return_some(arena, shelves, which, idle - (idle >> 2))
            shelf.batch = max(1, shelf.batch >> 1)
        elif shelf.recent > 0:
            shelf.batch = min(shelf.most, 2 * shelf.batch)
        shelf.recent = 0
        shelf.low = shelf.cached


@kernel
def _take(arena: Arena, shelves: Shelves, length: int, align: int) -> int:
    """Take a range from the arena, if need be after emptying the shelves."""
    node = take_range(arena, length, align)
    if node == NONE and arena.info[0].shelved_bytes > 0:
        shelves.course[0].flushes += 1
        _return_all(arena, shelves)
        node = take_range(arena, length, align)
    return node


@kernel
def _refill(arena: Arena, shelves: Shelves, which: int) -> int:
    """Take a batch for a shelf that is empty; one of it is returned, NONE when none fits."""
    shelf = shelves.shelves[which]
    length, granule = int(shelf.length), int(arena.info[0].granule)
    node = _take(arena, shelves, length, granule)
    if node == NONE:
        return NONE
    arena.nodes[node].shelf = which
    shelf.refilled += 1
    for _ in range(1, int(shelf.batch)):
        more = take_range(arena, length, granule)
        if more == NONE:
            break
        arena.nodes[more].shelf = which
        _shelve(arena, shelves, more)
        shelf.refilled += 1
    return node


@kernel
def _allocate(arena: Arena, shelves: Shelves, asked: int, align: int, final: int) -> int:
    if arena.info[0].num_unused < NODES_PER_CALL:
        return GROW
    granule, course = int(arena.info[0].granule), shelves.course[0]
    course.until -= 1
    if course.until <= 0:
        _look(arena, shelves)
    length = (asked + granule - 1) & -granule
    which = _shelf_for(shelves, length) if align <= granule else NONE
    node = NONE
    if which != NONE and shelves.shelves[which].cached > 0:
        shelves.shelves[which].hits += 1
        node = _unshelve(arena, shelves, which)
    elif which != NONE:
        shelves.shelves[which].misses += 1
        shelves.shelves[which].recent += 1
        node = _refill(arena, shelves, which)
    if node == NONE:
        # Larger than every class, or the class's length fits nowhere: perhaps the request does.
        which = NONE
        course.direct += 1
        node = _take(arena, shelves, length, max(align, granule))
    if node == NONE:
        if final != 0:
            note_failure(arena, length)
        return NONE
    if which != NONE:
        shelves.shelves[which].live += 1
    note_handed_out(arena, node, asked)
    return handle_of(arena, node)


@kernel
def _free(arena: Arena, shelves: Shelves, node: int) -> None:
    note_given_back(arena, node)
    which = int(arena.nodes[node].shelf)
    if which == NONE:
        give_range(arena, node)
        return
    shelves.shelves[which].live -= 1
    arena.nodes[node].turn += 1
    _shelve(arena, shelves, node)


@entry
def pool_allocate_one(arena: Arena, shelves: Shelves, asked: int, align: int, final: int) -> int:
    """Allocate; the handle, NONE or GROW, as `allocate_one`."""
    return _allocate(arena, shelves, asked, align, final)


@entry
def pool_allocate_many(
    arena: Arena, shelves: Shelves, asked: I64, align: int, handles: I64, start: int, final: int
) -> int:
    """Allocate many, as `allocate_many`."""
    for i in range(start, asked.shape[0]):
        handles[i] = _allocate(arena, shelves, int(asked[i]), align, final)
        if handles[i] == GROW or (handles[i] == NONE and final == 0):
            return i
    return len(asked)


@entry
def pool_free_one(arena: Arena, shelves: Shelves, handle: int) -> bool:
    """Free an allocation; False when it is not one (any more)."""
    node = node_of(arena, handle)
    if node == NONE:
        return False
    _free(arena, shelves, node)
    return True


@entry
def pool_free_many(arena: Arena, shelves: Shelves, handles: I64) -> None:
    """Free allocations that `first_not_live` has looked at."""
    for i in range(handles.shape[0]):
        _free(arena, shelves, int(handles[i]) & 0xFFFFFFFF)


@entry
def return_all(arena: Arena, shelves: Shelves) -> None:
    """Give everything on the shelves back to the arena."""
    _return_all(arena, shelves)
