"""Whether one tuned budget over device, host and objects beats fixed divisions, on a trace.

Owns: the load and the contenders. Leaves to others: the allocator (`kvatlas.pressure.hybrid`),
tables. The prompts and their prefixes are the trace's; images beside them, what computing and
restoring a block takes, and the budget are made up, and the same for all contenders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.trace import Trace
from kvatlas.pressure.hybrid import Division, HybridAllocator, Tuning

__all__ = ["Divided", "divisions"]

_REQUESTS = 3_000
_BUDGET_BLOCKS = 6_000
_BLOCK_BYTES = 65_536  # stands for 64 MiB, as do the bytes of an image
_IMAGE_BYTES, _IMAGES, _IMAGE_S = _BLOCK_BYTES // 2, 400, 0.08
_RECOMPUTE_S, _RESTORE_S = 0.05, 0.005
_MOST = Division(6_000, 12_000, _IMAGES * _IMAGE_BYTES)
_START, _MOSTLY_DEVICE = (0.3, 0.65), (0.9, 0.08)
_LEAST_GAINS = (0.0005, 0.005)


@dataclass(frozen=True, slots=True)
class Divided:
    """One division of the budget on one load.

    Attributes:
        load: which requests come with an image.
        name: the division, or how it was tuned.
        saved_s: computation saved.
        moves: how often the tuning changed it.
    """

    load: str
    name: str
    saved_s: float
    moves: int


def divisions(trace: Trace) -> list[Divided]:
    """Return the time that each division saves on the trace's first 3,000 requests."""
    workload = trace.workload
    count = min(_REQUESTS, workload.num_requests)
    paths = [
        workload.ids[workload.id_offsets[row] : workload.id_offsets[row + 1]][
            : int(workload.prompt_tokens[row]) // workload.tokens_per_id
        ].tolist()
        for row in range(count)
    ]
    rng = np.random.default_rng(0)
    images, has = rng.zipf(1.2, count) % _IMAGES, rng.random(count)
    loads: dict[str, Callable[[int], bool]] = {
        "20% with an image": lambda row: bool(has[row] < 0.2),
        "images in the second half only": lambda row: row > count // 2 and bool(has[row] < 0.6),
    }
    tuned = {f"tuned, least gain {gain:g}": gain for gain in _LEAST_GAINS}
    rows = []
    for load, asks in loads.items():
        for name, shares, gain in (
            ("as it begins", _START, None),
            ("mostly device", _MOSTLY_DEVICE, None),
            *((name, _START, gain) for name, gain in tuned.items()),
        ):
            allocator = _allocator(shares, gain)
            for row, path in enumerate(paths):
                image = int(images[row])
                if asks(row) and allocator.get_object(image) is None:
                    allocator.put_object(image, bytes(_IMAGE_BYTES), cost_s=_IMAGE_S)
                admitted = allocator.admit(path, len(path) + 1)
                assert admitted is not None, "one request at a time fits"
                allocator.finish(admitted)
            moves = sum(bool(look.moved) for look in allocator.looks)
            rows.append(Divided(load, name, allocator.counts().saved_s, moves))
    return rows


def _allocator(shares: tuple[float, float], least_gain: float | None) -> HybridAllocator:
    budget = _BUDGET_BLOCKS * _BLOCK_BYTES
    device, host = (int(share * _BUDGET_BLOCKS) for share in shares)
    objects = budget - (device + host) * _BLOCK_BYTES
    tuning = None
    if least_gain is not None:
        tuning = Tuning(interval=50, step_share=1 / 20, least_requests=50, least_gain=least_gain)
    return HybridAllocator(
        budget,
        block_bytes=_BLOCK_BYTES,
        recompute_s=_RECOMPUTE_S,
        restore_s=_RESTORE_S,
        most=_MOST,
        start=Division(device, host, min(objects, _MOST.object_bytes)),
        tuning=tuning,
    )
