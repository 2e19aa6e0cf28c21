"""Which address a request gets.

Owns: rounding, best fit, splitting, new segments, and the order in which all is tried. Leaves to
others: merging (`_free_kernel`), what goes back to the driver (`_release_kernel`), growing
(`_expandable_kernel`).

Source: c10/cuda/CUDACachingAllocator.cpp of PyTorch 2.x (`malloc`, `get_free_block`,
`should_split`, `alloc_block`, `round_size`).
"""

from __future__ import annotations

from kvatlas.device._expandable_kernel import expand
from kvatlas.device._free_kernel import (
    first_from,
    follower,
    hold,
    link_before,
    new_node,
    shelve,
    unshelve,
)
from kvatlas.device._release_kernel import collect_garbage, release_cached, release_oversized
from kvatlas.device._twin_state_kernel import (
    LARGE_STEP,
    LARGEST_SHARED,
    MIB,
    NONE,
    SMALL_SEGMENT,
    SMALL_SIZE,
    SMALLEST,
    UNMAPPED,
    Twin,
)
from kvatlas.jit import inlined, kernel
from kvatlas.storage.arena._tree_kernel import exponent_of

_FIRST_DIVIDED, _LAST_ENTRY = 20, 15


@kernel
def round_size(twin: Twin, asked: int) -> int:
    """Return the bytes that a request takes: a multiple of 512, or a step of its doubling."""
    if asked < SMALLEST:
        return SMALLEST
    exponent = exponent_of(asked)
    divisions = int(twin.divisions[min(max(exponent - _FIRST_DIVIDED, 0), _LAST_ENTRY)])
    if divisions > 1 and asked > SMALLEST * divisions:
        step = (1 << exponent) >> exponent_of(divisions)
        return (asked + step - 1) // step * step
    return (asked + SMALLEST - 1) // SMALLEST * SMALLEST


@inlined
def segment_size(twin: Twin, size: int) -> int:
    """Return the bytes of a new segment for a rounded request."""
    if size <= SMALL_SIZE:
        return SMALL_SEGMENT
    if size < LARGEST_SHARED:
        return int(twin.rules[0].large_segment)
    return (size + LARGE_STEP - 1) // LARGE_STEP * LARGE_STEP


@kernel
def _length_with_room(twin: Twin, node: int) -> int:
    """Return what an expandable block can grow to: with the unmapped piece behind it."""
    one = twin.nodes[node]
    if one.after != NONE and twin.nodes[one.after].state == UNMAPPED:
        return int(one.length) + int(twin.nodes[one.after].length)
    return int(one.length)


@kernel
def find_free(twin: Twin, shelf: int, size: int) -> int:
    """Return the block that serves a request, taken off its shelf; NONE without. O(log n).

    The smallest that is large enough, of several that at the lowest address. If the limits on
    splitting forbid that one, no other is looked at.
    """
    rules, nodes = twin.rules[0], twin.nodes
    if rules.fraction != 0 and rules.threshold > 0.0:
        twin.calls[twin.shelves[shelf].age] += 1
    node = first_from(twin, shelf, size, 0)
    if node == NONE:
        return NONE
    if nodes[node].space != NONE:
        if rules.expandable != 0:
            following = follower(twin, node)
            while (
                nodes[node].space != NONE
                and following != NONE
                and _length_with_room(twin, following) < _length_with_room(twin, node)
            ):
                node = following
                following = follower(twin, following)
        else:
            while node != NONE and nodes[node].space != NONE:
                node = follower(twin, node)
            if node == NONE:
                return NONE
    length = int(nodes[node].length)
    if size < rules.max_split and length >= rules.max_split:
        return NONE
    if size >= rules.max_split and length >= size + rules.rounding:
        return NONE
    unshelve(twin, node)
    return node


@kernel
def add_segment(twin: Twin, shelf: int, length: int, address: int) -> int:
    """Return a new segment as one block on no shelf."""
    totals = twin.totals[0]
    node = new_node(twin)
    one = twin.nodes[node]
    one.offset = address
    one.length = length
    one.before = NONE
    one.after = NONE
    one.shelf = shelf
    one.space = NONE
    totals.reserved += length
    totals.segments += 1
    totals.next_address = max(int(totals.next_address), address + length)
    return node


@kernel
def _from_driver(twin: Twin, shelf: int, size: int) -> int:
    """Return a block, on no shelf, that is new from the driver; NONE when memory is short."""
    rules, totals = twin.rules[0], twin.totals[0]
    length = segment_size(twin, size)
    if rules.fraction != 0 and totals.reserved + length > rules.allowed:
        return NONE
    if rules.expandable != 0:
        return expand(twin, shelf, size, int(totals.next_address))
    if totals.reserved + length > rules.capacity:
        return NONE
    return add_segment(twin, shelf, length, int(totals.next_address))


@kernel
def place(twin: Twin, node: int, size: int, asked: int, owner: int) -> int:
    """Hold the first `size` bytes of a block that is on no shelf; the block that is held.

    The rest goes back onto the shelf if it may be split off. Needs an unused node.
    """
    rules, nodes = twin.rules[0], twin.nodes
    one = nodes[node]
    rest = int(one.length) - size
    if twin.shelves[one.shelf].small != 0 or rules.expandable != 0:
        splits = rest >= SMALLEST
    else:
        splits = size < rules.max_split and rest > MIB
    if splits:
        head = new_node(twin)
        nodes[head].offset = one.offset
        nodes[head].length = size
        nodes[head].shelf = one.shelf
        nodes[head].space = one.space
        link_before(twin, head, node)
        one.offset += size
        one.length = rest
        shelve(twin, node)
        node = head
    hold(twin, node, asked, owner)
    return node


@kernel
def allocate(twin: Twin, pair: int, asked: int, owner: int) -> int:
    """Allocate on a pool and stream, whose small shelf is `pair`; NONE: out of memory.

    O(log n), and O(free blocks) when the driver has no memory left.
    """
    rules = twin.rules[0]
    size = round_size(twin, asked)
    shelf = pair if size <= SMALL_SIZE else pair + 1
    node = find_free(twin, shelf, size)
    if node == NONE:
        if rules.fraction != 0 and rules.threshold > 0.0:
            collect_garbage(twin)
        node = _from_driver(twin, shelf, size)
        if node == NONE and release_oversized(twin, shelf, size):
            node = _from_driver(twin, shelf, size)
        # While a graph is captured into a private pool, nothing may wait for the device.
        if node == NONE and twin.shelves[shelf].pool == 0:
            release_cached(twin)
            twin.totals[0].retries += 1
            node = _from_driver(twin, shelf, size)
        if node == NONE:
            return NONE
    return place(twin, node, size, asked, owner)
