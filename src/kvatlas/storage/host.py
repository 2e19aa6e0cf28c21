"""Blocks in this machine's memory, for NumPy and for torch on the CPU: both see the same bytes.

Owns: the allocation, the copies, zeroing. Leaves to others: which ids (`moves`), the bytes
(`_copy_kernel`), views and statistics (`pool`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.storage import threads
from kvatlas.storage._copy_kernel import Runs, Side, copy_runs, side, zero_runs
from kvatlas.storage.layouts import Placed, common_pieces
from kvatlas.storage.moves import Ids, Moves, by_source, ordered_runs, runs
from kvatlas.units import format_bytes

ALIGNMENT_BYTES = 4096
STREAM_FROM_BYTES = 8 * 2**20
"""From here on copies go past the caches."""
THREADS_FROM_BYTES = 2**20
"""From here on copies are shared out: waking a thread takes some 20 us."""


class HostMemory:
    """`placed` in one aligned allocation, zeroed by the system page by page as it is touched."""

    def __init__(self, placed: Placed) -> None:
        self.placed = placed
        size = placed.num_blocks * placed.shape.bytes_per_block
        try:
            whole = np.zeros(size + ALIGNMENT_BYTES, np.uint8)
        except MemoryError:
            raise InputError(
                "no memory for so many blocks",
                field="num_blocks",
                value=f"{placed.num_blocks} blocks, {format_bytes(size)}",
                remedy="take fewer blocks",
            ) from None
        start = -whole.ctypes.data % ALIGNMENT_BYTES
        self.bytes: NDArray[np.uint8] = whole[start : start + size]
        self._scratch: NDArray[np.uint8] | None = None

    def side(self, pieces: tuple[str, ...]) -> Side:
        """Return where the pieces lie."""
        return _side(self.bytes, self.placed, pieces)

    def copy(self, sources: Ids, targets: Ids) -> None:
        """Copy within this memory; no target is a source."""
        copy_between(self.bytes, self.placed, targets, self.bytes, self.placed, sources)

    def move(self, moves: Moves) -> int:
        """Carry out moves; return the bytes that were staged."""
        if moves.independent:
            self.copy(moves.sources, moves.targets)
            return 0
        placed = self.placed
        # Chains are carried out in order, so the work is cut along pieces and never along runs.
        pieces = placed.planes
        where = self.side(pieces)
        if len(where.offsets) < threads.num_threads():
            pieces = common_pieces(placed, Placed(placed.shape, 1, _KEYS_AND_VALUES))
            where = self.side(pieces)
        size = placed.shape.bytes_per_block
        piece_bytes = size // len(where.offsets)
        scratch = np.empty(size, np.uint8)
        todo = ordered_runs(moves)
        total = int(todo.lengths.sum()) * size

        def work(first: int, last: int) -> None:
            copy_runs(
                where,
                where,
                piece_bytes,
                todo,
                0,
                len(todo.lengths),
                first,
                last,
                scratch.ctypes.data,
                total >= STREAM_FROM_BYTES,
            )

        _share(work, len(where.offsets), total)
        return int((moves.cycle_targets == -1).sum()) * size

    def zero(self, ids: Ids) -> None:
        """Fill blocks with zeros."""
        found = runs(*by_source(ids, ids))
        where = self.side(self.placed.planes)
        size = self.placed.shape.bytes_per_block
        piece_bytes = size // len(where.offsets)

        def work(first: int, last: int) -> None:
            zero_runs(where, piece_bytes, found.sources, found.lengths, first, last)

        _share(work, len(where.offsets), len(ids) * size)

    def gather(self, ids: Ids, out: NDArray[np.uint8]) -> None:
        """Write blocks to the rows of `out` (n, bytes per block), in this layout's order."""
        placed = self.placed.rows(len(ids))
        copy_between(out, placed, np.arange(len(ids)), self.bytes, self.placed, ids)

    def scatter(self, ids: Ids, rows: NDArray[np.uint8], placed: Placed) -> None:
        """Read blocks from rows laid out as `placed`."""
        copy_between(self.bytes, self.placed, ids, rows, placed, np.arange(len(ids)))


_KEYS_AND_VALUES = ("layer", "kv", "block", "slot", "head", "dim")


def copy_between(
    target: NDArray[np.uint8],
    target_placed: Placed,
    target_ids: Ids,
    source: NDArray[np.uint8],
    source_placed: Placed,
    source_ids: Ids,
) -> None:
    """Copy blocks between two memories, of whatever layouts; what is read is not written."""
    pieces = common_pieces(target_placed, source_placed)
    to, frm = _side(target, target_placed, pieces), _side(source, source_placed, pieces)
    size = source_placed.shape.bytes_per_block
    piece_bytes = size // len(to.offsets)
    total = len(source_ids) * size
    parts = threads.num_threads() if total >= THREADS_FROM_BYTES else 1
    found = runs(
        *by_source(source_ids, target_ids), most=max(1, -(-len(source_ids) // (4 * parts)))
    )
    stream = total >= STREAM_FROM_BYTES

    def along_runs(first: int, last: int) -> None:
        copy_runs(to, frm, piece_bytes, found, first, last, 0, len(to.offsets), 0, stream)

    before = np.append(0, np.cumsum(found.lengths))
    threads.in_threads(along_runs, threads.shares(before.tolist(), parts))


def _side(memory: NDArray[np.uint8], placed: Placed, pieces: tuple[str, ...]) -> Side:
    return side(memory.ctypes.data, placed.offsets(pieces), placed.strides["block"])


def _share(work: Any, items: int, total_bytes: int) -> None:
    """Share `items` of equal size out over the threads, where that pays."""
    parts = threads.num_threads() if total_bytes >= THREADS_FROM_BYTES else 1
    threads.in_threads(work, threads.shares(range(items + 1), parts))


__all__ = ["HostMemory", "Runs", "copy_between"]
