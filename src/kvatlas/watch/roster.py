"""The requests that matter most at a moment: those that hold most blocks, then those that wait.

Owns: which requests are listed, and in which order. Leaves to others: looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from kvatlas.events import FragmentationSnapshot
from kvatlas.measure.map_cells import Holder, holders
from kvatlas.watch._tally_state_kernel import PREEMPTED
from kvatlas.watch.moment import RequestRow
from kvatlas.watch.tally import LiveTally

__all__ = ["MOST_LISTED", "top_requests"]

MOST_LISTED = 20


def top_requests(
    snapshot: FragmentationSnapshot, tally: LiveTally, names: Mapping[int, str], now_ms: float
) -> list[RequestRow]:
    """Return at most twenty requests; O(cells in use + requests)."""
    held = holders(snapshot, MOST_LISTED)
    rows = [_row(holder, "running", tally, names, now_ms) for holder in held]
    for row in tally.longest_waiting(MOST_LISTED - len(rows)):
        waits_again = int(tally.requests["state"][row]) == PREEMPTED
        state: Literal["preempted", "waiting"] = "preempted" if waits_again else "waiting"
        rows.append(_row(Holder(row, 0, 0), state, tally, names, now_ms))
    return rows


def _row(
    holder: Holder,
    state: Literal["running", "waiting", "preempted"],
    tally: LiveTally,
    names: Mapping[int, str],
    now_ms: float,
) -> RequestRow:
    request = tally.requests[holder.request]
    return RequestRow(
        row=holder.request,
        name=names.get(holder.request, ""),
        state=state,
        blocks=holder.blocks,
        runs=holder.runs,
        tokens=int(request.tokens),
        computed_tokens=int(request.computed),
        hit_tokens=int(request.hits),
        preemptions=int(request.preemptions),
        since_s=max(0.0, now_ms - float(request.since_ms)) / 1e3,
    )
