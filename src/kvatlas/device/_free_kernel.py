"""Blocks become free and stop being free: trees, merging, and the sums over them.

Owns: a shelf's tree, neighbours, what is releasable. Leaves to others: when a block is freed
(`_replay_kernel`), which one serves a request (`_malloc_kernel`).
"""

from __future__ import annotations

from kvatlas.device._twin_state_kernel import (
    FREE,
    HELD,
    I64,
    NONE,
    PENDING,
    UNMAPPED,
    UNUSED,
    Twin,
)
from kvatlas.jit import entry, inlined, kernel
from kvatlas.storage.arena._state_kernel import Arena
from kvatlas.storage.arena._tree_kernel import at_least, insert, remove


@inlined
def tree_of_shelf(twin: Twin, shelf: int) -> Arena:
    """Return one shelf's free blocks as the arena's tree kernels take them."""
    return Arena(twin.nodes, twin.roots[shelf], twin.subs[shelf], twin.shelves[shelf : shelf + 1])


@kernel
def first_from(twin: Twin, shelf: int, length: int, offset: int) -> int:
    """Return the first free block in order of (length, address) from a key on, NONE without."""
    return at_least(tree_of_shelf(twin, shelf), length, offset)


@kernel
def follower(twin: Twin, node: int) -> int:
    """Return the next free block of its shelf in order of (length, address), NONE without."""
    one = twin.nodes[node]
    return first_from(twin, int(one.shelf), int(one.length), int(one.offset) + 1)


@inlined
def new_node(twin: Twin) -> int:
    """Take an unused node; the caller has seen that there is one."""
    totals = twin.totals[0]
    node = int(totals.unused)
    totals.unused = twin.nodes[node].after
    totals.num_unused -= 1
    totals.num_nodes += 1
    twin.nodes[node].asked = 0
    twin.nodes[node].owner = NONE
    return node


@inlined
def drop_node(twin: Twin, node: int) -> None:
    """Make a node unused; nothing points to it any more."""
    totals = twin.totals[0]
    one = twin.nodes[node]
    one.state = UNUSED
    one.after = totals.unused
    totals.unused = node
    totals.num_unused += 1
    totals.num_nodes -= 1


@inlined
def link_before(twin: Twin, node: int, later: int) -> None:
    """Put a node before another of its segment."""
    nodes = twin.nodes
    earlier = int(nodes[later].before)
    nodes[node].before = earlier
    nodes[node].after = later
    nodes[later].before = node
    if earlier != NONE:
        nodes[earlier].after = node


@inlined
def link_after(twin: Twin, node: int, earlier: int) -> None:
    """Put a node behind another of its segment."""
    nodes = twin.nodes
    later = int(nodes[earlier].after)
    nodes[node].after = later
    nodes[node].before = earlier
    nodes[earlier].after = node
    if later != NONE:
        nodes[later].before = node


@kernel
def releasable_of(twin: Twin, node: int) -> int:
    """Return what of a free block the driver could have back: all, none, or whole pages."""
    one = twin.nodes[node]
    if one.space == NONE:
        return int(one.length) if one.before == NONE and one.after == NONE else 0
    space = twin.spaces[one.space]
    page, start = int(space.page), int(one.offset) - int(space.origin)
    first = (start + page - 1) // page * page
    last = (start + int(one.length)) // page * page
    return max(0, last - first)


@entry
def releasable(twin: Twin, node: int) -> int:
    """`releasable_of`, for callers in Python."""
    return releasable_of(twin, node)


@entry
def shelf_in_order(twin: Twin, shelf: int, nodes: I64) -> int:
    """Write a shelf's blocks in order of (length, address) as far as there is room; how many."""
    node, count = first_from(twin, shelf, 1, 0), 0
    while node != NONE:
        if count < nodes.shape[0]:
            nodes[count] = node
        count += 1
        node = follower(twin, node)
    return count


@inlined
def _count(twin: Twin, node: int, sign: int) -> None:
    totals = twin.totals[0]
    if twin.shelves[twin.nodes[node].shelf].pool == 0:
        totals.releasable += sign * releasable_of(twin, node)
    else:
        totals.idle += sign * twin.nodes[node].length


