"""What the allocator held when the trace began: the trace undone from the segments at its end.

Owns: segments, blocks and free pieces at the first event. Leaves to others: the links
(`operations`), the arrays of the twin (`build`).

Nothing has to be undone event by event. A segment was there at the beginning if the first event
about its address gives it back, or if no event is about it and it is there at the end; so was a
block. What lies between the blocks was free, with one exception: a block may be longer than its
request rounded up, since up to 1 MiB behind it was not worth splitting off. Blocks that live to the
end show their length. For the others, the *tail* is seen where it ends:

    [ block | tail )[ the next block, or the end of the segment
    [ block | tail )[ the first block that was allocated behind it while it lived

A free piece of a large segment is always longer than 1 MiB, and a free block is taken from its
beginning, so both are exact. A tail before a free piece in which nothing was allocated stays
unseen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.device._twin_state_kernel import MIB, SMALL_SEGMENT
from kvatlas.device.operations import Links, Places
from kvatlas.device.rounding import round_sizes
from kvatlas.device.settings import AllocatorSettings
from kvatlas.device.snapshot import (
    ALLOC,
    SEGMENT_ALLOC,
    SEGMENT_FREE,
    SEGMENT_MAP,
    SEGMENT_UNMAP,
    DeviceSnapshot,
    DeviceTrace,
)
from kvatlas.errors import InputError

__all__ = ["StartState", "empty_state", "state_at_start"]

I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]
_INACTIVE, _WAITING = 0, 2
_NEAR = 1 << 40
"""No expandable segment has so many addresses."""


@dataclass(frozen=True, slots=True, eq=False)
class StartState:
    """Segments and blocks in order of address; what no block covers is free.

    Attributes:
        address, nbytes, pair, small, expandable: (segments,); of an expandable one, a run of mapped
            pages.
        floor: (segments,) where its address space begins, as far as the trace shows.
        block_address, block_nbytes, block_asked, block_pending, block_subject: (blocks,); the
            number of the allocation that holds each.
        unseen_tails: blocks whose tail could not be seen.
    """

    address: I64
    nbytes: I64
    pair: I64
    small: Flags
    expandable: Flags
    floor: I64
    block_address: I64
    block_nbytes: I64
    block_asked: I64
    block_pending: Flags
    block_subject: I64
    unseen_tails: int


def empty_state() -> StartState:
    """Return the state of an allocator that nobody has called yet."""
    none, flags = np.zeros(0, np.int64), np.zeros(0, np.bool_)
    return StartState(
        none, none, none, flags, flags, none, none, none, none, flags, none, unseen_tails=0
    )


def state_at_start(
    snapshot: DeviceSnapshot,
    device: int,
    trace: DeviceTrace,
    places: Places,
    links: Links,
) -> StartState:
    """Return what was there before the first event; O(n log n).

    Raises: InputError when the trace and the segments at its end contradict each other.
    """
    segments = _segments(snapshot, device, trace, places)
    address, nbytes, pair, small, expandable = segments
    order = np.argsort(address, kind="stable")
    address, nbytes, pair = address[order], nbytes[order], pair[order]
    small, expandable = small[order], expandable[order]
    if (address[:-1] + nbytes[:-1] > address[1:]).any():
        _contradiction("two segments overlap when the trace begins")
    blocks = _blocks(snapshot, device, trace, links)
    start, length, asked, pending, subject, until = blocks
    order = np.argsort(start, kind="stable")
    start, length, asked = start[order], length[order], asked[order]
    pending, subject, until = pending[order], subject[order], until[order]
    home = np.searchsorted(address, start, "right") - 1
    if (home < 0).any() or (start >= (address + nbytes)[home]).any():
        _contradiction("a block lies in no segment when the trace begins")
    unknown = length < 0
    length = np.where(unknown, round_sizes(asked, snapshot.settings), length)
    # A run of pages with a small block in it is a small one.
    small[home[expandable[home] & (length <= MIB)]] = True
    barrier = (address + nbytes)[home]
    same = home[1:] == home[:-1]
    barrier[:-1][same] = start[1:][same]
    gap = barrier - start - length
    if (gap < 0).any():
        _contradiction("two blocks overlap when the trace begins")
    loose = unknown & (gap > 0) & ~small[home] & ~expandable[home]
    loose &= not snapshot.settings.expandable_segments
    tail, unseen = _tails(trace, snapshot.settings, start + length, gap, until, loose, length)
    return StartState(
        address,
        nbytes,
        pair,
        small,
        expandable,
        _floors(trace, places, snapshot.settings, address, pair, small, expandable),
        start,
        length + tail,
        asked,
        pending,
        subject,
        unseen,
    )


def _contradiction(what: str) -> None:
    raise InputError(
        f"the trace and the segments contradict each other: {what}",
        field="device_traces",
        remedy="the file is damaged, or its trace was recorded in parts",
    )


def _segments(
    snapshot: DeviceSnapshot, device: int, trace: DeviceTrace, places: Places
) -> tuple[I64, I64, I64, Flags, Flags]:
    """Return address, bytes, pair, small and expandable of the segments at the beginning."""
    last = snapshot.segments
    mine = last.device == device
    touched = np.flatnonzero((trace.action == SEGMENT_ALLOC) | (trace.action == SEGMENT_FREE))
    seen, first = np.unique(trace.address[touched], return_index=True)
    first = touched[first]
    untouched = ~np.isin(last.address[mine], seen) & ~last.expandable[mine]
    given = first[trace.action[first] == SEGMENT_FREE]
    address = [last.address[mine][untouched], trace.address[given]]
    nbytes = [last.nbytes[mine][untouched], trace.nbytes[given]]
    pair = [places.of_segment[untouched], places.of_event[given]]
    small = [~last.large[mine][untouched], trace.nbytes[given] == SMALL_SEGMENT]
    ranges = _mapped_ranges(snapshot, device, trace, places)
    columns = np.array(ranges, np.int64).reshape(-1, 4)
    address.append(columns[:, 0])
    nbytes.append(columns[:, 1])
    pair.append(columns[:, 2])
    small.append(columns[:, 3] != 0)
    known = np.concatenate(address[:2]).size
    return (
        np.concatenate(address),
        np.concatenate(nbytes),
        np.concatenate(pair),
        np.concatenate(small),
        np.arange(known + len(ranges)) >= known,
    )


def _mapped_ranges(
    snapshot: DeviceSnapshot, device: int, trace: DeviceTrace, places: Places
) -> list[tuple[int, int, int, int]]:
    """Return the runs of mapped pages at the beginning: address, bytes, pair, small.

    The pages at the end, minus those that the trace maps, plus those that it unmaps, backwards.
    O(runs) per such event.
    """
    last = snapshot.segments
    mine = np.flatnonzero((last.device == device) & last.expandable)
    pairs = places.of_segment[last.expandable[last.device == device]]
    runs = {
        int(last.address[at]): (int(last.nbytes[at]), int(pair), int(not last.large[at]))
        for at, pair in zip(mine, pairs, strict=True)
    }
    large_page = snapshot.settings.large_segment_bytes
    touched = np.flatnonzero((trace.action == SEGMENT_MAP) | (trace.action == SEGMENT_UNMAP))
    for at in touched[::-1].tolist():
        start, nbytes = int(trace.address[at]), int(trace.nbytes[at])
        if trace.action[at] == SEGMENT_MAP:
            home = max((run for run in runs if run <= start), default=None)
            if home is None or start + nbytes > home + runs[home][0]:
                _contradiction("pages are mapped that are not there later")
                continue
            whole, pair, small = runs.pop(home)
            if start > home:
                runs[home] = (start - home, pair, small)
            if start + nbytes < home + whole:
                runs[start + nbytes] = (home + whole - start - nbytes, pair, small)
        else:
            # Several pages may go at once: pages of the large pool, if the bytes divide so.
            pair, small = int(places.of_event[at]), int(nbytes % large_page != 0)
            before = next((run for run in runs if run + runs[run][0] == start), None)
            if before is not None:
                nbytes, start = nbytes + runs[before][0], before
                pair, small = runs.pop(before)[1:]
            if start + nbytes in runs:
                more, pair, small = runs.pop(start + nbytes)
                nbytes += more
            runs[start] = (nbytes, pair, small)
    return [(start, *rest) for start, rest in runs.items()]


def _floors(
    trace: DeviceTrace,
    places: Places,
    settings: AllocatorSettings,
    address: I64,
    pair: I64,
    small: Flags,
    expandable: Flags,
) -> I64:
    """Return where address spaces begin: pages before the first run may be mapped later."""
    floor = address.copy()
    maps = np.flatnonzero(trace.action == SEGMENT_MAP)
    large = trace.nbytes[maps] % settings.large_segment_bytes == 0
    shelves = 2 * places.of_event[maps] + large
    for at in np.flatnonzero(expandable).tolist():
        below = trace.address[maps][shelves == 2 * pair[at] + (not small[at])]
        below = below[(below < address[at]) & (below > address[at] - _NEAR)]
        floor[at] = below.min(initial=address[at])
    return floor


def _blocks(
    snapshot: DeviceSnapshot, device: int, trace: DeviceTrace, links: Links
) -> tuple[I64, I64, I64, Flags, I64, I64]:
    """Return address, bytes (-1 unknown), asked, pending, subject and end of the blocks there.

    The end: the event after which the bytes are free. Blocks that the trace never mentions have
    numbers behind all others.
    """
    first_block = snapshot.segments.first_block
    of_device = np.repeat(snapshot.segments.device == device, np.diff(first_block))
    held = np.flatnonzero(of_device & (snapshot.blocks.state != _INACTIVE))
    mentioned = np.unique(trace.address[trace.action <= 2])
    start = snapshot.blocks.address[held]
    silent = held[~np.isin(start, mentioned)]
    blocks = snapshot.blocks
    asked = blocks.requested_bytes[silent]
    asked = np.where(asked < 0, blocks.nbytes[silent], asked)
    old_length = np.full(links.num_old, -1, np.int64)
    # One whose free was requested, not completed, is still there at the end.
    waiting = np.flatnonzero(links.old_end == len(trace))
    if waiting.size and held.size:
        at = np.minimum(np.searchsorted(start, links.old_address[waiting]), held.size - 1)
        there = start[at] == links.old_address[waiting]
        old_length[waiting[there]] = blocks.nbytes[held[at[there]]]
    num_allocs = int(np.count_nonzero(trace.action == ALLOC))
    return (
        np.concatenate([links.old_address, blocks.address[silent]]),
        np.concatenate([old_length, blocks.nbytes[silent]]),
        np.concatenate([links.old_asked, asked]),
        np.concatenate([links.old_pending, blocks.state[silent] == _WAITING]),
        np.concatenate(
            [np.arange(links.num_old), links.num_old + num_allocs + np.arange(silent.size)]
        ),
        np.concatenate([links.old_end, np.full(silent.size, len(trace))]),
    )


def _tails(
    trace: DeviceTrace,
    settings: AllocatorSettings,
    end: I64,
    gap: I64,
    until: I64,
    loose: Flags,
    length: I64,
) -> tuple[I64, int]:
    """Return the bytes behind each block that belong to it, and how many blocks hide theirs.

    `loose`: blocks that may have a tail; `gap`: bytes to the next block or the segment's end;
    `until`: the event up to which the block lives.
    """
    tail = np.zeros(end.size, np.int64)
    longest = np.full(end.size, MIB, np.int64)
    if settings.max_split_bytes is not None:
        whole = length >= settings.max_split_bytes
        longest[whole] = settings.max_non_split_rounding_bytes - 1
    short = loose & (gap <= longest)
    tail[short] = gap[short]
    loose = loose & ~short
    allocs = np.flatnonzero(trace.action == ALLOC)
    if not loose.any():
        return tail, 0
    where = trace.address[allocs]
    owner = np.searchsorted(end, where, "right") - 1
    inside = owner >= 0
    allocs, where, owner = allocs[inside], where[inside], owner[inside]
    inside = loose[owner] & (where < (end + gap)[owner]) & (allocs < until[owner])
    first = np.where(loose, end + gap, end)
    np.minimum.at(first, owner[inside], where[inside])
    seen = loose & (first < end + gap) & (first - end <= longest)
    tail[seen] = (first - end)[seen]
    return tail, int(np.count_nonzero(loose & ~seen))
