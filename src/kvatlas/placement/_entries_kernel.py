"""The kernels that the allocators call.

Owns: nothing but the doors. Leaves to others: the set and its searches (`_spans_kernel`).
"""

from __future__ import annotations

from kvatlas.jit import entry
from kvatlas.placement._spans_kernel import find_run, give_span, take_ids, take_span
from kvatlas.placement._state_kernel import I32, Placement


@entry
def allocate_ids(placement: Placement, count: int, out: I32) -> None:
    """Take `count` ids into `out`; the caller has checked that as many are free."""
    take_ids(placement, count, out, 0)


@entry
def allocate_run(placement: Placement, count: int) -> int:
    """Take `count` ids side by side; return the first, or NONE and nothing is taken."""
    first = int(find_run(placement, count))
    if first >= 0:
        take_span(placement, first, count)
    return first


@entry
def free_ids(placement: Placement, ids: I32) -> None:
    """Let distinct ids that are not free be free again, a run of neighbours at a time."""
    first = length = 0
    for i in range(ids.shape[0]):
        block = int(ids[i])
        if length > 0 and (block == first - 1 or block == first + length):
            first = min(first, block)
            length += 1
            continue
        if length > 0:
            give_span(placement, first, length)
        first, length = block, 1
    if length > 0:
        give_span(placement, first, length)
