"""Puts the rows of a workload in order of arrival, with every column that points at rows or ids.

Owns: the permutation. Leaves to others: whether a disorderly file is refused or sorted.
"""

from __future__ import annotations

import numpy as np

from kvatlas.workload.chain import chain_ids
from kvatlas.workload.model import Workload

__all__ = ["sorted_by_arrival"]


def sorted_by_arrival(w: Workload, *, noted: bool = True) -> Workload:
    """Return `w` with its rows in order of arrival (stable). O(N log N + M), copies every column.

    Identities are renumbered by first appearance; a parent that arrives after its child is
    unlinked. Notes say so, the first one only if `noted`.
    """
    order = np.argsort(w.arrival_s, kind="stable")
    if (order[1:] > order[:-1]).all():
        return w
    rows = np.arange(order.size)
    place = np.empty_like(order)
    place[order] = rows
    parent = w.parent[order]
    linked = parent >= 0
    parent[linked] = place[parent[linked]]
    late = parent > rows
    parent[late] = -1
    counts = np.diff(w.id_offsets)[order]
    offsets = np.concatenate(([0], np.cumsum(counts)))
    gather = np.repeat(w.id_offsets[:-1][order] - offsets[:-1], counts) + np.arange(offsets[-1])
    ids, num_ids = chain_ids(w.ids[gather], offsets, w.salt[order])
    notes = list(w.notes)
    if noted:
        moved = int((order != rows).sum())
        notes.append(f"{moved:,} requests were moved to order them by arrival")
    if late.any():
        notes.append(f"{int(late.sum()):,} requests arrive before the turn they continue; unlinked")
    return w.with_(
        arrival_s=w.arrival_s[order],
        prompt_tokens=w.prompt_tokens[order],
        output_tokens=w.output_tokens[order],
        session=w.session[order],
        parent=parent,
        priority=w.priority[order],
        salt=w.salt[order],
        ids=ids,
        id_offsets=offsets,
        num_ids=num_ids,
        notes=tuple(notes),
    )
