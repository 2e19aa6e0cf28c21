"""From tables to a snapshot: rows in order, and nothing in it that contradicts itself.

Owns: what must be true of a snapshot. Leaves to others: the file (`reading`), types of single
values (`columns`), whether the trace leads to the segments (`start`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.device.columns import ACTIONS, Columns
from kvatlas.device.pickle_values import EVENT, NOTE, SEGMENT, OpenDict, OpenList, StackToken
from kvatlas.device.settings import AllocatorSettings
from kvatlas.device.snapshot import (
    AllocatorBlocks,
    AllocatorSegments,
    Annotations,
    DeviceSnapshot,
    DeviceTrace,
    Stacks,
)
from kvatlas.errors import InputError

__all__ = ["assemble"]

I64 = NDArray[np.int64]
_INACTIVE, _ALLOCATED = 0, 1
_HIGHEST = 2**62
"""No address is near it, so that addresses of ends do not overflow."""
_LARGEST_BYTES = 2**50
_GRANULE = 512
"""What every block's size is a multiple of."""
_SEGMENT_ALLOC, _SEGMENT_UNMAP, _OOM = (
    ACTIONS.index(name) for name in ("segment_alloc", "segment_unmap", "oom")
)


def assemble(root: Any, columns: Columns) -> DeviceSnapshot:
    """Return the snapshot of a pickle's value and its rows; O(n log n).

    Raises: InputError when it is none, or contradicts itself.
    """
    if type(root) is not OpenDict or "segments" not in root:
        raise InputError(
            "a pickle, but no memory snapshot",
            remedy="give what torch.cuda.memory._dump_snapshot wrote",
        )
    _whole_list(root["segments"], SEGMENT, len(columns.segments), "segments")
    notes = root.get("external_annotations")
    _whole_list(notes, NOTE, len(columns.notes), "external_annotations")
    recorded = root.get("allocator_settings")
    if recorded is not None and type(recorded) is not OpenDict:
        raise InputError("not a dict", field="allocator_settings")
    segments, blocks = _segments(columns)
    stacks = Stacks(
        tuple(columns.texts),
        **columns.frames.arrays(),
        frames=np.array(columns.stack_frames, np.int32),
        ends=np.array(columns.stack_ends, np.int64),
    )
    # The empty stack is number 0; the list of ends begins with its start.
    stacks = _with_empty(stacks)
    return DeviceSnapshot(
        settings=AllocatorSettings.of_snapshot(recorded or {}),
        has_settings=recorded is not None,
        segments=segments,
        blocks=blocks,
        traces=_traces(root.get("device_traces"), columns),
        stacks=stacks,
        pools=tuple(columns.pools),
        annotations=Annotations(**columns.notes.arrays()),
    )


def _with_empty(stacks: Stacks) -> Stacks:
    return Stacks(
        stacks.texts,
        stacks.name,
        stacks.filename,
        stacks.line,
        stacks.frames,
        np.concatenate([[0], stacks.ends]),
    )


def _whole_list(value: Any, rows_of: object, rows: int, field: str) -> None:
    """Demand a list that holds every row of its table."""
    found = 0
    if type(value) is OpenList and value.rows_of is rows_of and not value.values:
        found = value.num_rows
    elif value is not None and type(value) is not StackToken:
        raise InputError("not a list of the right dicts", field=field)
    if found != rows:
        raise InputError("lists and what is in them do not match", field=field, value=rows - found)


def _segments(columns: Columns) -> tuple[AllocatorSegments, AllocatorBlocks]:
    table, pieces = columns.segments.arrays(), columns.blocks.arrays()
    if int(table["num_blocks"].sum()) != len(columns.blocks):
        raise InputError("blocks that lie in no segment", field="blocks")
    order = np.lexsort((table["address"], table["device"]))
    table = {name: column[order] for name, column in table.items()}
    counts = table["num_blocks"]
    first = np.concatenate([[0], np.cumsum(counts)])
    rows = np.repeat(table["first_block"] - first[:-1], counts) + np.arange(first[-1])
    pieces = {name: column[rows] for name, column in pieces.items()}
    if order.size and (counts < 1).any():
        raise InputError("a segment without blocks", field="blocks")
    _check_sizes(table["total_size"], "total_size")
    _check_sizes(pieces["size"], "size")
    _check_addresses(table["address"], "address")
    starts = _check_tiling(table, pieces, first)
    _check_sums(table, pieces, first)
    ends = table["address"] + table["total_size"]
    same_device = table["device"][1:] == table["device"][:-1]
    overlap = same_device & (ends[:-1] > table["address"][1:])
    _refuse_where(overlap, table["address"][1:], "two segments overlap", "address")
    segments = AllocatorSegments(
        device=table["device"],
        address=table["address"],
        nbytes=table["total_size"],
        allocated_bytes=table["allocated_size"],
        active_bytes=table["active_size"],
        stream=table["stream"],
        large=table["large"].astype(np.bool_),
        pool=table["pool"],
        expandable=table["expandable"].astype(np.bool_),
        stack=table["stack"],
        first_block=first,
    )
    blocks = AllocatorBlocks(
        starts,
        pieces["size"],
        pieces["requested_size"],
        pieces["state"].astype(np.uint8),
        pieces["stack"],
    )
    return segments, blocks


