"""Recordings that end in out-of-memory, one for every cause, made by the naive allocator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from naive_allocator import MIB, NaiveAllocator, OutOfMemory, Piece, write

from kvatlas.device import AllocatorSettings, DeviceTwin, read_snapshot

WEIGHTS, ADAPTER, STEP = "load_weights", "load_adapter", "forward"


class Recording:
    """An allocator whose calls have stacks."""

    def __init__(self, capacity_mib: int | None, **settings: Any) -> None:
        capacity = None if capacity_mib is None else capacity_mib * MIB
        self.naive = NaiveAllocator(AllocatorSettings(**settings), capacity=capacity)

    def malloc(self, mib: float, name: str, pool: int = 0) -> Piece:
        """Ask for memory from a function of that name."""
        before = len(self.naive.events)
        try:
            return self.naive.malloc(round(mib * MIB), pool=pool)
        finally:
            for event in self.naive.events[before:]:
                event["frames"] = frames(name)

    def fails(self, mib: float, name: str = STEP) -> None:
        """Ask for memory that is not there."""
        with pytest.raises(OutOfMemory):
            self.malloc(mib, name)

    def dump(self) -> dict[str, Any]:
        """Return the snapshot, every live block with its stack."""
        snapshot = self.naive.dump()
        asked = {
            event["addr"]: event["frames"] for event in self.naive.events
            if event["action"] == "alloc"
        }  # fmt: skip
        for segment in snapshot["segments"]:
            for block in segment["blocks"]:
                if block["state"] != "inactive":
                    block["frames"] = asked[block["address"]]
        return snapshot

    def write(self, folder: Path) -> Path:
        """Write the snapshot into a folder."""
        return write(self.dump(), folder / "snapshot.pickle")

    def twin(self, folder: Path) -> DeviceTwin:
        """Return its twin."""
        return DeviceTwin(read_snapshot(self.write(folder)))


def frames(name: str) -> list[dict[str, Any]]:
    """Return a stack: torch's own call, the program's, and its caller."""
    return [
        {"name": "c10::cuda::malloc()", "filename": "CUDACachingAllocator.cpp", "line": 1},
        {"name": "empty", "filename": "/site-packages/torch/_refs.py", "line": 9},
        {"name": name, "filename": "/srv/model.py", "line": 12},
        {"name": "main", "filename": "/srv/serve.py", "line": 3},
    ]


def pull_request() -> Recording:
    """vLLM's #37428: 384 MiB asked, 402 MiB stuck in 67 segments, 330 MiB free.

    Blocks of 7 MiB share segments of 20 MiB, two by two; the last 6 MiB of each serve nobody.
    """
    found = Recording(67 * 20 + 330)
    for at in range(2 * 67):
        found.malloc(7, WEIGHTS if at < 120 else ADAPTER)
    found.fails(384)
    return found


def too_small() -> Recording:
    """1,000 MiB, of which 900 are in use, and 200 are asked for."""
    found = Recording(1000)
    for _ in range(9):
        found.malloc(100, WEIGHTS)
    found.fails(200)
    return found


def graph_pool() -> Recording:
    """A CUDA graph's pool keeps 300 MiB that it does not use; 200 MiB are asked for, 100 free."""
    found = Recording(1000)
    for _ in range(6):
        found.malloc(100, WEIGHTS)
    piece = found.malloc(300, "capture", pool=1)
    found.naive.free(piece)
    found.fails(200)
    return found


def fitting() -> Recording:
    """Nothing fails: 300 MiB at the peak, 60 MiB at the end, and 14 stuck in its segment."""
    found = Recording(None)
    small = found.malloc(6, WEIGHTS)
    pieces = [found.malloc(98, STEP) for _ in range(3)]
    for piece in pieces:
        found.naive.free(piece)
    assert small.state == "held"
    return found
