"""The waiting queue of the nano-vLLM profile: a ring of rows, first come first served.

Owns: its order. Leaves to others: who is admitted (`scheduler`). The same ring as under the vLLM
profile (`engine.queues`), without the heap that priorities need and nano-vLLM does not have.
"""

from __future__ import annotations

from kvatlas.engine.kernels.state import I64
from kvatlas.jit import kernel
from kvatlas.records import Record


@kernel
def push_back(waiting: I64, queue: Record, row: int) -> None:
    """Add a new arrival; O(1)."""
    waiting[(queue.head + queue.num_waiting) % waiting.shape[0]] = row
    queue.num_waiting += 1


@kernel
def push_front(waiting: I64, queue: Record, row: int) -> None:
    """Put a preempted request before all others; O(1)."""
    queue.head = (queue.head + waiting.shape[0] - 1) % waiting.shape[0]
    waiting[queue.head] = row
    queue.num_waiting += 1


@kernel
def pop_front(waiting: I64, queue: Record) -> int:
    """Take the first request out and return it; O(1)."""
    row: int = waiting[queue.head]
    queue.head = (queue.head + 1) % waiting.shape[0]
    queue.num_waiting -= 1
    return row
