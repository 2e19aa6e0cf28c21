"""Arrays for a twin: its rules, its shelves, its first blocks, and more nodes when they run out.

Owns: the first state of every array. Leaves to others: all later changes (the kernels).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.device._free_kernel import note_peaks, shelve, shelve_unmapped
from kvatlas.device._twin_state_kernel import (
    FREE,
    HELD,
    NODE,
    NONE,
    PENDING,
    RULES,
    SHELF,
    SMALL_SEGMENT,
    SPACE,
    TOTALS,
    UNLIMITED,
    UNMAPPED,
    UNUSED,
    Twin,
)
from kvatlas.device.settings import AllocatorSettings
from kvatlas.device.start import StartState
from kvatlas.errors import InputError
from kvatlas.jit import entry
from kvatlas.records import Records, records
from kvatlas.storage.arena._state_kernel import EXPONENTS, SUBS

__all__ = ["MOST_ADDRESSES", "Limits", "empty_twin", "grown", "make_twin"]

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
_FIRST_NODES = 1024
_FIRST_SPACES = 16
MOST_ADDRESSES = 1 << 42
"""Address space of an expandable segment when no capacity is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much memory there is.

    Attributes:
        capacity_bytes: what the driver can give this process; None: no limit.
        allowed_bytes: what PyTorch's memory fraction allows; None: no fraction is set. Only under
            one does garbage collection act.

    Raises: InputError for a limit below 1 byte.
    """

    capacity_bytes: int | None = None
    allowed_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("capacity_bytes", "allowed_bytes"):
            limit = getattr(self, name)
            if limit is not None and not 1 <= limit <= UNLIMITED:
                raise InputError("no number of bytes of any memory", field=name, value=limit)

    @classmethod
    def under(cls, capacity_bytes: int | None, fraction: float | None) -> Limits:
        """Return the limits of a device of so many bytes under PyTorch's memory fraction.

        None: no limit, and no fraction; a fraction of no limit allows everything.
        """
        if capacity_bytes is None or fraction is None:
            return cls(capacity_bytes=capacity_bytes)
        return cls(
            capacity_bytes=capacity_bytes, allowed_bytes=max(1, int(capacity_bytes * fraction))
        )


def empty_twin(
    pools: I64, streams: I64, settings: AllocatorSettings, limits: Limits, first_address: int
) -> Twin:
    """Return an allocator without segments.

    `pools`, `streams`: (pairs,) a number per pool and stream, streams in order of their handles.
    """
    pairs = pools.size
    shelves = records(2 * pairs, SHELF)
    shelves["pool"] = np.repeat(pools, 2)
    shelves["stream"] = np.repeat(streams, 2)
    shelves["small"] = np.arange(2 * pairs) % 2 == 0
    shelves["age"] = 2 * shelves["pool"] + (1 - shelves["small"])
    shelves["unmapped"] = NONE
    rules = records(1, RULES)
    rule = rules[0]
    rule.max_split = UNLIMITED if settings.max_split_bytes is None else settings.max_split_bytes
    rule.rounding = settings.max_non_split_rounding_bytes
    rule.large_segment = settings.large_segment_bytes
    rule.expandable = settings.expandable_segments
    rule.threshold = settings.garbage_collection_threshold
    rule.fraction = limits.allowed_bytes is not None
    rule.allowed = UNLIMITED if limits.allowed_bytes is None else limits.allowed_bytes
    rule.capacity = UNLIMITED if limits.capacity_bytes is None else limits.capacity_bytes
    capacity = limits.capacity_bytes
    rule.space_length = MOST_ADDRESSES
    if capacity is not None:
        rule.space_length = min(MOST_ADDRESSES, capacity + capacity // 8)
    totals = records(1, TOTALS)
    totals[0].unused = 0
    totals[0].num_unused = _FIRST_NODES
    totals[0].next_address = first_address
    return Twin(
        nodes=_fresh(0, _FIRST_NODES),
        shelves=shelves,
        roots=np.full((2 * pairs, EXPONENTS * SUBS), NONE, np.int32),
        subs=np.zeros((2 * pairs, EXPONENTS), np.int64),
        calls=np.zeros(2 * (int(pools.max(initial=0)) + 1), np.int64),
        spaces=records(_FIRST_SPACES, SPACE),
        rules=rules,
        divisions=np.array(settings.roundup_power2_divisions, np.int64),
        totals=totals,
    )


def grown(twin: Twin) -> Twin:
    """Return the twin with twice as many nodes and expandable segments; O(nodes)."""
    count = twin.nodes.shape[0]
    nodes = records(2 * count, NODE)
    nodes[:count] = twin.nodes
    nodes[count:] = _fresh(count, count)
    nodes[2 * count - 1].after = twin.totals[0].unused
    twin.totals[0].unused = count
    twin.totals[0].num_unused += count
    spaces = records(2 * twin.spaces.shape[0], SPACE)
    spaces[: twin.spaces.shape[0]] = twin.spaces
    return twin._replace(nodes=nodes, spaces=spaces)


def _fresh(start: int, count: int) -> Records:
    """Return unused nodes, each linked to the next, with ranks that look random."""
    nodes = records(count, NODE)
    nodes["rank"] = np.random.default_rng((7, start)).integers(0, 1 << 62, count)
    nodes["state"] = UNUSED
    nodes["before"] = nodes["left"] = nodes["right"] = NONE
    nodes["owner"] = nodes["space"] = NONE
    nodes["after"] = np.arange(start + 1, start + count + 1)
    nodes[count - 1].after = NONE
    return nodes


def make_twin(
    start: StartState,
    pools: I64,
    streams: I64,
    settings: AllocatorSettings,
    limits: Limits,
    num_subjects: int,
    first_address: int,
) -> tuple[Twin, I32]:
    """Return the twin with what was there when a trace began, and the node of every allocation.

    O(n log n). `num_subjects`: allocations by number; `first_address`: beyond all recorded ones.
    """
    twin = empty_twin(pools, streams, settings, limits, first_address)
    pieces = _pieces(start, settings, int(twin.rules[0].space_length))
    # Room for a release right at the beginning, too.
    enough = 3 * pieces.shape[0] + 64
    while twin.nodes.shape[0] < enough or twin.spaces.shape[0] < start.address.size:
        twin = grown(twin)
    node_of = np.full(num_subjects, NONE, np.int32)
    _fill(twin, pieces, node_of)
    return twin, node_of


def _pieces(start: StartState, settings: AllocatorSettings, space_length: int) -> I64:
    """Return the nodes' values: (n, 9), segment after segment, each in order of address.

    offset, length, asked, state, shelf, subject, whether a segment begins here, the page of an
    expandable one, its address space.
    """
    rows: list[tuple[int, ...]] = []
    home = np.searchsorted(start.address, start.block_address, "right") - 1
    first = np.searchsorted(home, np.arange(start.address.size + 1)).tolist()
    shelves = 2 * start.pair + ~start.small
    # Runs of mapped pages of one pool and stream lie in one segment, as far as that can be known.
    order = np.lexsort((start.address, np.where(start.expandable, shelves, -1)))
    cursor, open_until, open_shelf = 0, 0, NONE
    for at in order.tolist():
        shelf, begin = int(shelves[at]), int(start.address[at])
        end, begins, page, wide = begin + int(start.nbytes[at]), 1, 0, 0
        if start.expandable[at] and shelf == open_shelf and end <= open_until:
            rows.append((cursor, begin - cursor, 0, UNMAPPED, shelf, NONE, 0, 0, 0))
            begins = 0
        elif open_shelf != NONE and cursor < open_until:
            rows.append((cursor, open_until - cursor, 0, UNMAPPED, open_shelf, NONE, 0, 0, 0))
            open_shelf = NONE
        if start.expandable[at] and begins:
            page = SMALL_SEGMENT if start.small[at] else settings.large_segment_bytes
            floor = int(start.floor[at])
            wide = -(-max(space_length, end - floor) // page) * page
            open_shelf, open_until = shelf, floor + wide
            if floor < begin:
                room = begin - floor
                rows.append((floor, room, 0, UNMAPPED, shelf, NONE, 1, page, wide))
                begins = 0
        cursor = begin
        for block in range(first[at], first[at + 1]):
            address = int(start.block_address[block])
            if address > cursor:
                gap = address - cursor
                rows.append((cursor, gap, 0, FREE, shelf, NONE, begins, page, wide))
                begins = 0
            state = PENDING if start.block_pending[block] else HELD
            nbytes, asked = int(start.block_nbytes[block]), int(start.block_asked[block])
            subject = int(start.block_subject[block])
            rows.append((address, nbytes, asked, state, shelf, subject, begins, page, wide))
            begins = 0
            cursor = address + nbytes
        if cursor < end:
            rows.append((cursor, end - cursor, 0, FREE, shelf, NONE, begins, page, wide))
            cursor = end
    if open_shelf != NONE and cursor < open_until:
        rows.append((cursor, open_until - cursor, 0, UNMAPPED, open_shelf, NONE, 0, 0, 0))
    return np.array(rows, np.int64).reshape(-1, 9)


@entry
def _fill(twin: Twin, pieces: I64, node_of: I32) -> None:
    """Make a node of every piece and count it."""
    totals = twin.totals[0]
    last = NONE
    for row in range(pieces.shape[0]):
        node = int(totals.unused)
        totals.unused = twin.nodes[node].after
        totals.num_unused -= 1
        totals.num_nodes += 1
        one = twin.nodes[node]
        one.offset = pieces[row, 0]
        one.length = pieces[row, 1]
        one.asked = pieces[row, 2]
        one.state = pieces[row, 3]
        one.shelf = pieces[row, 4]
        one.owner = pieces[row, 5]
        one.after = NONE
        one.before = NONE
        one.space = NONE
        if pieces[row, 6] == 0:
            one.before = last
            one.space = twin.nodes[last].space
            twin.nodes[last].after = node
        elif pieces[row, 7] != 0:
            space = twin.spaces[totals.num_spaces]
            space.origin = one.offset
            space.page = pieces[row, 7]
            space.length = pieces[row, 8]
            space.live = 1
            one.space = totals.num_spaces
            totals.num_spaces += 1
            totals.next_address = max(totals.next_address, space.origin + space.length)
        else:
            totals.segments += 1
        if one.owner != NONE:
            node_of[one.owner] = node
        last = node
        if one.state == UNMAPPED:
            continue
        totals.reserved += one.length
        if one.state != FREE:
            totals.active += one.length
            totals.asked += one.asked
            if one.state == HELD:
                totals.allocated += one.length
            else:
                totals.pending += 1
    totals.peak_allocated = totals.allocated
    totals.peak_active = totals.active
    totals.peak_asked = totals.asked
    # Only now are all neighbours linked, which says what is releasable.
    for node in range(twin.nodes.shape[0]):
        if twin.nodes[node].state == FREE:
            shelve(twin, node)
        elif twin.nodes[node].state == UNMAPPED:
            shelve_unmapped(twin, node)
    note_peaks(twin)