@kernel
def shelve(twin: Twin, node: int) -> None:
    """Put a block that nobody uses onto its shelf."""
    one = twin.nodes[node]
    one.state = FREE
    one.aged = twin.calls[twin.shelves[one.shelf].age]
    insert(tree_of_shelf(twin, int(one.shelf)), node)
    _count(twin, node, 1)


@kernel
def unshelve(twin: Twin, node: int) -> None:
    """Take a free block off its shelf; it stays linked and FREE."""
    _count(twin, node, -1)
    remove(tree_of_shelf(twin, int(twin.nodes[node].shelf)), node)


@kernel
def shelve_unmapped(twin: Twin, node: int) -> None:
    """Put a piece of address space into its shelf's list, which is in order of addresses."""
    nodes = twin.nodes
    nodes[node].state = UNMAPPED
    shelf = int(nodes[node].shelf)
    last, at = NONE, int(twin.shelves[shelf].unmapped)
    while at != NONE and nodes[at].offset < nodes[node].offset:
        last, at = at, int(nodes[at].right)
    nodes[node].right = at
    if last == NONE:
        twin.shelves[shelf].unmapped = node
    else:
        nodes[last].right = node


@kernel
def unshelve_unmapped(twin: Twin, node: int) -> None:
    """Take a piece of address space out of its shelf's list."""
    nodes = twin.nodes
    shelf = int(nodes[node].shelf)
    last, at = NONE, int(twin.shelves[shelf].unmapped)
    while at != node:
        last, at = at, int(nodes[at].right)
    if last == NONE:
        twin.shelves[shelf].unmapped = nodes[node].right
    else:
        nodes[last].right = nodes[node].right


@kernel
def merge(twin: Twin, node: int, other: int) -> None:
    """Let `node`, which is on no shelf, take in a neighbour that nobody uses either."""
    if other == NONE:
        return
    nodes = twin.nodes
    if nodes[other].state == FREE:
        if nodes[node].state == UNMAPPED:
            return
        unshelve(twin, other)
    elif nodes[other].state == UNMAPPED:
        if nodes[node].state != UNMAPPED:
            return
        unshelve_unmapped(twin, other)
    else:
        return
    if nodes[node].before == other:
        nodes[node].offset = nodes[other].offset
        nodes[node].before = nodes[other].before
        if nodes[node].before != NONE:
            nodes[nodes[node].before].after = node
    else:
        nodes[node].after = nodes[other].after
        if nodes[node].after != NONE:
            nodes[nodes[node].after].before = node
    nodes[node].length += nodes[other].length
    drop_node(twin, other)


@kernel
def hold(twin: Twin, node: int, asked: int, owner: int) -> None:
    """Count a block as allocated."""
    one, totals = twin.nodes[node], twin.totals[0]
    one.state = HELD
    one.asked = asked
    one.owner = owner
    totals.allocated += one.length
    totals.active += one.length
    totals.asked += asked
    totals.peak_allocated = max(totals.peak_allocated, totals.allocated)
    totals.peak_active = max(totals.peak_active, totals.active)
    totals.peak_asked = max(totals.peak_asked, totals.asked)


@kernel
def request_free(twin: Twin, node: int) -> None:
    """The program gives a block back; another stream may still use it."""
    one, totals = twin.nodes[node], twin.totals[0]
    one.state = PENDING
    totals.allocated -= one.length
    totals.pending += 1


@kernel
def complete_free(twin: Twin, node: int) -> None:
    """Nobody uses a PENDING block any more: it merges with its free neighbours. O(log n)."""
    one, totals = twin.nodes[node], twin.totals[0]
    if one.state != PENDING:
        return
    totals.pending -= 1
    totals.active -= one.length
    totals.asked -= one.asked
    one.state = FREE
    one.owner = NONE
    merge(twin, node, int(one.before))
    merge(twin, node, int(one.after))
    shelve(twin, node)


@inlined
def note_peaks(twin: Twin) -> None:
    """Look at reserved and stuck bytes; after every change that can raise them."""
    totals = twin.totals[0]
    stuck = totals.reserved - totals.active - totals.releasable - totals.idle
    if totals.reserved > totals.peak_reserved:
        totals.peak_reserved = totals.reserved
        totals.stuck_at_peak = stuck
        totals.releasable_at_peak = totals.releasable
    totals.peak_stuck = max(totals.peak_stuck, stuck)
