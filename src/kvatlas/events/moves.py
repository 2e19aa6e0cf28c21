"""Moved blocks as rows of the event log.

Owns: which rows tell that blocks went from one id to another. Leaves to others: which ones do and
in which order (`kvatlas.defrag`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import schema
from kvatlas.events._log_kernel import Log

__all__ = ["move_rows", "put_moves"]

I64 = NDArray[np.int64]


def move_rows(sources: I64, targets: I64) -> I64:
    """Return where rows begin when moves are told in this order; O(moves).

    A row's targets follow each other; what passes through the null block has rows of its own.
    """
    if not targets.size:
        return np.zeros(0, np.int64)
    begins = np.ones(targets.size, bool)
    begins[1:] = targets[1:] != targets[:-1] + 1
    beside = (sources == 0) | (targets == 0)
    begins |= beside
    begins[1:] |= beside[:-1]
    return np.flatnonzero(begins)


def put_moves(log: Log, sources: I64, targets: I64) -> bool:
    """Log that `sources` went to `targets` one after another; False when there is no room.

    Args:
        log: on; its step and time are those of the rows.
        sources, targets: (M,) in an order in which every target is empty when its turn comes;
            block 0, where it is the null block, is a place beside the pool.

    O(moves), vectorised. Nothing is written without room for all.
    """
    info, starts = log.info, move_rows(sources, targets)
    first, at = int(info.used), int(info.ids_used)
    if first + starts.size > log.rows.shape[0] or at + sources.size > log.ids.shape[0]:
        return False
    rows = np.asarray(log.rows[first : first + starts.size])
    for column in schema.COLUMNS:
        rows[column.name] = column.absent
    rows["event"] = schema.MOVED
    rows["step"], rows["time_ms"] = info.step, info.time_ms
    rows["count"] = np.diff(starts, append=sources.size)
    rows["to_block"] = targets[starts]
    rows["blocks_at"] = at + starts
    log.ids[at : at + sources.size] = sources
    info.used, info.ids_used = first + starts.size, at + sources.size
    return True
