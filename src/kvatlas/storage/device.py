"""Blocks in the memory of an accelerator, through torch.

Owns: the allocation and the copies as indexed tensor operations. Leaves to others: which ids
(`moves`), views and statistics (`pool`), torch on the CPU (`host`).

torch copies rows by index through a stage: a gather, then a scatter. Stages are cut small enough to
stay in the device's second-level cache, so that most of their traffic never reaches its memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kvatlas.errors import InputError
from kvatlas.storage.layouts import Placed, piece_offsets
from kvatlas.storage.moves import Ids, Moves, by_source
from kvatlas.units import format_bytes

STAGE_BYTES = 16 * 2**20


def import_torch() -> Any:
    """Return torch. Raises: InputError where it is not installed."""
    try:
        import torch
    except ImportError:
        raise InputError(
            "torch is not installed", field="backend", value="torch", remedy="pip install torch"
        ) from None
    return torch


class DeviceMemory:
    """`placed` in one tensor of bytes on `device`, zeroed."""

    def __init__(self, placed: Placed, device: str) -> None:
        self.placed = placed
        self._torch = torch = import_torch()
        size = placed.num_blocks * placed.shape.bytes_per_block
        try:
            self.bytes = torch.zeros(size, dtype=torch.uint8, device=device)
        except torch.OutOfMemoryError:
            raise InputError(
                "no memory for so many blocks",
                field="num_blocks",
                value=f"{placed.num_blocks} blocks, {format_bytes(size)}",
                remedy="take fewer blocks",
            ) from None
        except (AssertionError, RuntimeError) as error:
            raise InputError(
                f"torch cannot use this device: {str(error).splitlines()[0]}",
                field="device",
                value=device,
            ) from None

    def copy(self, sources: Ids, targets: Ids) -> None:
        """Copy within this memory; no target is a source."""
        sources, targets = by_source(sources, targets)
        whole = self._pieces(self.bytes, self.placed)
        step = self._blocks_at_once()
        for first in range(0, len(sources), step):
            part = slice(first, first + step)
            self._put(whole, targets[part], self._take(whole, sources[part]))

    def move(self, moves: Moves) -> int:
        """Carry out moves level by level; return the bytes that were staged for cycles."""
        for sources, targets in moves.by_level():
            self.copy(sources, targets)
        if not len(moves.cycle_sources):
            return 0
        # Every cycle at once: all first blocks are staged, then all second moves go, and so on.
        starts = np.flatnonzero(moves.cycle_targets == -1)
        lengths = np.diff(np.append(starts, len(moves.cycle_targets)))
        whole = self._pieces(self.bytes, self.placed)
        stage = self._take(whole, moves.cycle_sources[starts])
        for step in range(1, int(lengths.max()) - 1):
            going = starts[lengths - 1 > step] + step
            self.copy(moves.cycle_sources[going], moves.cycle_targets[going])
        self._put(whole, moves.cycle_targets[starts + lengths - 1], stage)
        return len(starts) * self.placed.shape.bytes_per_block

    def zero(self, ids: Ids) -> None:
        """Fill blocks with zeros."""
        self._pieces(self.bytes, self.placed).index_fill_(1, self._index(ids), 0)

    def gather(self, ids: Ids, out: Any) -> None:
        """Write blocks to the rows of `out` (n, bytes per block) on this device."""
        whole = self._pieces(self.bytes, self.placed)
        rows = self._pieces(out, self.placed.rows)
        rows.copy_(self._take(whole, ids).transpose(0, 1))

    def scatter(self, ids: Ids, rows: Any, placed: Placed) -> None:
        """Read blocks from rows on this device laid out as `placed`, in this layout's order."""
        whole = self._pieces(self.bytes, self.placed)
        self._put(whole, ids, self._pieces(rows, placed).transpose(0, 1).contiguous())

    def _pieces(self, memory: Any, placed: Placed) -> Any:
        """View bytes as (planes, blocks, words); of rows, as (blocks, planes, words)."""
        planes = len(piece_offsets(self.placed, self.placed.planes))
        word, size = self._word()
        span = self.placed.shape.bytes_per_block // planes // size
        words = memory.reshape(-1).view(word)
        if memory is self.bytes:
            return words.view(planes, placed.num_blocks, span)
        return words.view(-1, planes, span)

    def _word(self) -> tuple[Any, int]:
        """Return the widest integer that a piece is a whole number of."""
        torch = self._torch
        planes = len(piece_offsets(self.placed, self.placed.planes))
        span = self.placed.shape.bytes_per_block // planes
        for word, size in ((torch.int64, 8), (torch.int32, 4), (torch.int16, 2)):
            if span % size == 0:
                return word, size
        return torch.uint8, 1

    def _take(self, whole: Any, ids: Ids) -> Any:
        return whole.index_select(1, self._index(ids))

    def _put(self, whole: Any, ids: Ids, values: Any) -> None:
        whole.index_copy_(1, self._index(ids), values)

    def _index(self, ids: Ids) -> Any:
        return self._torch.from_numpy(np.ascontiguousarray(ids)).to(self.bytes.device)

    def _blocks_at_once(self) -> int:
        return max(1, STAGE_BYTES // self.placed.shape.bytes_per_block)
