"""The waiting queue: first come first served, or by priority.

Owns: order and O(1) or O(log n) changes of `Engine.waiting`. Leaves to others: who is admitted
(`scheduler`). FCFS is a ring of rows; priority a binary heap ordered by the rows' `priority`, whose
values are unique, so that any correct heap pops in vLLM's order (v1/core/sched/request_queue.py).
"""

from __future__ import annotations

from kvatlas.engine.kernels.state import Engine
from kvatlas.jit import inlined, kernel


@inlined
def first(engine: Engine) -> int:
    """Return the row that is admitted next."""
    if engine.config.priority_policy != 0:
        return int(engine.waiting[0])
    return int(engine.waiting[engine.queue.head])


@kernel
def push_back(engine: Engine, row: int) -> None:
    """Add a new arrival."""
    queue = engine.queue
    count = queue.num_waiting
    queue.num_waiting = count + 1
    if engine.config.priority_policy != 0:
        engine.waiting[count] = row
        _sift_up(engine, count)
    else:
        engine.waiting[(queue.head + count) % engine.waiting.shape[0]] = row


@kernel
def push_front(engine: Engine, row: int) -> None:
    """Put a preempted request back: to the front, or to its place in the heap."""
    if engine.config.priority_policy != 0:
        push_back(engine, row)
        return
    queue = engine.queue
    size = engine.waiting.shape[0]
    queue.head = (queue.head + size - 1) % size
    queue.num_waiting += 1
    engine.waiting[queue.head] = row


@kernel
def pop_first(engine: Engine) -> None:
    """Take the first request out."""
    if engine.config.priority_policy != 0:
        _remove_at(engine, 0)
        return
    queue = engine.queue
    queue.head = (queue.head + 1) % engine.waiting.shape[0]
    queue.num_waiting -= 1


@kernel
def remove(engine: Engine, row: int) -> bool:
    """Take `row` out wherever it stands; O(waiting)."""
    start = 0 if engine.config.priority_policy != 0 else engine.queue.head
    for at in range(engine.queue.num_waiting):
        if engine.waiting[(start + at) % engine.waiting.shape[0]] == row:
            _remove_at(engine, at)
            return True
    return False


@kernel
def _remove_at(engine: Engine, at: int) -> None:
    """Take out the request at position `at`; O(waiting) in a ring, O(log waiting) in a heap."""
    waiting, queue = engine.waiting, engine.queue
    last = queue.num_waiting - 1
    queue.num_waiting = last
    if engine.config.priority_policy != 0:
        if at != last:
            waiting[at] = waiting[last]
            _sift_down(engine, at)
            _sift_up(engine, at)
        return
    size = waiting.shape[0]
    for i in range(queue.head + at, queue.head + last):
        waiting[i % size] = waiting[(i + 1) % size]


@kernel
def _sift_up(engine: Engine, at: int) -> None:
    heap, requests = engine.waiting, engine.requests
    row = heap[at]
    while at > 0:
        parent = (at - 1) // 2
        if requests[heap[parent]].priority <= requests[row].priority:
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = row


@kernel
def _sift_down(engine: Engine, at: int) -> None:
    heap, requests = engine.waiting, engine.requests
    count = engine.queue.num_waiting
    row = heap[at]
    while True:
        child = 2 * at + 1
        if child >= count:
            break
        if child + 1 < count:
            right = requests[heap[child + 1]].priority
            if right < requests[heap[child]].priority:
                child += 1
        if requests[row].priority <= requests[heap[child]].priority:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = row
