"""Runs operations over the twin: as they were recorded, or freely under any settings.

Owns: the two loops, and what is compared with the recording. Leaves to others: the rules, linking
operations (`operations`), more nodes (`build`).
"""

from __future__ import annotations

from kvatlas.device._expandable_kernel import expand, map_at, unmap_free
from kvatlas.device._free_kernel import (
    complete_free,
    first_from,
    follower,
    note_peaks,
    request_free,
    shelve,
    unshelve,
)
from kvatlas.device._malloc_kernel import (
    add_segment,
    allocate,
    find_free,
    place,
    round_size,
    segment_size,
)
from kvatlas.device._release_kernel import release_cached, release_segment
from kvatlas.device._twin_state_kernel import (
    ALLOCATE,
    COMPLETE_FREE,
    EMPTY_CACHE,
    FREE,
    GET_SEGMENT,
    GIVE_SEGMENT,
    GROW,
    HELD,
    I32,
    I64,
    MAP,
    NONE,
    OUT_OF_MEMORY,
    PENDING,
    REQUEST_FREE,
    SMALL_SIZE,
    UNMAP,
    Operations,
    Twin,
)
from kvatlas.jit import entry, inlined, kernel
from kvatlas.records import Records

_SPARE_NODES, _SPARE_SPACES = 16, 4
"""One operation needs at most these; and two for every block while pages are unmapped."""


@inlined
def _is_short(twin: Twin) -> bool:
    totals = twin.totals[0]
    return bool(
        totals.num_unused < 2 * totals.num_nodes + _SPARE_NODES
        or totals.num_spaces + _SPARE_SPACES > twin.spaces.shape[0]
    )


@inlined
def _request_free(twin: Twin, node: int, owner: int) -> None:
    if node != NONE and twin.nodes[node].owner == owner and twin.nodes[node].state == HELD:
        request_free(twin, node)


@inlined
def _complete_free(twin: Twin, node: int, owner: int) -> None:
    """Complete a free, unless waiting for the device has done so already."""
    if node != NONE and twin.nodes[node].owner == owner and twin.nodes[node].state == PENDING:
        complete_free(twin, node)


@inlined
def _note(twin: Twin, series: I64, at: int) -> None:
    """Write one row of the timeline; none is wanted when it has no rows."""
    if at < series.shape[0]:
        totals = twin.totals[0]
        series[at, 0] = totals.reserved
        series[at, 1] = totals.allocated
        series[at, 2] = totals.active
        series[at, 3] = totals.releasable
        series[at, 4] = totals.idle


@entry
def make_room(twin: Twin) -> bool:
    """Release what is cached if the capacity does not hold it; whether it holds the rest.

    Needs two unused nodes for every node in use.
    """
    totals = twin.totals[0]
    if totals.reserved > twin.rules[0].capacity:
        release_cached(twin)
        totals.releases = 0
    totals.peak_reserved = 0
    totals.peak_stuck = 0
    note_peaks(twin)
    return bool(totals.reserved <= twin.rules[0].capacity)


@entry
def run_freely(
    twin: Twin, operations: Operations, node_of: I32, course: Records, series: I64
) -> int:
    """Run from `course.at` on under the twin's own rules. GROW: more nodes, please; else 0.

    Segments come from where the twin says. It ends with the first request that memory does not
    suffice for. A recorded failure is tried and, if it would have succeeded, freed at once.
    """
    now = course[0]
    for at in range(int(now.at), operations.code.shape[0]):
        if _is_short(twin):
            now.at = at
            return GROW
        code, subject = int(operations.code[at]), int(operations.subject[at])
        if code == ALLOCATE or code == OUT_OF_MEMORY:
            asked = int(operations.nbytes[at])
            node = allocate(twin, int(operations.shelf[at]), asked, subject)
            note_peaks(twin)
            if node == NONE:
                now.at = at
                now.ran_out_at = at
                now.refused = asked
                _note(twin, series, at)
                return 0
            if code == ALLOCATE:
                node_of[subject] = node
            else:
                now.survived += 1
                request_free(twin, node)
                complete_free(twin, node)
        elif code == REQUEST_FREE:
            _request_free(twin, int(node_of[subject]), subject)
        elif code == COMPLETE_FREE:
            _complete_free(twin, int(node_of[subject]), subject)
            note_peaks(twin)
        elif code == EMPTY_CACHE:
            release_cached(twin)
        _note(twin, series, at)
    now.at = operations.code.shape[0]
    return 0


@inlined
def _differs(course: Records, at: int) -> None:
    now = course[0]
    now.differing += 1
    if now.first_difference == NONE:
        now.first_difference = at


@kernel
def _take_waiting(waiting: I64, course: Records, length: int) -> int:
    """Take the first waiting recorded segment of this length; its address, or NONE."""
    now = course[0]
    for k in range(int(now.waiting)):
        if waiting[k, 1] == length:
            address = int(waiting[k, 0])
            now.waiting -= 1
            for later in range(k, int(now.waiting)):
                waiting[later, 0] = waiting[later + 1, 0]
                waiting[later, 1] = waiting[later + 1, 1]
            return address
    return NONE


