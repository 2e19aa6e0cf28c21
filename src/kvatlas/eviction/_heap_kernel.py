"""Binary heaps of evictable items, in which every item knows its place.

Owns: the order inside a heap: the smaller (priority, order) is evicted first. Leaves to others:
what the numbers mean (`_keys_kernel`) and which items are in a heap (`_hooks_kernel`).
"""

from __future__ import annotations

from kvatlas.eviction._state_kernel import NONE, Eviction
from kvatlas.jit import inlined, kernel


@kernel
def push(eviction: Eviction, heap: int, item: int, priority: float, order: int) -> None:
    """Put `item` into `heap`; O(log size), O(1) for one that goes last."""
    at = int(eviction.sizes[heap])
    eviction.sizes[heap] = at + 1
    eviction.items[item].heap = heap
    _up(eviction, heap, at, item, priority, order)


@kernel
def remove(eviction: Eviction, item: int) -> None:
    """Take `item` out of the heap that it is in; O(log size)."""
    heap, at = int(eviction.items[item].heap), int(eviction.items[item].place)
    last = int(eviction.sizes[heap]) - 1
    eviction.sizes[heap] = last
    eviction.items[item].place = NONE
    if at != last:
        moved = eviction.heaps[heap, last]
        _settle(eviction, heap, at, int(moved.which), float(moved.priority), int(moved.order))


@kernel
def change(eviction: Eviction, item: int, priority: float, order: int) -> None:
    """Give `item`, which is in a heap, another key; O(log size)."""
    heap, at = int(eviction.items[item].heap), int(eviction.items[item].place)
    _settle(eviction, heap, at, item, priority, order)


@kernel
def replace_top(eviction: Eviction, heap: int, item: int, priority: float, order: int) -> None:
    """Put `item` in the place of the top, which leaves; O(1) when it goes first again."""
    eviction.items[eviction.heaps[heap, 0].which].place = NONE
    eviction.items[item].heap = heap
    _down(eviction, heap, 0, item, priority, order)


@inlined
def _settle(eviction: Eviction, heap: int, at: int, item: int, priority: float, order: int) -> None:
    if at > 0:
        above = eviction.heaps[heap, (at - 1) >> 1]
        if priority < above.priority or (priority == above.priority and order < above.order):
            _up(eviction, heap, at, item, priority, order)
            return
    _down(eviction, heap, at, item, priority, order)


@inlined
def _up(eviction: Eviction, heap: int, at: int, item: int, priority: float, order: int) -> None:
    while at > 0:
        above = eviction.heaps[heap, (at - 1) >> 1]
        if not (priority < above.priority or (priority == above.priority and order < above.order)):
            break
        _put(eviction, heap, at, int(above.which), float(above.priority), int(above.order))
        at = (at - 1) >> 1
    _put(eviction, heap, at, item, priority, order)


@inlined
def _down(eviction: Eviction, heap: int, at: int, item: int, priority: float, order: int) -> None:
    size = int(eviction.sizes[heap])
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        below = eviction.heaps[heap, child]
        if child + 1 < size:
            other = eviction.heaps[heap, child + 1]
            if other.priority < below.priority or (
                other.priority == below.priority and other.order < below.order
            ):
                child += 1
                below = other
        if not (below.priority < priority or (below.priority == priority and below.order < order)):
            break
        _put(eviction, heap, at, int(below.which), float(below.priority), int(below.order))
        at = child
    _put(eviction, heap, at, item, priority, order)


@inlined
def _put(eviction: Eviction, heap: int, at: int, item: int, priority: float, order: int) -> None:
    entry = eviction.heaps[heap, at]
    entry.priority = priority
    entry.order = order
    entry.which = item
    eviction.items[item].place = at
