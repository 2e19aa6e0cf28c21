"""Taking a range out of the free ones and giving it back.

Owns: exact best fit under alignment, splitting, merging with free neighbours, and the sums. Leaves
to others: the order of the free ranges (`_tree_kernel`), size classes (`_shelves_kernel`).
"""

from __future__ import annotations

from kvatlas.jit import entry, inlined, kernel
from kvatlas.storage.arena._state_kernel import (
    FREE,
    GROW,
    HELD,
    I64,
    MOST_TAKEN,
    NONE,
    UNUSED,
    Arena,
)
from kvatlas.storage.arena._tree_kernel import at_least, insert, longest, remove


@inlined
def _padding(arena: Arena, node: int, align: int) -> int:
    """Return the bytes before the first address in a range that is a multiple of `align`."""
    return -(int(arena.info[0].address) + int(arena.nodes[node].offset)) & (align - 1)


@kernel
def _find(arena: Arena, length: int, align: int) -> int:
    """Return the smallest free range that holds `length` bytes so aligned, NONE without.

    The one at the lowest address of several. O(log n); with an alignment above the granule, each
    range that is less than `align` longer than needed and lies badly costs that once more.
    """
    at = at_least(arena, length, 0)
    if align <= int(arena.info[0].granule):
        return at
    while at != NONE:
        mine, offset = int(arena.nodes[at].length), int(arena.nodes[at].offset)
        if _padding(arena, at, align) + length <= mine:
            return at
        at = at_least(arena, mine, offset + 1)
    return NONE


@inlined
def new_node(arena: Arena) -> int:
    """Take an unused node; the caller has seen that there is one."""
    node = int(arena.info[0].unused)
    arena.info[0].unused = arena.nodes[node].after
    arena.info[0].num_unused -= 1
    return node


@inlined
def unlink(arena: Arena, node: int) -> None:
    """Take a node out of the order of addresses; it is unused."""
    nodes = arena.nodes
    before, after = int(nodes[node].before), int(nodes[node].after)
    if before == NONE:
        arena.info[0].first = after
    else:
        nodes[before].after = after
    if after != NONE:
        nodes[after].before = before
    one = arena.nodes[node]
    one.state = UNUSED
    one.after = arena.info[0].unused
    arena.info[0].unused = node
    arena.info[0].num_unused += 1


@inlined
def link_behind(arena: Arena, node: int, behind: int) -> None:
    """Put a node behind another in the order of addresses, or before all (`behind` NONE)."""
    nodes = arena.nodes
    next_one = int(arena.info[0].first if behind == NONE else nodes[behind].after)
    nodes[node].before = behind
    nodes[node].after = next_one
    if behind == NONE:
        arena.info[0].first = node
    else:
        nodes[behind].after = node
    if next_one != NONE:
        nodes[next_one].before = node


@kernel
def make_free(arena: Arena, node: int, offset: int, length: int) -> None:
    """Write a free range into a node that is linked already."""
    one = arena.nodes[node]
    one.offset = offset
    one.length = length
    one.asked = 0
    one.state = FREE
    one.shelf = NONE
    insert(arena, node)
    arena.info[0].free_bytes += length
    arena.info[0].free_ranges += 1


@kernel
def unfree(arena: Arena, node: int) -> None:
    """Take a free range out of the trees and the sums; it stays linked."""
    remove(arena, node)
    arena.info[0].free_bytes -= arena.nodes[node].length
    arena.info[0].free_ranges -= 1


@kernel
def take_range(arena: Arena, length: int, align: int) -> int:
    """Hold `length` bytes (a multiple of the granule) at an aligned address: the node, or NONE.

    Needs MOST_TAKEN unused nodes.
    """
    node = _find(arena, length, align)
    if node == NONE:
        return NONE
    unfree(arena, node)
    one = arena.nodes[node]
    pad, whole = _padding(arena, node, align), int(one.length)
    if pad != 0:
        # Before it lies a held range or none: two free ones never touch.
        held = new_node(arena)
        link_behind(arena, held, node)
        make_free(arena, node, int(one.offset), pad)
        arena.nodes[held].offset = one.offset + pad
        node = held
        one = arena.nodes[node]
    rest = whole - pad - length
    if rest != 0:
        behind = new_node(arena)
        link_behind(arena, behind, node)
        make_free(arena, behind, int(one.offset) + length, rest)
    one.length = length
    one.align = align
    one.asked = 0
    one.shelf = NONE
    one.state = HELD
    info = arena.info[0]
    info.held_bytes += length
    info.peak_held_bytes = max(info.peak_held_bytes, info.held_bytes)
    return node


