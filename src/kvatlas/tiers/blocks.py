"""The bytes of a tier: blocks in host memory or in a file, by slot.

Owns: where they lie and how they are copied from and to the device. Leaves to others: which content
is in which slot (`HostTier`, or an engine's own tier), when to copy (`SwapManager`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kvatlas.errors import InputError
from kvatlas.storage import KVCacheMemoryPool
from kvatlas.tiers._state_kernel import OUT

__all__ = ["BlockBytes", "DiskBlocks", "HostBlocks"]

Rows = NDArray[np.uint8]
Ids = NDArray[np.int32]


class BlockBytes(Protocol):
    """What a tier keeps its blocks in; slots count from 0.

    `write` and `read` copy between the device's blocks and slots; `take` returns slots as rows
    (n, bytes per block) and `put` fills slots from such rows.
    """

    num_slots: int

    def write(self, block_ids: Ids, slots: Ids) -> None: ...
    def read(self, slots: Ids, block_ids: Ids) -> None: ...
    def take(self, slots: Ids) -> Rows: ...
    def put(self, slots: Ids, rows: Rows) -> None: ...


class HostBlocks:
    """Host memory for `num_slots` blocks of the device's shape, each in one piece.

    Args:
        device: whose blocks.
        num_slots: how many; the memory is theirs to the last byte.

    Raises:
        InputError: no slot, no memory.
    """

    def __init__(self, device: KVCacheMemoryPool, num_slots: int) -> None:
        self.device, self.num_slots = device, num_slots
        self.memory = KVCacheMemoryPool(
            num_slots,
            num_layers=device.num_layers,
            block_size=device.block_size,
            kv_heads=device.kv_heads,
            head_size=device.head_size,
            dtype=device.dtype,
            # One span per block, in the device's own order of slots and heads: rows fit both.
            # The device's own: rows of a layout fit that layout, and not every other one.
            layout=device.layout.name,
            backend=device.backend,
        )

    def write(self, block_ids: Ids, slots: Ids) -> None:
        """Copy the device's blocks into slots. Raises: InputError for an id out of range."""
        self.device.copy_to(self.memory, block_ids, slots)

    def read(self, slots: Ids, block_ids: Ids) -> None:
        """Copy slots into the device's blocks. Raises: InputError for an id out of range."""
        self.memory.copy_to(self.device, slots, block_ids)

    def take(self, slots: Ids) -> Rows:
        """Return slots as rows (n, bytes per block)."""
        rows = self.memory.gather(slots)
        found: Rows = rows if isinstance(rows, np.ndarray) else rows.numpy()
        return found

    def put(self, slots: Ids, rows: Rows) -> None:
        """Fill slots from such rows."""
        self.memory.scatter(slots, rows)

    def apply(self, moves: ArrayLike) -> int:
        """Carry out a step's moves (`SchedulerOutput.moves`) in their order; return how many.

        Call it after `Scheduler.schedule()` and before the model runs. Moves of one direction go in
        one batch as far as none depends on another. O(bytes).
        """
        listed = np.ascontiguousarray(moves, np.int32).reshape(-1, 3)
        first = 0
        while first < len(listed):
            last = _batch_end(listed, first)
            batch = listed[first:last]
            if batch[0, 0] == OUT:
                self.write(batch[:, 1], batch[:, 2])
            else:
                self.read(batch[:, 2], batch[:, 1])
            first = last
        return len(listed)


class DiskBlocks:
    """Blocks in a file, a row each; the file goes when it is closed, unless it was named.

    Args:
        device: whose blocks.
        num_slots: how many; the file grows as they are written, sparsely.
        path: the file, made anew; None for a temporary one.

    Raises:
        InputError: the file cannot be made.
    """

    def __init__(
        self, device: KVCacheMemoryPool, num_slots: int, path: str | os.PathLike[str] | None = None
    ) -> None:
        self.device, self.num_slots = device, num_slots
        self._row_bytes = device.bytes_per_block
        try:
            if path is None:
                self._file = tempfile.TemporaryFile(prefix="kvatlas-tier-", buffering=0)  # noqa: SIM115
            else:
                self._file = Path(path).open("w+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise InputError(
                f"the disk tier's file cannot be made: {error.strerror}",
                field="disk_path",
                value=str(path),
            ) from error

    def write(self, block_ids: Ids, slots: Ids) -> None:
        """Copy the device's blocks into slots. Raises: InputError when the disk refuses."""
        self.put(slots, _as_rows(self.device, block_ids))

    def read(self, slots: Ids, block_ids: Ids) -> None:
        """Copy slots into the device's blocks. Raises: InputError when the disk refuses."""
        rows = self.take(slots)
        if self.device.backend == "numpy":
            self.device.scatter(block_ids, rows)
            return
        import torch

        self.device.scatter(block_ids, torch.from_numpy(rows).to(self.device.device))

    def take(self, slots: Ids) -> Rows:
        """Return slots as rows (n, bytes per block); neighbours are read at once."""
        rows = np.empty((len(slots), self._row_bytes), np.uint8)
        for first, last in _runs(slots):
            into = rows[first:last].data.cast("B")
            at, done = int(slots[first]) * self._row_bytes, 0
            while done < len(into):
                got = self._call(os.preadv, [into[done:]], at + done)
                if got == 0:
                    raise InputError("the disk tier's file has been cut", field="disk_path")
                done += got
        return rows

    def put(self, slots: Ids, rows: Rows) -> None:
        """Fill slots from such rows; neighbours are written at once."""
        for first, last in _runs(slots):
            data = np.ascontiguousarray(rows[first:last]).data.cast("B")
            at, done = int(slots[first]) * self._row_bytes, 0
            while done < len(data):
                done += self._call(os.pwritev, [data[done:]], at + done)

    def close(self) -> None:
        """Give the file back; a temporary one is gone."""
        self._file.close()

    def _call(
        self, call: Callable[[int, list[memoryview], int], int], buffers: list[memoryview], at: int
    ) -> int:
        try:
            return call(self._file.fileno(), buffers, at)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(
                f"the disk tier's file cannot be used: {reason}",
                field="disk_path",
                remedy="give it room, or a smaller tier",
            ) from error


def _as_rows(device: KVCacheMemoryPool, block_ids: Ids) -> Rows:
    rows = device.gather(block_ids)
    found: Rows = rows if isinstance(rows, np.ndarray) else rows.cpu().numpy()
    return found


def _runs(slots: Ids) -> list[tuple[int, int]]:
    """Cut slots into stretches of consecutive numbers."""
    if len(slots) == 0:
        return []
    cuts = np.flatnonzero(np.diff(slots) != 1) + 1
    bounds = [0, *cuts.tolist(), len(slots)]
    return list(pairwise(bounds))


def _batch_end(moves: NDArray[np.int32], first: int) -> int:
    """Return the end of the moves from `first` on that have one direction and distinct targets."""
    direction = moves[first, 0]
    targets: set[int] = set()
    column = 2 if direction == OUT else 1
    at = first
    while at < len(moves) and moves[at, 0] == direction and int(moves[at, column]) not in targets:
        targets.add(int(moves[at, column]))
        at += 1
    return at
