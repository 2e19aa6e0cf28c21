"""From a trace to operations: which free belongs to which allocation, on which pool and stream.

Owns: the links, and the numbering of pools and streams. Leaves to others: what was there when the
trace began (`start`), why memory went back (`releases`), running it (`_replay_kernel`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.device._twin_state_kernel import (
    ALLOCATE,
    COMPLETE_FREE,
    GET_SEGMENT,
    GIVE_SEGMENT,
    MAP,
    NOTHING,
    OUT_OF_MEMORY,
    REQUEST_FREE,
    UNMAP,
    Operations,
)
from kvatlas.device.columns import ACTIONS
from kvatlas.device.releases import own_course
from kvatlas.device.snapshot import (
    ALLOC,
    FREE_COMPLETED,
    DeviceSnapshot,
    DeviceTrace,
)
from kvatlas.errors import InputError

__all__ = ["Links", "Places", "link", "places_of", "taken"]

I64 = NDArray[np.int64]

_CODES = dict(
    zip(
        ACTIONS,
        (
            ALLOCATE,
            REQUEST_FREE,
            COMPLETE_FREE,
            GET_SEGMENT,
            GIVE_SEGMENT,
            MAP,
            UNMAP,
            OUT_OF_MEMORY,
            NOTHING,
            NOTHING,
        ),
        strict=True,
    )
)
_CODE_OF = np.array([_CODES[name] for name in ACTIONS], np.uint8)
_LARGEST_REQUEST = 1 << 50
"""A request that was refused can be any number; it is as refused at a pebibyte."""


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """The pairs of memory pool and stream on one device, and who is where.

    Attributes:
        pools, streams: (pairs,) index of the snapshot's pool, handle of the stream.
        of_segment: (segments,) a pair; of_event: (events,) a pair.
    """

    pools: I64
    streams: I64
    of_segment: I64
    of_event: I64


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """A trace as operations, and what it says of the time before it.

    Attributes:
        recorded: (events,); allocations are numbered from `num_old` on in their order.
        own: the same for a run under the twin's own rules; own_event: (events,) which event each is
            (`releases`).
        old_address, old_asked, old_pending, old_end: (num_old,) blocks that the trace frees but
            does not allocate: their address, what was asked for, whether only another stream still
            used them, and the event after which their bytes are free (the trace's length: never).
        old_pair: (num_old,) their pool and stream.
    """

    recorded: Operations
    own: Operations
    own_event: I64
    old_address: I64
    old_asked: I64
    old_pending: NDArray[np.bool_]
    old_end: I64
    old_pair: I64

    @property
    def num_old(self) -> int:
        """How many blocks the trace frees but does not allocate."""
        return self.old_address.size


def places_of(snapshot: DeviceSnapshot, device: int, trace: DeviceTrace) -> Places:
    """Return the pools and streams of one device; O(n log n).

    Recordings of older PyTorch do not name an event's pool: then it is the one of the segment that
    lies at its address at the end, or the common one.
    """
    segments = snapshot.segments
    mine = segments.device == device
    pool, stream, start = segments.pool[mine], segments.stream[mine], segments.address[mine]
    event_pool = trace.pool.astype(np.int64)
    if pool.any() and not event_pool.any():
        at = np.searchsorted(start, trace.address, "right") - 1
        inside = (at >= 0) & (trace.address < (start + segments.nbytes[mine])[at])
        event_pool = np.where(inside, pool[at], 0)
    # Streams are addresses: their order is that of unsigned numbers.
    keys = np.stack(
        [
            np.concatenate([pool, event_pool]).astype(np.uint64),
            np.concatenate([stream, trace.stream]).view(np.uint64),
        ],
        axis=1,
    )
    if keys.size == 0:
        keys = np.zeros((1, 2), np.uint64)
        pairs, where = keys, np.zeros(0, np.int64)
    else:
        pairs, where = np.unique(keys, axis=0, return_inverse=True)
    where = where.reshape(-1).astype(np.int64)
    return Places(
        pairs[:, 0].astype(np.int64),
        np.ascontiguousarray(pairs[:, 1]).view(np.int64),
        where[: pool.size],
        where[pool.size :],
    )


def link(snapshot: DeviceSnapshot, trace: DeviceTrace, places: Places) -> Links:
    """Return a trace as operations; O(n log n).

    Raises: InputError when the trace frees twice, or allocates what is not free.
    """
    action = trace.action
    of_block = np.flatnonzero(action <= FREE_COMPLETED)
    # By address, and among those in order of time.
    order = of_block[np.argsort(trace.address[of_block], kind="stable")]
    kind, address = action[order].astype(np.int64), trace.address[order]
    first = np.ones(order.size, np.bool_)
    first[1:] = address[1:] != address[:-1]
    # alloc, free_requested, free_completed, alloc, ...: each follows the one before it.
    wrong = ~first & (kind != (np.roll(kind, 1) + 1) % 3)
    if wrong.any():
        at = int(order[int(np.flatnonzero(wrong)[0])])
        raise InputError(
            f"event {at} of the trace ({ACTIONS[int(action[at])]}) contradicts the one before it "
            "at its address",
            field="device_traces",
            value=hex(int(trace.address[at])),
            remedy="the file is damaged, or the trace was recorded in parts",
        )
    old = first & (kind != ALLOC)
    num_old = int(np.count_nonzero(old))
    numbers = np.full(trace.action.size, -1, np.int64)
    allocs = np.flatnonzero(action == ALLOC)
    numbers[allocs] = num_old + np.arange(allocs.size)
    numbers[order[old]] = np.arange(num_old)
    # What is freed is what was allocated last at that address.
    begins = (kind == ALLOC) | old
    owner = np.maximum.accumulate(np.where(begins, np.arange(order.size), 0))
    numbers[order] = numbers[order[owner]]
    events = order[old]
    codes = _CODE_OF[action]
    nbytes = np.minimum(trace.nbytes, _LARGEST_REQUEST)
    operations = Operations(
        codes,
        numbers.astype(np.int32),
        nbytes,
        (2 * places.of_event).astype(np.int32),
        trace.address,
    )
    own_codes, own_order = own_course(trace, codes)
    return Links(
        operations,
        taken(operations._replace(code=own_codes), own_order),
        own_order,
        trace.address[events],
        trace.nbytes[events],
        action[events] == FREE_COMPLETED,
        _completed_at(numbers, action, events, num_old),
        places.of_event[events],
    )


def taken(operations: Operations, which: I64 | slice) -> Operations:
    """Return some of the operations, or all in another order."""
    return Operations(
        operations.code[which],
        operations.subject[which],
        operations.nbytes[which],
        operations.shelf[which],
        operations.address[which],
    )


def _completed_at(numbers: I64, action: NDArray[np.uint8], events: I64, num_old: int) -> I64:
    """Return for each old block the event after which its bytes can be used again."""
    done = np.array(events)
    completed = np.flatnonzero((action == FREE_COMPLETED) & (numbers >= 0) & (numbers < num_old))
    done[numbers[completed]] = completed
    never = action[done] != FREE_COMPLETED
    done[never] = action.size
    return done
