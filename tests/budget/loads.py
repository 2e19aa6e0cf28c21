"""A recorded load whose figures are worked out by hand.

Requests of 7 MiB share segments of 20 MiB, two in each: the last 6 MiB serve nobody.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

MIB = 1 << 20
SEGMENTS = 40
ALLOCATED, RESERVED, STUCK = SEGMENTS * 14 * MIB, SEGMENTS * 20 * MIB, SEGMENTS * 6 * MIB
_BASE = 1 << 33
_COMMON: dict[str, Any] = {"stream": 0, "time_us": 0, "frames": []}


def shared_segments(*, failed: bool = False) -> dict[str, Any]:
    """Return the snapshot as torch.cuda.memory._snapshot() does; `failed`: it ran out at last."""
    trace: list[dict[str, Any]] = []
    segments = []
    for at in range(SEGMENTS):
        address = _BASE + at * 20 * MIB
        trace.append({"action": "segment_alloc", "addr": address, "size": 20 * MIB, **_COMMON})
        blocks: list[dict[str, Any]] = []
        for start, size, used in ((0, 7, True), (7, 7, True), (14, 6, False)):
            place = {"addr": address + start * MIB, "size": size * MIB}
            if used:
                trace.append({"action": "alloc", **place, **_COMMON})
            blocks.append(
                {
                    "address": place["addr"],
                    "size": place["size"],
                    "requested_size": place["size"] if used else 0,
                    "state": "active_allocated" if used else "inactive",
                    "frames": [],
                }
            )
        segments.append(
            {
                "device": 0,
                "address": address,
                "total_size": 20 * MIB,
                "allocated_size": 14 * MIB,
                "active_size": 14 * MIB,
                "requested_size": 14 * MIB,
                "stream": 0,
                "segment_type": "large",
                "segment_pool_id": (0, 0),
                "is_expandable": False,
                "frames": [],
                "blocks": blocks,
            }
        )
    if failed:
        trace.append({"action": "oom", "device_free": MIB, "size": 64 * MIB, **_COMMON})
    return {"segments": segments, "device_traces": [trace], "allocator_settings": {}}


def write_load(path: Path, **options: bool) -> Path:
    """Write the snapshot to `path`."""
    path.write_bytes(pickle.dumps(shared_segments(**options)))
    return path
