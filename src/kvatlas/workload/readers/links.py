"""Links between the turns of a conversation: from the ids of a file to rows and dense sessions."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Links", "SessionLabels", "link_turns", "sessions_of"]


@dataclass(frozen=True, slots=True)
class Links:
    """`session` and `parent` (N,) as in `Workload`; `orphans` name a parent that is not there."""

    session: NDArray[np.int32]
    parent: NDArray[np.int32]
    orphans: int


def link_turns(own: NDArray[np.int64], named: NDArray[np.int64]) -> Links:
    """Link rows that carry an id of their `own` (N,) and the `named` (N,) id of their parent.

    The parent is the last earlier row with that id; -1 names none. O(N log N).
    """
    size = own.size
    rows = np.arange(size, dtype=np.int64)
    order = np.argsort(own, kind="stable")
    values = own[order]
    # (start of the run of equal ids, row) ascends, so one search finds the last earlier row.
    keys = np.searchsorted(values, values, side="left") * size + order
    starts = np.searchsorted(values, named, side="left")
    found = np.searchsorted(keys, starts * size + rows, side="left") - 1
    parent = np.full(size, -1, dtype=np.int64)
    linked = (named != -1) & (found >= starts)
    linked[linked] = values[starts[linked]] == named[linked]
    parent[linked] = order[found[linked]]
    orphans = int(((named != -1) & (parent < 0)).sum())
    return Links(sessions_of(parent), parent.astype(np.int32), orphans)


class SessionLabels:
    """Session labels of a file's rows, interned as they come; an empty one is unknown."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {b"": -1}
        self._rows = array("q")

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, labels: Sequence[bytes]) -> None:
        """Append the labels of the next rows."""
        numbers = self._numbers
        self._rows.extend(numbers.setdefault(label.strip(), len(numbers)) for label in labels)

    def links(self) -> Links:
        """Link each row to the session's row before it. O(N log N)."""
        label = np.frombuffer(self._rows, dtype=np.int64)
        order = np.argsort(label, kind="stable")
        same = np.zeros(label.size, dtype=np.bool_)
        same[1:] = (label[order][1:] == label[order][:-1]) & (label[order][1:] >= 0)
        parent = np.full(label.size, -1, dtype=np.int64)
        parent[order[same]] = order[np.flatnonzero(same) - 1]
        session = np.full(label.size, -1, dtype=np.int32)
        session[label >= 0] = sessions_of(parent)[label >= 0]
        known, dense = np.unique(session[label >= 0], return_inverse=True)
        session[label >= 0] = dense if known.size else 0
        return Links(session, parent.astype(np.int32), 0)


def sessions_of(parent: NDArray[np.int64]) -> NDArray[np.int32]:
    """Number the trees of `parent` (N,) densely by first appearance. O(N log depth)."""
    root = np.where(parent >= 0, parent, np.arange(parent.size))
    while True:
        above = root[root]
        if (above == root).all():
            break
        root = above
    _, session = np.unique(root, return_inverse=True)
    return session.astype(np.int32)
