"""What a storage pool has done, to the last byte.

Owns: the counters. Leaves to others: counting (`pool`).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["StorageStats"]


@dataclass(frozen=True, slots=True)
class StorageStats:
    """Calls, blocks and bytes since the pool was made; bytes are blocks times bytes per block.

    Attributes:
        copied_blocks: by `copy`, and by `copy_to` out of this pool.
        received_blocks: by `copy_to` into this pool.
        moved_blocks: by `move`; a block moved to itself counts nothing.
        staged_bytes: of those, what went through a stage because its moves form a cycle.
        gathered_blocks: by `gather`; scattered_blocks: by `scatter`.
        freed_blocks: by `free`; zeroed_blocks: by `zero`, by `free` and by `move` where the pool
            zeroes on free.
        digested_blocks: by `digest`.
        calls: of all of these.
    """

    bytes_per_block: int
    calls: int = 0
    copied_blocks: int = 0
    received_blocks: int = 0
    moved_blocks: int = 0
    staged_bytes: int = 0
    gathered_blocks: int = 0
    scattered_blocks: int = 0
    freed_blocks: int = 0
    zeroed_blocks: int = 0
    digested_blocks: int = 0

    @property
    def copied_bytes(self) -> int:
        """Bytes that `copy` and `copy_to` wrote elsewhere."""
        return self.copied_blocks * self.bytes_per_block

    @property
    def received_bytes(self) -> int:
        """Bytes that other pools wrote here."""
        return self.received_blocks * self.bytes_per_block

    @property
    def moved_bytes(self) -> int:
        """Bytes that `move` wrote to their targets."""
        return self.moved_blocks * self.bytes_per_block

    @property
    def gathered_bytes(self) -> int:
        """Bytes that `gather` wrote to buffers."""
        return self.gathered_blocks * self.bytes_per_block

    @property
    def scattered_bytes(self) -> int:
        """Bytes that `scatter` read from buffers."""
        return self.scattered_blocks * self.bytes_per_block

    @property
    def zeroed_bytes(self) -> int:
        """Bytes that were set to zero."""
        return self.zeroed_blocks * self.bytes_per_block