def _check_sizes(sizes: I64, field: str) -> None:
    _refuse_where(sizes < 1, sizes, "a block or segment of no bytes", field)
    _refuse_where(sizes > _LARGEST_BYTES, sizes, "larger than any device", field)
    _refuse_where(sizes % _GRANULE != 0, sizes, "not a multiple of 512 bytes", field)


def _check_addresses(addresses: I64, field: str) -> None:
    _refuse_where(addresses > _HIGHEST, addresses, "beyond any address", field)
    _refuse_where(addresses % _GRANULE != 0, addresses, "not a multiple of 512", field)


def _check_tiling(table: dict[str, I64], pieces: dict[str, I64], first: I64) -> I64:
    """Return the blocks' addresses; each must begin where the one before it ends."""
    sizes = pieces["size"]
    before = np.concatenate([[0], np.cumsum(sizes)])
    owner = np.repeat(np.arange(len(first) - 1), np.diff(first))
    starts: I64 = table["address"][owner] + before[:-1] - before[first[owner]]
    known = pieces["address"] >= 0
    _refuse_where(
        known & (pieces["address"] != starts),
        pieces["address"],
        "a block overlaps another, lies outside its segment, or leaves a gap",
        "address",
    )
    total = before[first[1:]] - before[first[:-1]]
    _refuse_where(
        total != table["total_size"], table["total_size"], "not the sum of its blocks", "total_size"
    )
    return starts


def _check_sums(table: dict[str, I64], pieces: dict[str, I64], first: I64) -> None:
    if first.size == 1:
        return
    state, sizes, asked = pieces["state"], pieces["size"], pieces["requested_size"]
    active = state != _INACTIVE
    _refuse_where(
        active & (asked > sizes), asked, "more was requested than the block has", "requested_size"
    )
    for name, part in (("allocated_size", state == _ALLOCATED), ("active_size", active)):
        sums = np.add.reduceat(np.where(part, sizes, 0), first[:-1])
        _refuse_where(sums != table[name], table[name], "not the sum over its blocks", name)
    known = table["requested_size"] >= 0
    sums = np.add.reduceat(np.where(active, asked, 0), first[:-1])
    full = np.minimum.reduceat(np.where(active, asked, 0), first[:-1]) >= 0
    _refuse_where(
        known & full & (sums != table["requested_size"]),
        table["requested_size"],
        "not the sum over its blocks",
        "requested_size",
    )


def _traces(value: Any, columns: Columns) -> tuple[DeviceTrace, ...]:
    lists = value.values if type(value) is OpenList and value.rows_of is None else []
    if value is not None and type(value) is not OpenList and type(value) is not StackToken:
        raise InputError("not a list of lists", field="device_traces")
    table = columns.events.arrays()
    action, sizes = table["action"], table["size"]
    # A request that was refused may have been for any number of bytes.
    _refuse_where(
        (sizes > _LARGEST_BYTES) & (action < _OOM), sizes, "larger than any device", "size"
    )
    of_segment = (action >= _SEGMENT_ALLOC) & (action <= _SEGMENT_UNMAP)
    _check_sizes(sizes[of_segment], "size")
    _check_addresses(table["addr"][action < _OOM], "addr")
    traces = []
    total = 0
    for device, rows in enumerate(lists):
        if type(rows) is StackToken and rows.number == 0:
            continue
        if type(rows) is not OpenList or rows.rows_of is not EVENT or rows.values:
            raise InputError("not a list of events", field="device_traces")
        part = slice(rows.first_row, rows.first_row + rows.num_rows)
        total += rows.num_rows
        narrow = {name: table[name][part].astype(np.int32) for name in _NARROW}
        traces.append(
            DeviceTrace(
                device=device,
                action=table["action"][part].astype(np.uint8),
                address=table["addr"][part],
                nbytes=table["size"][part],
                stream=table["stream"][part],
                time_us=table["time_us"][part],
                **narrow,
            )
        )
    if total != len(columns.events):
        raise InputError("events that lie in no trace", field="device_traces")
    return tuple(traces)


_NARROW = ("stack", "pool", "context", "metadata")


def _refuse_where(bad: NDArray[np.bool_], values: I64, what: str, field: str) -> None:
    if bad.any():
        raise InputError(
            what,
            field=field,
            value=int(values[int(np.flatnonzero(bad)[0])]),
            remedy="the file is damaged: record it again",
        )
