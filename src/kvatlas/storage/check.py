"""Invariants of a storage pool.

Owns: what must hold after every operation. Leaves to others: making it hold. O(blocks + layers).
"""

from __future__ import annotations

from typing import Any

from kvatlas.errors import InvariantError
from kvatlas.storage.layouts import LOGICAL, Placed
from kvatlas.storage.moves import IdBook
from kvatlas.storage.statistics import StorageStats


def _require(holds: bool, promise: str) -> None:
    if not holds:
        raise InvariantError(promise)


def check_layers(memory: Any, placed: Placed, layers: tuple[Any, ...]) -> None:
    """Check that the views cover the memory exactly.

    Raises:
        InvariantError: names the first promise that is broken.
    """
    size, sizes = memory.nbytes, dict(zip(placed.axes, placed.lengths, strict=True))
    _require(
        size == placed.num_blocks * placed.shape.bytes_per_block,
        "the memory is not the blocks' bytes",
    )
    shape = tuple(sizes[axis] for axis in LOGICAL)
    start = _where(memory)[0]
    steps = [placed.strides[axis] for axis in LOGICAL]
    begins = set()
    for index, view in enumerate(layers):
        _require(tuple(view.shape) == shape, f"layer {index} has another shape")
        address, strides = _where(view)
        _require(strides == steps, f"layer {index} has other strides")
        _require(address == start + index * placed.strides["layer"], f"layer {index} is a copy")
        begins.add(address)
    _require(len(begins) == sizes["layer"], "two layers lie at one place")
    # Strides that are the products of the lengths below them number every byte exactly once.
    covered = placed.shape.itemsize
    for axis, length in zip(reversed(placed.axes), reversed(placed.lengths), strict=True):
        _require(placed.strides[axis] == covered, f"axis {axis} overlaps or leaves a gap")
        covered *= length
    _require(covered == size, "the axes do not cover the memory")


def check_books(book: IdBook, stats: StorageStats, placed: Placed, *, zero_on_free: bool) -> None:
    """Check that no id is left marked and that the counts add up. Raises: InvariantError."""
    _require(book.check(), "an id is still marked")
    _require(
        stats.bytes_per_block == placed.shape.bytes_per_block, "the statistics' block is another"
    )
    _require(stats.staged_bytes <= stats.moved_bytes, "more was staged than moved")
    _require(
        not zero_on_free or stats.zeroed_blocks >= stats.freed_blocks,
        "a freed block was not zeroed",
    )


def _where(view: Any) -> tuple[int, list[int]]:
    """Return the address of a view and its strides in bytes."""
    if hasattr(view, "ctypes"):
        return view.ctypes.data, list(view.strides)
    return view.data_ptr(), [stride * view.element_size() for stride in view.stride()]
