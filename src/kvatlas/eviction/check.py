"""Invariants of a policy's state, checked the slow and obvious way.

Owns: what must hold after every operation. Leaves to others: making it hold. O(items).
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from kvatlas.errors import InvariantError
from kvatlas.eviction._state_kernel import NONE, Eviction

__all__ = ["check_eviction"]


def _require(holds: bool, promise: str) -> None:
    if not holds:
        raise InvariantError(promise)


def check_eviction(eviction: Eviction) -> None:
    """Check heaps, places and links against each other.

    Raises:
        InvariantError: names the first promise that is broken.
    """
    items, info = eviction.items, eviction.info
    place, cached = items["place"].tolist(), items["cached"].tolist()
    held, children = items["held"].tolist(), items["children"].tolist()
    candidates = 0
    for heap in range(eviction.heaps.shape[0]):
        size = int(eviction.sizes[heap])
        entries = eviction.heaps[heap, :size]
        order = list(zip(entries["priority"].tolist(), entries["order"].tolist(), strict=True))
        for at, item in enumerate(entries["which"].tolist()):
            _require(place[item] == at, f"item {item} does not know its place in heap {heap}")
            _require(int(items[item].heap) == heap, f"item {item} is in another heap")
            _require(at == 0 or order[(at - 1) >> 1] <= order[at], f"heap {heap} is out of order")
        candidates += size
    in_heap = sum(at != NONE for at in place)
    _require(in_heap == candidates, "an item believes to be in a heap that it is not in")
    linked: Counter[int] = Counter()
    parents, births = items["parent"].tolist(), items["born"].tolist()
    for item, parent in enumerate(parents):
        alive = cached[item] and not held[item] and parent != NONE and cached[parent]
        if alive and births[parent] == int(items[item].parent_born):
            linked[parent] += 1
    for item in np.flatnonzero(items["cached"]).tolist():
        _require(children[item] == linked[item], f"item {item}: number of children")
        free = not held[item] and children[item] == 0
        _require((place[item] != NONE) == free, f"item {item}: can be evicted and does not wait")
    for item in np.flatnonzero(items["cached"] == 0).tolist():
        _require(place[item] == NONE, f"item {item} has no content and waits to be evicted")
    busy = int(np.count_nonzero(eviction.known["kind"] == NONE))
    _require(busy == int(info.busy), "the contents in use are miscounted")
    if not info.by_leaf:
        _require(int(eviction.members.sum()) == sum(cached), "the queues' members are miscounted")
