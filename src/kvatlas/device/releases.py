"""Why memory went back to the driver: because the program asked, or because memory was short.

Owns: telling the two apart in a trace, for runs under the twin's own rules. Leaves to others: what
the twin does about either (`_replay_kernel`).

Segments go back when memory runs out, by garbage collection, or because the program called
`torch.cuda.empty_cache()`. The first two are the allocator's own doing and end in a new segment or
a failure, on the stack of the request that they serve: another run decides by itself whether it
comes to that. A series of releases that does not end so, or has another stack, was asked for, and
is asked for in every run. (Recorded without stacks, a call of `empty_cache` just before a new
segment looks like the allocator's own doing.)

When memory runs out, the allocator first waits for all streams, which completes every free that is
under way. In a trace these completions come before the request they belong to, so that a run with
more memory would find room that was not there yet. In such a run they come behind it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.device._twin_state_kernel import EMPTY_CACHE
from kvatlas.device.snapshot import (
    ALLOC,
    FREE_COMPLETED,
    FREE_REQUESTED,
    OOM,
    SEGMENT_ALLOC,
    SEGMENT_FREE,
    SEGMENT_MAP,
    SEGMENT_UNMAP,
    DeviceTrace,
)

__all__ = ["own_course"]

I64 = NDArray[np.int64]


def own_course(trace: DeviceTrace, codes: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], I64]:
    """Return the codes for a run under the twin's own rules, and the order of the events.

    One EMPTY_CACHE ends every series of releases that was asked for: GIVE_SEGMENT and UNMAP mean
    nothing to such a run, so it takes the place of the last. O(events).
    """
    action = trace.action
    order = np.arange(action.size)
    gives = (action == SEGMENT_FREE) | (action == SEGMENT_UNMAP)
    failures = trace.failures()
    if not gives.any() and not failures.size:
        return codes, order
    codes = codes.copy()
    places = np.flatnonzero(gives)
    at = 0
    while at < places.size:
        # A series: releases, and frees that complete between them.
        first = end = int(places[at])
        while end < action.size and (gives[end] or action[end] == FREE_COMPLETED):
            end += 1
        last = int(places[np.searchsorted(places, end) - 1])
        at = int(np.searchsorted(places, end))
        takes = end < action.size and action[end] in (SEGMENT_ALLOC, SEGMENT_MAP, OOM)
        if not takes or trace.stack[end] != trace.stack[last]:
            codes[last] = EMPTY_CACHE
            continue
        request = end
        while request < action.size and action[request] in (SEGMENT_ALLOC, SEGMENT_MAP):
            request += 1
        if request < action.size and action[request] in (ALLOC, OOM):
            _put_behind(trace, order, first, request)
    for at in failures.tolist():
        if order[at] == at:  # there was nothing to release
            _put_behind(trace, order, at, at)
    return codes, order


def _put_behind(trace: DeviceTrace, order: I64, first: int, request: int) -> None:
    """Put the completions before and in a series of releases behind the request it was for."""
    begin = first
    while begin > 0 and trace.action[begin - 1] == FREE_COMPLETED:
        at = begin - 1
        before = at - 1
        if (
            before >= 0
            and trace.action[before] == FREE_REQUESTED
            and trace.address[before] == trace.address[at]
        ):
            break  # it completed at once, and belongs to the program
        begin = at
    part = order[begin : request + 1]
    completes = trace.action[begin : request + 1] == FREE_COMPLETED
    part[:] = np.concatenate([part[~completes], part[completes]])
