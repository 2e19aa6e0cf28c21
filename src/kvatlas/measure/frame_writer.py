"""Writing frames into a limited number of bytes.

Owns: compressing what `_frame_tape_kernel` writes, leaving out keys or times, noticing that
there is no room. Leaves to others: which frames (`frames`), the format.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from kvatlas.events.header import Header
from kvatlas.events.schema import NONE
from kvatlas.measure import _frame_tape_kernel as tape_kernel
from kvatlas.measure import _frames_kernel as kernel
from kvatlas.records import Records, one_record, records

__all__ = ["Room", "empty_cells"]


class Room:
    """Writes frames until there is no room for more."""

    def __init__(self, header: Header, most_bytes: int) -> None:
        self.header, self.most_bytes = header, most_bytes
        self.streams: dict[str, bytes] = {}

    def write(
        self,
        frames: Iterable[tuple[Records, NDArray[np.uint16], int]],
        count: int,
        has_keys: bool,
        has_times: bool,
        *,
        whole: bool,
    ) -> float:
        """Write `count` frames (cells, next uses, tick); return how much of the room they need.

        Stops early when they need too much, unless `whole`: then it estimates, and later frames are
        larger, for a pool grows ever more mixed.
        """
        writer = Writer(self.header, has_keys, has_times)
        for number, (cells, uses, tick) in enumerate(frames, 1):
            writer.put(cells, uses, tick)
            if not whole and writer.size > 1.3 * self.most_bytes and number < count:
                return 1.2 * count / number * writer.size / self.most_bytes
        self.streams = writer.close()
        return writer.size / self.most_bytes


class Writer:
    """Writes frames and compresses them as they come."""

    def __init__(self, header: Header, has_keys: bool, has_times: bool) -> None:
        blocks = header.num_blocks
        self.has_keys, self.has_times = has_keys, has_times
        self.before = empty_cells(blocks)
        self.masked = empty_cells(blocks)
        self.tape = tape_kernel.Tape(
            streams=np.empty(
                (len(tape_kernel.STREAMS), tape_kernel.MOST_BYTES_PER_CELL * (blocks + 1)), np.uint8
            ),
            used=np.zeros(len(tape_kernel.STREAMS), np.int64),
            contexts=records(header.num_requests + 1, tape_kernel.CONTEXT),
            order=np.arange(blocks, dtype=np.int32),
            spare=np.zeros(blocks, np.int32),
            counts=np.zeros(1 << tape_kernel.DIGIT, np.int64),
            last=one_record(tape_kernel.LAST, wide_keys=int(header.num_keys == 0)),
        )
        self.packers = [zlib.compressobj(6) for _ in tape_kernel.STREAMS]
        self.packed: list[list[bytes]] = [[] for _ in tape_kernel.STREAMS]
        self.size = 0

    def put(self, cells: Records, uses: NDArray[np.uint16], tick: int) -> None:
        """Write `cells` at `tick`."""
        if not (self.has_keys and self.has_times):
            self.masked[:] = cells
            if not self.has_keys:
                # What a frame shows of a key then is whether there is one.
                self.masked["key"][cells["key"] != NONE] = 0
            if not self.has_times:
                self.masked["since"] = 0
                uses = np.zeros_like(uses)
            cells = self.masked
        tape = self.tape
        tape.used[:] = 0
        tape_kernel.write_frame(tape, cells, self.before, uses, tick)
        for number, packer in enumerate(self.packers):
            data = tape.streams[number, : int(tape.used[number])].tobytes()
            self._keep(number, packer.compress(data))

    def close(self) -> dict[str, bytes]:
        """Return the streams by name."""
        for number, packer in enumerate(self.packers):
            self._keep(number, packer.flush())
        return {
            name: b"".join(parts)
            for name, parts in zip(tape_kernel.STREAMS, self.packed, strict=True)
        }

    def _keep(self, number: int, packed: bytes) -> None:
        self.packed[number].append(packed)
        self.size += len(packed)


def empty_cells(blocks: int) -> Records:
    """Return the cells of a pool before anything happened."""
    cells = records(blocks, kernel.CELL)
    cells["key"] = NONE
    cells["owner"] = NONE
    return cells
