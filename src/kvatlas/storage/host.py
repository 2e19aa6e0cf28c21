"""Blocks in this machine's memory, for NumPy and for torch on the CPU: both see the same bytes.

Owns: the allocation, the copies, zeroing. Leaves to others: which ids (`moves`), the bytes
(`_copy_kernel`), views and statistics (`pool`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.storage import threads
from kvatlas.storage._copy_kernel import SCRATCH, Share, Side, Way, copy_runs, side, zero_runs
from kvatlas.storage.layouts import Placed, common_pieces, piece_offsets
from kvatlas.storage.moves import Ids, Moves, by_source, ordered_runs, runs
from kvatlas.units import format_bytes

__all__ = ["HostMemory", "copy_between", "share"]

ALIGNMENT_BYTES = 4096
STREAM_FROM_BYTES = 8 * 2**20
"""From here on copies go past the caches, which could not keep them."""
THREADS_FROM_BYTES = 2**20
"""From here on copies are shared out: waking a thread takes some 20 us."""
_RUNS_PER_THREAD = 4
MOST_CHAINED_BYTES, LEAST_CHAINED_BYTES = 2**16, 2**12

Bytes = NDArray[np.uint8]


class HostMemory:
    """`placed` in one aligned allocation, zeroed by the system page by page as it is touched."""

    def __init__(self, placed: Placed) -> None:
        self.placed = placed
        size = placed.num_blocks * placed.shape.bytes_per_block
        try:
            whole = np.zeros(size + ALIGNMENT_BYTES, np.uint8)
        except (MemoryError, OverflowError, ValueError):
            raise InputError(
                "no memory for so many blocks",
                field="num_blocks",
                value=f"{placed.num_blocks} blocks, {format_bytes(size)}",
                remedy="take fewer blocks",
            ) from None
        start = -whole.ctypes.data % ALIGNMENT_BYTES
        self.bytes: Bytes = whole[start : start + size]

    def copy(self, sources: Ids, targets: Ids) -> None:
        """Copy within this memory; no target is a source."""
        copy_between(self.bytes, self.placed, targets, self.bytes, self.placed, sources)

    def move(self, moves: Moves) -> int:
        """Carry out moves; return the bytes that were staged."""
        if moves.independent:
            self.copy(moves.sources, moves.targets)
            return 0
        where, piece_bytes = self._chained()
        size = self.placed.shape.bytes_per_block
        todo = ordered_runs(moves)
        total = int(todo.lengths.sum()) * size
        scratch = np.empty(size, np.uint8)
        way = Way(total >= STREAM_FROM_BYTES, True, scratch.ctypes.data)

        def work(first: int, last: int) -> None:
            part = Share(0, len(todo.lengths), first, last)
            copy_runs(where, where, piece_bytes, todo, part, way)

        share(work, len(where.offsets), total)
        return int((moves.cycle_targets == SCRATCH).sum()) * size

    def _chained(self) -> tuple[Side, int]:
        """Return the pieces in which chains of moves are carried out, and the bytes of one.

        A chain goes in order, so its work is cut along pieces and never along runs. Pieces are
        small, so that what one move reads is still in a core's cache when the next overwrites it.
        """
        size = self.placed.shape.bytes_per_block
        where = _side(self.bytes, self.placed, self.placed.planes)
        for axes in self.placed.cuts:
            pieces = len(where.offsets)
            enough = size // pieces <= MOST_CHAINED_BYTES and pieces >= threads.num_threads()
            if enough or size // pieces <= LEAST_CHAINED_BYTES:
                break
            where = _side(self.bytes, self.placed, axes)
        return where, size // len(where.offsets)

    def zero(self, ids: Ids) -> None:
        """Fill blocks with zeros."""
        found = runs(*by_source(ids, ids))
        where = _side(self.bytes, self.placed, self.placed.planes)
        size, pieces = self.placed.shape.bytes_per_block, len(where.offsets)

        def work(first: int, last: int) -> None:
            zero_runs(where, size // pieces, found.sources, found.lengths, first, last)

        share(work, pieces, len(ids) * size)

    def gather(self, ids: Ids, out: Bytes) -> None:
        """Write blocks to the rows of `out` (n, bytes per block), in this layout's order."""
        rows = np.arange(len(ids), dtype=np.int64)
        copy_between(out, self.placed.rows, rows, self.bytes, self.placed, ids)

    def scatter(self, ids: Ids, rows: Bytes, placed: Placed) -> None:
        """Read blocks from rows laid out as `placed`."""
        numbers = np.arange(len(ids), dtype=np.int64)
        copy_between(self.bytes, self.placed, ids, rows, placed, numbers)


def copy_between(
    target: Bytes,
    target_placed: Placed,
    target_ids: Ids,
    source: Bytes,
    source_placed: Placed,
    source_ids: Ids,
) -> None:
    """Copy blocks between two memories, of whatever layouts; what is read is not written."""
    pieces = common_pieces(target_placed, source_placed)
    to, frm = _side(target, target_placed, pieces), _side(source, source_placed, pieces)
    size, count = source_placed.shape.bytes_per_block, len(to.offsets)
    total = len(source_ids) * size
    parts = threads.num_threads() if total >= THREADS_FROM_BYTES else 1
    # Runs are cut so that they can be shared out evenly.
    most = max(1, -(-len(source_ids) // (_RUNS_PER_THREAD * parts)))
    found = runs(*by_source(source_ids, target_ids), most=most)

    way = Way(total >= STREAM_FROM_BYTES, False, 0)

    def work(first: int, last: int) -> None:
        copy_runs(to, frm, size // count, found, Share(first, last, 0, count), way)

    if parts == 1:
        work(0, len(found.lengths))
    else:
        before = np.append(0, np.cumsum(found.lengths))
        threads.in_threads(work, threads.shares(before.tolist(), parts))


def _side(memory: Bytes, placed: Placed, pieces: tuple[str, ...]) -> Side:
    return side(memory.ctypes.data, piece_offsets(placed, pieces), placed.strides["block"])


def share(work: Callable[[int, int], None], items: int, total_bytes: int) -> None:
    """Share `items` of equal size out over the threads, where that pays."""
    if total_bytes < THREADS_FROM_BYTES:
        work(0, items)
    else:
        threads.in_threads(work, threads.shares(range(items + 1), threads.num_threads()))