@kernel
def give_range(arena: Arena, node: int) -> None:
    """Make a held range free and merge it with its free neighbours; O(log n)."""
    nodes = arena.nodes
    offset, length = int(nodes[node].offset), int(nodes[node].length)
    arena.info[0].held_bytes -= length
    nodes[node].turn += 1
    before, after = int(nodes[node].before), int(nodes[node].after)
    if after != NONE and nodes[after].state == FREE:
        unfree(arena, after)
        length += int(nodes[after].length)
        unlink(arena, after)
    if before != NONE and nodes[before].state == FREE:
        unfree(arena, before)
        offset = int(nodes[before].offset)
        length += int(nodes[before].length)
        unlink(arena, before)
    make_free(arena, node, offset, length)


@inlined
def note_handed_out(arena: Arena, node: int, asked: int) -> None:
    """Count an allocation."""
    info = arena.info[0]
    arena.nodes[node].asked = asked
    info.asked_bytes += asked
    info.peak_asked_bytes = max(info.peak_asked_bytes, info.asked_bytes)
    info.live += 1
    info.allocations += 1


@inlined
def note_given_back(arena: Arena, node: int) -> None:
    """Count a free."""
    info = arena.info[0]
    info.asked_bytes -= arena.nodes[node].asked
    arena.nodes[node].asked = 0
    info.live -= 1
    info.frees += 1


@inlined
def note_failure(arena: Arena, length: int) -> None:
    """Count a request that was refused."""
    arena.info[0].failures += 1
    if length <= int(arena.info[0].free_bytes):
        arena.info[0].split_failures += 1


@inlined
def handle_of(arena: Arena, node: int) -> int:
    """Return the handle of a held node: what it is held for, and the node."""
    return int(arena.nodes[node].turn) << 32 | node


@inlined
def node_of(arena: Arena, handle: int) -> int:
    """Return the node that a live allocation's handle names, NONE when it is none (any more)."""
    node = handle & 0xFFFFFFFF
    if handle < 0 or node >= arena.nodes.shape[0]:
        return NONE
    one = arena.nodes[node]
    return node if one.state == HELD and one.turn == handle >> 32 else NONE


@kernel
def _allocate(arena: Arena, asked: int, align: int, final: int) -> int:
    if arena.info[0].num_unused < MOST_TAKEN:
        return GROW
    granule = int(arena.info[0].granule)
    length = (asked + granule - 1) & -granule
    node = take_range(arena, length, max(align, granule))
    if node == NONE:
        if final != 0:
            note_failure(arena, length)
        return NONE
    note_handed_out(arena, node, asked)
    return handle_of(arena, node)


@entry
def allocate_one(arena: Arena, asked: int, align: int, final: int) -> int:
    """Allocate; the handle, NONE when it does not fit, GROW when nodes run out.

    `final`: what does not fit is counted as a failure; else it will be tried again.
    """
    return _allocate(arena, asked, align, final)


@entry
def allocate_many(
    arena: Arena, asked: I64, align: int, handles: I64, start: int, final: int
) -> int:
    """Allocate from request `start` on into `handles`; the first request that is not done.

    That one met GROW, or NONE when this was not `final`.
    """
    for i in range(start, asked.shape[0]):
        handles[i] = _allocate(arena, int(asked[i]), align, final)
        if handles[i] == GROW or (handles[i] == NONE and final == 0):
            return i
    return len(asked)


@entry
def free_one(arena: Arena, handle: int) -> bool:
    """Free an allocation; False when it is not one (any more)."""
    node = node_of(arena, handle)
    if node == NONE:
        return False
    note_given_back(arena, node)
    give_range(arena, node)
    return True


@entry
def first_not_live(arena: Arena, handles: I64) -> int:
    """Return the first of many handles that names no allocation or one named before, else NONE.

    O(n): while it looks, the allocations that it has seen have another turn.
    """
    bad = NONE
    for i in range(handles.shape[0]):
        node = node_of(arena, int(handles[i]))
        if node == NONE:
            bad = i
            break
        arena.nodes[node].turn += 1
    for i in range(handles.shape[0] if bad == NONE else bad):
        arena.nodes[handles[i] & 0xFFFFFFFF].turn -= 1
    return bad


@entry
def free_many(arena: Arena, handles: I64) -> None:
    """Free allocations that `first_not_live` has looked at."""
    for i in range(handles.shape[0]):
        node = int(handles[i]) & 0xFFFFFFFF
        note_given_back(arena, node)
        give_range(arena, node)


@entry
def longest_free(arena: Arena) -> int:
    """Return the length of the longest free range."""
    return longest(arena)


@entry
def in_order(arena: Arena, nodes: I64) -> int:
    """Write the nodes in the order of their addresses, as many as there is room; their number."""
    at, count = int(arena.info[0].first), 0
    while at != NONE:
        if count < nodes.shape[0]:
            nodes[count] = at
        count += 1
        at = int(arena.nodes[at].after)
    return count


@entry
def node_of_handle(arena: Arena, handle: int) -> int:
    """Return the node of a live allocation, NONE when it is none (any more)."""
    return node_of(arena, handle)