@kernel
def _of_first(twin: Twin, shelf: int, size: int, address: int, found: int) -> int:
    """Return the first allocation's block: the one found, or the recorded one. O(free blocks).

    A trace may begin in the middle of a request: behind the search for a block, the release of
    cached memory, or the segment that the request is for. Then only the recording knows.
    """
    if found != NONE and twin.nodes[found].offset == address:
        return found
    node = first_from(twin, shelf, size, 0)
    while node != NONE and twin.nodes[node].offset != address:
        node = follower(twin, node)
    if node == NONE:
        return found
    unshelve(twin, node)
    if found != NONE:
        shelve(twin, found)
    return node


@kernel
def _allocate_as_recorded(
    twin: Twin,
    operations: Operations,
    at: int,
    course: Records,
    waiting: I64,
) -> int:
    """Allocate; a new segment lies where the recording has it. Differences are noted."""
    now, asked = course[0], int(operations.nbytes[at])
    size = round_size(twin, asked)
    shelf = int(operations.shelf[at])
    if size > SMALL_SIZE:
        shelf += 1
    node = NONE
    if now.mapped != NONE:
        # The recording grew a segment for this request and took the block that grew.
        node = int(now.mapped)
        if twin.nodes[node].length < size or twin.nodes[node].shelf != shelf:
            _differs(course, at)
            node = NONE
        else:
            unshelve(twin, node)
    if node == NONE:
        if now.waiting == 0 or now.released == 0:
            node = find_free(twin, shelf, size)
            if now.begun == 0:
                node = _of_first(twin, shelf, size, int(operations.address[at]), node)
        if now.waiting != 0:
            address = _take_waiting(waiting, course, segment_size(twin, size))
            if address != NONE:
                if node != NONE:
                    # It asked the driver although a block would have served.
                    _differs(course, at)
                    shelve(twin, node)
                node = add_segment(twin, shelf, segment_size(twin, size), address)
        if node == NONE and twin.rules[0].expandable != 0:
            # A block that the search must not take may still be where a segment would grow.
            before = int(twin.totals[0].reserved)
            node = expand(twin, shelf, size, int(twin.totals[0].next_address))
            if int(twin.totals[0].reserved) != before:
                _differs(course, at)
        if node == NONE:
            _differs(course, at)
            beyond = int(twin.totals[0].next_address)
            node = add_segment(twin, shelf, segment_size(twin, size), beyond)
    now.mapped = NONE
    now.released = 0
    now.begun = 1
    node = place(twin, node, size, asked, int(operations.subject[at]))
    if twin.nodes[node].offset == operations.address[at]:
        now.addresses += 1
    else:
        _differs(course, at)
    return node


@kernel
def _give_segment(twin: Twin, operations: Operations, at: int, course: Records) -> None:
    """Release the segment that the recording released."""
    length, address = int(operations.nbytes[at]), int(operations.address[at])
    for shelf in range(int(operations.shelf[at]), int(operations.shelf[at]) + 2):
        node = first_from(twin, shelf, length, address)
        if node == NONE:
            continue
        one = twin.nodes[node]
        same = one.length == length and one.offset == address
        if same and one.before == NONE and one.after == NONE and one.space == NONE:
            release_segment(twin, node)
            return
    _differs(course, at)


@kernel
def _unmap(twin: Twin, operations: Operations, at: int, course: Records) -> None:
    """Unmap the pages that the recording unmapped. O(nodes)."""
    length, address = int(operations.nbytes[at]), int(operations.address[at])
    for node in range(twin.nodes.shape[0]):
        one = twin.nodes[node]
        if one.state != FREE or one.space == NONE or one.offset > address:
            continue
        if address + length <= one.offset + one.length:
            before = int(twin.totals[0].reserved)
            unmap_free(twin, node)
            if before - int(twin.totals[0].reserved) != length:
                _differs(course, at)
            return
    _differs(course, at)


@entry
def run_recorded(
    twin: Twin,
    operations: Operations,
    node_of: I32,
    course: Records,
    waiting: I64,
    series: I64,
) -> int:
    """Run from `course.at` on as recorded. GROW: more nodes, please; else 0.

    What the driver did is taken from the recording; where each request goes is the twin's choice,
    and compared.
    """
    now = course[0]
    for at in range(int(now.at), operations.code.shape[0]):
        if _is_short(twin):
            now.at = at
            return GROW
        code, subject = int(operations.code[at]), int(operations.subject[at])
        if code == ALLOCATE:
            node_of[subject] = _allocate_as_recorded(twin, operations, at, course, waiting)
            note_peaks(twin)
        elif code == REQUEST_FREE:
            _request_free(twin, int(node_of[subject]), subject)
        elif code == COMPLETE_FREE:
            _complete_free(twin, int(node_of[subject]), subject)
            now.mapped = NONE
            note_peaks(twin)
        elif code == GET_SEGMENT:
            if now.waiting == waiting.shape[0]:
                _differs(course, at)
            else:
                waiting[now.waiting, 0] = operations.address[at]
                waiting[now.waiting, 1] = operations.nbytes[at]
                now.waiting += 1
        elif code == GIVE_SEGMENT:
            _give_segment(twin, operations, at, course)
            now.released = 1
            now.mapped = NONE
        elif code == MAP:
            node = map_at(
                twin,
                int(operations.shelf[at]),
                int(operations.address[at]),
                int(operations.nbytes[at]),
            )
            if node == NONE:
                _differs(course, at)
            now.mapped = node
            note_peaks(twin)
        elif code == UNMAP:
            _unmap(twin, operations, at, course)
            now.released = 1
            now.mapped = NONE
        _note(twin, series, at)
    now.at = operations.code.shape[0]
    return 0
