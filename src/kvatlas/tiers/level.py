"""One level below the device: an index, its bytes, and what went over the way to it.

Owns: storing a batch so that index and bytes agree whatever happens, and handing what has to go to
the level below. Leaves to others: the index (`HostTier`), the bytes (`blocks`), the order of levels
(`SwapManager`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InvariantError
from kvatlas.tiers._state_kernel import I32, I64
from kvatlas.tiers.blocks import BlockBytes, Rows
from kvatlas.tiers.host_tier import HostTier

__all__ = ["Level", "LevelStats"]


@dataclass(frozen=True, slots=True)
class LevelStats:
    """What a level holds and what was moved so far.

    Attributes:
        name: `host` or `disk`.
        capacity_bytes, used_bytes: of its blocks.
        written_blocks: that came in; kept_blocks: that were to come in and were there already.
        read_blocks: that went back to the device.
        evicted_blocks: that had to go for others; demoted_blocks: of these, to the level below.
        refused_blocks: that stayed out because everything was pinned.
        bytes_per_block: of one block.
        write_s, read_s: seconds that the copies took.
    """

    name: str
    capacity_bytes: int
    used_bytes: int
    written_blocks: int
    kept_blocks: int
    read_blocks: int
    evicted_blocks: int
    demoted_blocks: int
    refused_blocks: int
    bytes_per_block: int
    write_s: float
    read_s: float

    @property
    def written_bytes(self) -> int:
        """Bytes that came in."""
        return self.written_blocks * self.bytes_per_block

    @property
    def read_bytes(self) -> int:
        """Bytes that went back to the device."""
        return self.read_blocks * self.bytes_per_block

    @property
    def write_bandwidth(self) -> float | None:
        """Bytes per second into this level, as measured; None before anything was written."""
        return self.written_bytes / self.write_s if self.write_s > 0 else None

    @property
    def read_bandwidth(self) -> float | None:
        """Bytes per second back to the device, as measured; None before anything was read."""
        return self.read_bytes / self.read_s if self.read_s > 0 else None


class Level:
    """An index and the bytes of its slots; `below` gets what has to go."""

    def __init__(
        self, name: str, index: HostTier, data: BlockBytes, block_bytes: int, below: Level | None
    ) -> None:
        self.name, self.index, self.data, self.below = name, index, data, below
        self._block_bytes = block_bytes
        self._written = self._kept = self._read = self._demoted = 0
        self._write_s = self._read_s = 0.0

    def store(self, keys: I64, parents: I64, depths: I64, block_ids: I32) -> None:
        """Take in blocks of the device under distinct keys, as far as there is room.

        Raises: InputError when the bytes cannot be written; then none of the new ones is here.
        """
        self._store(
            keys, parents, depths, lambda fresh, slots: self.data.write(block_ids[fresh], slots)
        )

    def store_rows(self, keys: I64, parents: I64, depths: I64, rows: Rows) -> None:
        """Take in rows of bytes under distinct keys, as far as there is room."""
        self._store(keys, parents, depths, lambda fresh, slots: self.data.put(slots, rows[fresh]))

    def _store(
        self,
        keys: I64,
        parents: I64,
        depths: I64,
        write: Callable[[NDArray[np.int64], I32], None],
    ) -> None:
        if self.below is not None:
            gone = self.index.make_room(keys)
            if gone.keys.size:
                rows = self.data.take(gone.slots)
                self.below.store_rows(gone.keys, gone.parents, gone.depths, rows)
                self._demoted += int(gone.keys.size)
        reserved = self.index.reserve(keys, parents, depths)
        fresh = np.flatnonzero(reserved.fresh)
        started = time.perf_counter()
        try:
            write(fresh, reserved.slots[fresh])
        except BaseException:
            # The slots hold no content of these names: nobody may find them.
            self.index.release(reserved.slots)
            self.index.discard(keys[fresh])
            raise
        self._write_s += time.perf_counter() - started
        self._written += fresh.size
        self._kept += int(reserved.slots.size - fresh.size)
        self.index.release(reserved.slots)

    def load(self, slots: I32, block_ids: I32) -> None:
        """Copy pinned slots into blocks of the device."""
        if not slots.size:
            return
        started = time.perf_counter()
        self.data.read(slots, block_ids)
        self._read_s += time.perf_counter() - started
        self._read += int(slots.size)

    @property
    def stats(self) -> LevelStats:
        """What has happened so far."""
        index = self.index.stats
        return LevelStats(
            name=self.name,
            capacity_bytes=index.capacity * self._block_bytes,
            used_bytes=index.used * self._block_bytes,
            written_blocks=self._written,
            kept_blocks=self._kept,
            read_blocks=self._read,
            evicted_blocks=index.evictions,
            demoted_blocks=self._demoted,
            refused_blocks=index.refusals,
            bytes_per_block=self._block_bytes,
            write_s=self._write_s,
            read_s=self._read_s,
        )

    def check(self) -> None:
        """Verify the index, and that no more came in than was written. Raises: InvariantError."""
        self.index.check()
        if self.index.stats.used > self._written:
            raise InvariantError(f"the {self.name} tier holds more than was ever written to it")
