"""When requests come.

Owns: the two ways. Leaves to others: receiving them (`drive`).
"""

from __future__ import annotations

from typing import NamedTuple

from kvatlas.engine.kernels.state import F64


class Arrivals(NamedTuple):
    """When requests come: all wait in a backlog, or each at its time."""

    arrival_ms: F64  # (R,)
    timed: int
    queue_depth: int  # backlog: the waiting queue is topped up to this many
    patient: int  # 1: a request that preempts itself in vain does not block what is still to come
