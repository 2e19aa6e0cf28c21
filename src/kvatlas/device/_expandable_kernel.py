"""Expandable segments: address space first, memory behind it page by page.

Owns: finding room, mapping and unmapping. Leaves to others: which free block serves a request
(`_malloc_kernel`). Read from the source; **not verified on recordings**.
"""

from __future__ import annotations

from kvatlas.device._free_kernel import (
    drop_node,
    link_after,
    link_before,
    merge,
    new_node,
    shelve,
    shelve_unmapped,
    unshelve,
    unshelve_unmapped,
)
from kvatlas.device._twin_state_kernel import (
    FREE,
    NONE,
    SMALL_SEGMENT,
    UNMAPPED,
    Twin,
)
from kvatlas.jit import inlined, kernel


@inlined
def _is_room(twin: Twin, node: int) -> bool:
    """Return whether a piece of an expandable segment, or NONE, is neither held nor waited for."""
    return node != NONE and (twin.nodes[node].state == FREE or twin.nodes[node].state == UNMAPPED)


@kernel
def new_space(twin: Twin, shelf: int, base: int) -> int:
    """Make an expandable segment at an address, all of it unmapped; its node, NONE without room.

    One node and one space must be unused.
    """
    totals = twin.totals[0]
    number = int(totals.num_spaces)
    if number == twin.spaces.shape[0]:
        return NONE
    totals.num_spaces = number + 1
    page = SMALL_SEGMENT if twin.shelves[shelf].small != 0 else int(twin.rules[0].large_segment)
    space = twin.spaces[number]
    space.origin = base
    space.page = page
    space.length = (int(twin.rules[0].space_length) + page - 1) // page * page
    space.live = 1
    totals.next_address = max(int(totals.next_address), base + int(space.length))
    node = new_node(twin)
    one = twin.nodes[node]
    one.offset = base
    one.length = space.length
    one.before = one.after = NONE
    one.shelf = shelf
    one.space = number
    shelve_unmapped(twin, node)
    return node


@kernel
def _find_room(twin: Twin, shelf: int, size: int) -> int:
    """Return where `size` bytes of addresses are not in use, at the lowest address; NONE without.

    That is an unmapped piece, or the free block before one, with what follows. O(unmapped pieces).
    """
    nodes = twin.nodes
    unmapped = int(twin.shelves[shelf].unmapped)
    while unmapped != NONE:
        start = int(nodes[unmapped].before)
        if not _is_room(twin, start):
            start = unmapped
        found, at = 0, start
        while found < size and _is_room(twin, at):
            found += int(nodes[at].length)
            at = int(nodes[at].after)
        if found >= size:
            return start
        unmapped = int(nodes[unmapped].right)
    return NONE


@kernel
def _map(twin: Twin, node: int, size: int) -> bool:
    """Put memory behind the first `size` bytes of an unmapped piece, in whole pages.

    It merges with its free neighbours and goes onto the shelf. False when the driver has not as
    much.
    """
    totals, one = twin.totals[0], twin.nodes[node]
    page = int(twin.spaces[one.space].page)
    mapped = (size + page - 1) // page * page
    if totals.reserved + mapped > twin.rules[0].capacity:
        return False
    unshelve_unmapped(twin, node)
    one.state = FREE
    if mapped < one.length:
        rest = new_node(twin)
        behind = twin.nodes[rest]
        behind.offset = one.offset + mapped
        behind.length = one.length - mapped
        behind.shelf = one.shelf
        behind.space = one.space
        link_after(twin, rest, node)
        shelve_unmapped(twin, rest)
        one.length = mapped
    merge(twin, node, int(one.before))
    merge(twin, node, int(one.after))
    shelve(twin, node)
    totals.reserved += mapped
    totals.segments += 1
    return True


@kernel
def expand(twin: Twin, shelf: int, size: int, base: int) -> int:
    """Return a free block of at least `size` bytes, taken off its shelf; NONE when memory is short.

    `base`: where the driver would put a new expandable segment. What was mapped before the driver
    ran out stays.
    """
    nodes = twin.nodes
    node = _find_room(twin, shelf, size)
    if node == NONE:
        node = new_space(twin, shelf, base)
        if node == NONE or nodes[node].length < size:
            return NONE
    if nodes[node].state == UNMAPPED and not _map(twin, node, min(int(nodes[node].length), size)):
        return NONE
    while nodes[node].length < size:
        # A free block, then an unmapped piece: mapping that one takes in the free block.
        missing = size - int(nodes[node].length)
        following = int(nodes[node].after)
        if not _map(twin, following, min(missing, int(nodes[following].length))):
            return NONE
        node = following
    unshelve(twin, node)
    return node


@kernel
def map_at(twin: Twin, pair: int, address: int, length: int) -> int:
    """Map what a recording maps; the free block that it is part of, NONE if it cannot be.

    `pair`: the small shelf of its pool and stream. Pages are mapped where a piece without memory
    begins; anywhere else, a new segment does. Small requests map a page of 2 MiB at a time.
    """
    for shelf in range(pair, pair + 2):
        node = int(twin.shelves[shelf].unmapped)
        while node != NONE:
            one = twin.nodes[node]
            if one.offset == address and one.length >= length:
                page = int(twin.spaces[one.space].page)
                if length % page != 0 or not _map(twin, node, length):
                    return NONE
                return node
            node = int(one.right)
    shelf = pair if length == SMALL_SEGMENT else pair + 1
    node = new_space(twin, shelf, address)
    if node == NONE or length > twin.nodes[node].length or not _map(twin, node, length):
        return NONE
    return node


@kernel
def unmap_free(twin: Twin, node: int) -> None:
    """Take the memory from behind a free block's whole pages; the pieces around them stay free.

    Needs two unused nodes. An expandable segment without any memory is given back.
    """
    nodes, totals, one = twin.nodes, twin.totals[0], twin.nodes[node]
    space = twin.spaces[one.space]
    page, start = int(space.page), int(one.offset) - int(space.origin)
    first = (start + page - 1) // page * page
    last = (start + int(one.length)) // page * page
    if first >= last:
        return
    unshelve(twin, node)
    if first > start:
        piece = new_node(twin)
        link_before(twin, piece, node)
        _free_piece(twin, piece, node, int(one.offset), first - start)
    rest = start + int(one.length) - last
    if rest > 0:
        piece = new_node(twin)
        link_after(twin, piece, node)
        _free_piece(twin, piece, node, int(space.origin) + last, rest)
    one.offset = space.origin + first
    one.length = last - first
    one.state = UNMAPPED
    merge(twin, node, int(one.before))
    merge(twin, node, int(one.after))
    shelve_unmapped(twin, node)
    totals.reserved -= last - first
    totals.releases += 1
    if nodes[node].before == NONE and nodes[node].after == NONE:
        unshelve_unmapped(twin, node)
        space.live = 0
        drop_node(twin, node)


@kernel
def _free_piece(twin: Twin, piece: int, of: int, offset: int, length: int) -> None:
    """Make a new node a free block of the same segment."""
    one, whole = twin.nodes[piece], twin.nodes[of]
    one.offset = offset
    one.length = length
    one.shelf = whole.shelf
    one.space = whole.space
    shelve(twin, piece)
