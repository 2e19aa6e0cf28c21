"""`SwapManager`: blocks out of the device's memory and back, by content.

Owns: which level a content is sought in, and that what a request found stays until it has it.
Leaves to others: one level (`level`), which blocks to move (an engine), whether it pays
(`SwapOrRecompute`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import index as as_int

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kvatlas.errors import InputError
from kvatlas.storage import KVCacheMemoryPool
from kvatlas.tiers._state_kernel import I32, I64, NONE
from kvatlas.tiers.blocks import DiskBlocks, HostBlocks
from kvatlas.tiers.host_tier import HostTier, as_column, as_keys, leading
from kvatlas.tiers.level import Level, LevelStats

__all__ = ["Found", "SwapManager"]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The leading keys of a prompt that the tiers hold, pinned.

    Attributes:
        host_slots, disk_slots: (n,) where each is; -1 where it is not in that level. What the host
            has is not sought on the disk.
    """

    host_slots: I32
    disk_slots: I32

    @property
    def count(self) -> int:
        """How many of the leading keys."""
        return int(self.host_slots.size)


class SwapManager:
    """A host tier, and below it a disk tier if asked for, for the blocks of a device pool.

    Contents are named by keys (`Request.block_keys`, or any numbers from 0 to below 2**62). What is
    brought back stays in its tier. Not for several threads at once.

    Args:
        device: the pool whose blocks move.
        host_bytes: memory of the host tier; it holds as many whole blocks as fit.
        policy: who leaves the host tier, one of `kvatlas.tiers.TIER_POLICIES`.
        disk_bytes: room of the disk tier, which takes what the host evicts; 0 for none.
        disk_path: its file, made anew; None for a temporary one.
        disk_policy: who leaves the disk tier.

    Raises:
        InputError: not even one block fits, an unknown policy, no memory, a file that cannot be
            made.
    """

    def __init__(
        self,
        device: KVCacheMemoryPool,
        *,
        host_bytes: int,
        policy: str = "lru",
        disk_bytes: int = 0,
        disk_path: str | os.PathLike[str] | None = None,
        disk_policy: str = "lru",
    ) -> None:
        self.device = device
        size, tokens = device.bytes_per_block, device.block_size
        host_slots = _slots(host_bytes, size, "host_bytes")
        disk: Level | None = None
        if disk_bytes:
            disk_slots = _slots(disk_bytes, size, "disk_bytes")
            index = HostTier(disk_slots, disk_policy, block_size=tokens)
            disk = Level("disk", index, DiskBlocks(device, disk_slots, disk_path), size, None)
        index = HostTier(host_slots, policy, block_size=tokens)
        self._host = Level("host", index, HostBlocks(device, host_slots), size, disk)
        self._disk = disk
        self._asked = self._found = 0

    def swap_out(
        self,
        keys: ArrayLike,
        block_ids: ArrayLike,
        parents: ArrayLike | None = None,
        depths: ArrayLike | None = None,
    ) -> int:
        """Copy blocks to the host tier; return how many of `keys` the tiers hold now.

        What is there already is not copied again; what has to go for it goes to the disk tier, or
        is forgotten. Where room is short the first keys are kept. O(bytes).

        Args:
            keys: the contents; of one that is given twice, the first block counts.
            block_ids: the device's blocks that hold them.
            parents, depths: the keys that they hang from (-1: none) and their positions, for a
                policy that keeps prefixes whole.

        Raises:
            InputError: a bad key or block, lengths that differ, a disk that cannot be written.
        """
        asked, blocks = self._pairs(keys, block_ids)
        above = as_column(parents, asked.size, NONE, "parents")
        depth = as_column(depths, asked.size, 0, "depths")
        once = np.sort(np.unique(asked, return_index=True)[1])
        self._host.store(asked[once], above[once], depth[once], blocks[once])
        return int(self._there(asked).sum())

    def lookup(self, keys: ArrayLike) -> int:
        """Return how many of the leading `keys` the tiers hold; changes nothing. O(keys)."""
        host, disk = self._places(as_keys(keys))
        return leading(np.maximum(host, disk))

    @contextmanager
    def held(self, keys: ArrayLike) -> Iterator[Found]:
        """Pin the leading `keys` that the tiers hold, as a request's hits, while inside.

        Between finding them and `load`, the caller makes room on the device, which may swap out
        others: what was found stays.
        """
        asked = as_keys(keys)
        host, disk = self._places(asked)
        count = leading(np.maximum(host, disk))
        found = Found(host[:count], disk[:count])
        self._asked += int(asked.size)
        self._found += count
        self._host.index.pin(found.host_slots[found.host_slots != NONE])
        if self._disk is not None:
            self._disk.index.pin(found.disk_slots[found.disk_slots != NONE])
        try:
            yield found
        finally:
            try:
                self._host.index.release(found.host_slots[found.host_slots != NONE])
            finally:
                if self._disk is not None:
                    self._disk.index.release(found.disk_slots[found.disk_slots != NONE])

    def load(self, found: Found, block_ids: ArrayLike) -> None:
        """Copy what is `held` into as many blocks of the device. O(bytes).

        Raises: InputError for a bad block, one twice, or another number of them.
        """
        given = np.asarray(block_ids)
        blocks: I32 = self.device.book.ids(given, "block_ids", once=True).astype(np.int32)
        if blocks.size != found.count:
            raise InputError(
                "as many blocks as were found", field="block_ids", value=blocks.size,
                remedy=f"give {found.count}",
            )  # fmt: skip
        for level, slots in ((self._host, found.host_slots), (self._disk, found.disk_slots)):
            if level is not None:
                here = slots != NONE
                level.load(slots[here], blocks[here])

    def swap_in(self, keys: ArrayLike, block_ids: ArrayLike) -> None:
        """Copy the contents of `keys` into blocks of the device, pinned meanwhile. O(bytes).

        Raises: InputError for a key that no tier holds (`lookup` says how many), or a bad block.
        """
        asked, blocks = self._pairs(keys, block_ids)
        with self.held(asked) as found:
            if found.count < asked.size:
                raise InputError(
                    "no tier holds this content", field="keys", value=int(asked[found.count]),
                    remedy="lookup says how many of the leading keys are there",
                )  # fmt: skip
            self.load(found, blocks)

    def discard(self, keys: ArrayLike) -> int:
        """Forget contents in every tier; return how many were there.

        Raises: InputError when one of them is `held`; then nothing is forgotten.
        """
        asked = as_keys(keys)
        for level in self._levels():
            level.index.require_unpinned(asked)
        there = int(self._there(np.unique(asked)).sum())
        for level in self._levels():
            level.index.discard(asked)
        return there

    def clear(self) -> None:
        """Forget everything in every tier. O(slots).

        For when keys no longer name what was written under them: other weights, another adapter.

        Raises: InputError while something is `held`; then nothing is forgotten.
        """
        pinned = sum(level.index.stats.pinned for level in self._levels())
        if pinned:
            raise InputError(
                "contents are held", field="clear", value=pinned,
                remedy="clear after the swaps that run",
            )  # fmt: skip
        for level in self._levels():
            level.index.clear()

    def resize_host(self, host_bytes: int) -> int:
        """Hold at most so many bytes on the host from now on; return the bytes that are held.

        Forgets what has to go, what is `held` as soon as it is let go; it cannot grow beyond its
        first size. Raises: InputError.
        """
        size = self.device.bytes_per_block
        return self._host.index.resize(_slots(host_bytes, size, "host_bytes")) * size

    @property
    def host(self) -> LevelStats:
        """What the host tier did so far."""
        return self._host.stats

    @property
    def disk(self) -> LevelStats | None:
        """What the disk tier did so far, None without one."""
        return None if self._disk is None else self._disk.stats

    @property
    def lookups(self) -> tuple[int, int]:
        """Keys asked for by `held` and `swap_in`, and of these how many were found."""
        return self._asked, self._found

    def check(self) -> None:
        """Verify every level, and that nothing is in transit. Raises: InvariantError."""
        for level in self._levels():
            level.check()

    def close(self) -> None:
        """Give the disk tier's file back; the manager is of no use afterwards."""
        if self._disk is not None and isinstance(self._disk.data, DiskBlocks):
            self._disk.data.close()

    def _levels(self) -> list[Level]:
        return [self._host] if self._disk is None else [self._host, self._disk]

    def _pairs(self, keys: ArrayLike, block_ids: ArrayLike) -> tuple[I64, I32]:
        asked = as_keys(keys)
        given = np.asarray(block_ids)
        blocks: I32 = self.device.book.ids(given, "block_ids").astype(np.int32)
        if blocks.size != asked.size:
            raise InputError(
                "as many blocks as keys", field="block_ids", value=blocks.size,
                remedy=f"give {asked.size}",
            )  # fmt: skip
        return asked, blocks

    def _places(self, keys: I64) -> tuple[I32, I32]:
        """Return where each key is on the host, and on the disk where the host has it not."""
        host = self._host.index.slots_of(keys)
        disk = np.full(keys.size, NONE, np.int32)
        if self._disk is not None:
            below = host == NONE
            disk[below] = self._disk.index.slots_of(keys[below])
        return host, disk

    def _there(self, keys: I64) -> NDArray[np.bool_]:
        host, disk = self._places(keys)
        there: NDArray[np.bool_] = np.maximum(host, disk) != NONE
        return there


def _slots(size: int, block_bytes: int, field: str) -> int:
    try:
        whole = 0 if isinstance(size, bool) else as_int(size)
    except TypeError:
        whole = 0
    if whole < block_bytes:
        raise InputError(
            "not even one block fits", field=field, value=size,
            remedy=f"a block has {block_bytes:,} bytes",
        )  # fmt: skip
    return whole // block_bytes
