"""A device's lives as the columns that the page's scripts unpack: every moment of a trace at once.

Owns: names and meaning of those columns, the tape of addresses, the tree of calls. Leaves to
others: the numbers' form (`packing`), the lives (`kvatlas.device.lives`), drawing
(`assets/device_*.js`).

Addresses lie far apart, pictures must not: every address that anything ever had in the range is put
on a *tape*, one region of addresses behind the other, so that a byte keeps its place at all
moments. Offsets and bytes are in units of 512, which every block is a multiple of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.device.lives import NEVER, DeviceLives
from kvatlas.device.results import Timeline
from kvatlas.device.snapshot import DeviceSnapshot, DeviceTrace, Frame, Stacks
from kvatlas.device.stack_words import call_name, is_telling, stack_name
from kvatlas.report.packing import folded, packed
from kvatlas.report.plain_text import plain

__all__ = ["UNIT", "CallTree", "call_tree", "device_data"]

I64 = NDArray[np.int64]
UNIT = 512
_GAP = 1  # unit between two regions: neighbours on the tape are neighbours in memory
_TIMES = 16384
_LONGEST_NAME = 300
_LONGEST_STEP_US = 1 << 50


@dataclass(frozen=True, slots=True)
class _Tape:
    """Regions in order of address: where each begins, in bytes, and in units on the tape."""

    address: I64
    place: I64
    units: int

    def of(self, address: I64) -> I64:
        """Return the places of addresses, in units."""
        at = np.searchsorted(self.address, address, "right") - 1
        return np.asarray(self.place[at] + (address - self.address[at]) // UNIT)


def device_data(
    snapshot: DeviceSnapshot,
    trace: DeviceTrace,
    lives: DeviceLives,
    timeline: Timeline,
    events: range,
) -> dict[str, Any]:
    """Return what the scripts read, for a range of events; O(lives log lives).

    A million events take some 3 to 6 MB.
    """
    first, last = events.start, events.stop - 1
    kept = np.flatnonzero((lives.block_born <= last) & (lives.block_gone > first))
    segments = np.flatnonzero((lives.segment_born <= last) & (lives.segment_gone > first))
    tape = _tape(lives, kept, segments)
    old = kept[lives.block_born[kept] < first]
    new = kept[lives.block_born[kept] >= first]
    old = old[np.argsort(lives.block_address[old], kind="stable")]
    order = np.concatenate([old, new])
    stacks, number = np.unique(lives.block_stack[order], return_inverse=True)
    telling = call_tree(snapshot.stacks, stacks, only_telling=True)
    full = call_tree(snapshot.stacks, stacks)
    names = [stack_name(snapshot.stacks.of(stack)) for stack in stacks.tolist()]
    distinct = {name: at for at, name in enumerate(dict.fromkeys(names))}
    streams = _block_columns(lives, tape, order, first)
    streams["block_stack"] = number.reshape(-1).astype(np.int64)
    streams["block_since"] = np.where(lives.block_born[old] < 0, 0, first - lives.block_born[old])
    streams |= _segment_columns(lives, tape, segments, first)
    streams |= _series_columns(timeline, events)
    streams["stack_name"] = np.array([distinct[name] for name in names], np.int64)
    shown = np.unique(np.concatenate([telling.frames, full.frames]))
    streams |= _tree_columns("telling", telling, shown) | _tree_columns("full", full, shown)
    streams |= _frame_columns(snapshot.stacks, shown)
    streams["action"] = trace.action[events.start : events.stop].astype(np.int64)
    step = max(1, -(-len(events) // _TIMES))
    times = trace.time_us[events.start : events.stop : step]
    # A clock that jumps by decades is damaged; its steps must fit into the numbers' form.
    steps = np.diff(times, prepend=times[:1])
    streams["time"] = folded(np.clip(steps, -_LONGEST_STEP_US, _LONGEST_STEP_US))
    failed = np.flatnonzero(trace.action[events.start : events.stop] == 7)
    pools = np.unique(lives.segment_pool[segments]).tolist()
    return {
        "events": len(events),
        "first": first,
        "of": len(trace),
        "blocks": int(order.size),
        "old": int(old.size),
        "segments": int(segments.size),
        "units": tape.units,
        "regionAddress": [f"{address:x}" for address in tape.address.tolist()],
        "regionPlace": tape.place.tolist(),
        "timeStep": step,
        "clock": bool(trace.time_us.any()),
        "sinceStart": int(trace.time_us[first] - trace.time_us[0]),
        "smallPage": (2 << 20) // UNIT,
        "largePage": snapshot.settings.large_segment_bytes // UNIT,
        "deviceStreams": [
            str(stream) for stream in np.unique(lives.segment_stream[segments]).tolist()
        ],
        "pools": {str(pool): list(snapshot.pools[pool]) for pool in pools},
        "failures": [
            [int(at), int(trace.nbytes[first + at]), int(trace.address[first + at])]
            for at in failed.tolist()
        ],
        "start": [
            int(column[first - 1]) // UNIT if first else None
            for column in (timeline.allocated_bytes, timeline.active_bytes)
        ],
        "stackNames": [plain(name, _LONGEST_NAME) for name in distinct],
        "callNames": _texts(snapshot.stacks, np.unique(snapshot.stacks.name[shown])),
        "callLabels": [plain(call_name(call), _LONGEST_NAME) for call in _calls(snapshot, shown)],
        "files": _texts(snapshot.stacks, np.unique(snapshot.stacks.filename[shown])),
        "streams": {name: packed(values) for name, values in streams.items()},
    }


@dataclass(frozen=True, slots=True)
class CallTree:
    """Calls of some stacks, the outermost first.

    Attributes:
        frames, parents: (nodes,) the frame and the parent of each node; -1: none. Parents come
            before their children.
        leaves: (stacks,) the node of the innermost call; -1: the stack is not known.
    """

    frames: I64
    parents: I64
    leaves: I64


def call_tree(stacks: Stacks, numbers: I64, *, only_telling: bool = False) -> CallTree:
    """Return the calls of some stacks as a tree; O(calls).

    `only_telling`: without the calls that say nothing (`stack_words.is_telling`).
    """
    kept: dict[int, bool] = {}

    def tells(frame: int) -> bool:
        if frame not in kept:
            name, file = (int(column[frame]) for column in (stacks.name, stacks.filename))
            kept[frame] = is_telling(Frame(stacks.texts[name], stacks.texts[file], 0))
        return kept[frame]

    node_of: dict[tuple[int, int], int] = {}
    leaves = []
    for number in numbers.tolist():
        calls = stacks.frames[stacks.ends[number] : stacks.ends[number + 1]][::-1].tolist()
        if only_telling:
            calls = [frame for frame in calls if tells(frame)] or calls
        node = -1
        for frame in calls:
            node = node_of.setdefault((node, frame), len(node_of))
        leaves.append(node)
    keys = np.array(list(node_of), np.int64).reshape(-1, 2)
    return CallTree(keys[:, 1], keys[:, 0], np.array(leaves, np.int64))


def _tape(lives: DeviceLives, blocks: I64, segments: I64) -> _Tape:
    """Put all that ever had an address behind each other. O(n log n)."""
    start = np.concatenate([lives.segment_address[segments], lives.block_address[blocks]])
    nbytes = np.concatenate([lives.segment_bytes[segments], lives.block_bytes[blocks]])
    order = np.argsort(start, kind="stable")
    start, end = start[order], (start + nbytes)[order]
    reach = np.maximum.accumulate(end)
    begins = np.ones(start.size, np.bool_)
    begins[1:] = start[1:] > reach[:-1]
    heads = np.flatnonzero(begins)
    address = start[heads]
    if not heads.size:
        return _Tape(address, address, 1)
    tails = np.append(heads[1:], start.size) - 1
    units = (reach[tails] - address) // UNIT + _GAP
    return _Tape(address, np.cumsum(units) - units, int(units.sum()))


def _block_columns(lives: DeviceLives, tape: _Tape, order: I64, first: int) -> dict[str, I64]:
    born = np.maximum(lives.block_born[order] - first, -1)
    freed, gone = lives.block_freed[order], lives.block_gone[order]
    freed_at = np.maximum(freed - first, -1)
    place = tape.of(lives.block_address[order])
    nbytes = lives.block_bytes[order]
    return {
        "block_born": np.diff(born, prepend=-1),
        # 0: never; else one more than the events between.
        "block_freed": np.where(freed == NEVER, 0, freed_at - born + 1),
        "block_gone": np.where(gone == NEVER, 0, gone - first - freed_at + 1),
        "block_place": folded(np.diff(place, prepend=0)),
        "block_units": nbytes // UNIT,
        "block_slack": folded(nbytes - lives.block_requested_bytes[order]),
    }


def _segment_columns(lives: DeviceLives, tape: _Tape, segments: I64, first: int) -> dict[str, I64]:
    order = segments[np.argsort(lives.segment_address[segments], kind="stable")]
    gone = lives.segment_gone[order]
    flags = lives.segment_small[order].astype(np.int64) + 2 * lives.segment_expandable[order]
    return {
        "segment_place": np.diff(tape.of(lives.segment_address[order]), prepend=0),
        "segment_units": lives.segment_bytes[order] // UNIT,
        "segment_born": np.maximum(lives.segment_born[order] - first, -1) + 1,
        "segment_gone": np.where(gone == NEVER, 0, gone - first + 1),
        "segment_pool": lives.segment_pool[order],
        "segment_stream": np.searchsorted(
            np.unique(lives.segment_stream[segments]), lives.segment_stream[order]
        ),
        "segment_flags": flags,
    }


def _series_columns(timeline: Timeline, events: range) -> dict[str, I64]:
    """Return those series that the blocks do not say; only where they change."""
    columns = {}
    for name in ("reserved", "releasable", "idle"):
        values = getattr(timeline, f"{name}_bytes")[events.start : events.stop] // UNIT
        steps = np.diff(values, prepend=0)
        at = np.flatnonzero(steps)
        columns[f"{name}_at"] = np.diff(at, prepend=0)
        columns[f"{name}_step"] = folded(steps[at])
    return columns


def _tree_columns(name: str, tree: CallTree, shown: I64) -> dict[str, I64]:
    return {
        f"{name}_frame": np.searchsorted(shown, tree.frames).astype(np.int64),
        f"{name}_parent": np.arange(tree.parents.size) - tree.parents,
        f"{name}_leaf": tree.leaves + 1,
    }


def _frame_columns(stacks: Stacks, shown: I64) -> dict[str, I64]:
    return {
        f"call_{name}": np.unique(column[shown], return_inverse=True)[1].reshape(-1)
        for name, column in (("name", stacks.name), ("file", stacks.filename))
    } | {"call_line": stacks.line[shown]}


def _calls(snapshot: DeviceSnapshot, shown: I64) -> Iterator[Frame]:
    stacks = snapshot.stacks
    for at in shown.tolist():
        name, file = stacks.texts[int(stacks.name[at])], stacks.texts[int(stacks.filename[at])]
        yield Frame(name, file, int(stacks.line[at]))


def _texts(stacks: Stacks, numbers: I64) -> list[str]:
    return [plain(stacks.texts[at], _LONGEST_NAME) for at in numbers.tolist()]
