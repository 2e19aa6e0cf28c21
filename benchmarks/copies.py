"""How fast blocks are copied, moved, gathered, scattered and digested, as a share of memcpy.

`python -m benchmarks.copies MIB REPEATS [torch|cuda]` prints the figures of one backend as JSON:
the interpreter that has torch is another one. One round measures everything once, memcpy first, and
a share is the median of the rounds' shares, so that a busy machine disturbs both alike.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.clock import process_seconds
from kvatlas.storage import KVCacheMemoryPool, threads

Ids = NDArray[np.int64]

# A block of Llama 3.1 8B in float16: 32 layers, 8 heads of 128; with one head, a rank of eight.
SHAPES = (("layer", 1), ("layer", 8), ("block", 8), ("cross-layer", 8))
BLOCKS_PER_RUN = (1, 8, None)
"""None: all blocks in one run."""
LAYERS, SLOTS, DIMS = 32, 16, 128
_INDEXED_LAYERS = 4


@dataclass(frozen=True)
class CopyRow:
    """One layout at one contiguity: GB/s (bytes copied, not read and written) and its shares.

    memcpy is the faster of one call and of one per thread. Shares are memcpy's seconds over the
    operation's, medians of the rounds. `indexing` is timed on an eighth of the layers.
    """

    backend: str
    layout: str
    span_bytes: int
    blocks_per_run: int
    copied_bytes: int
    memcpy_gb_per_s: float
    gb_per_s: dict[str, float]
    shares: dict[str, float]


@dataclass(frozen=True)
class Copies:
    """NumPy's rows, and torch's with the device's name, or why they are missing."""

    rows: tuple[CopyRow, ...]
    torch_rows: tuple[CopyRow, ...]
    device: str | None
    missing: str | None


def copies(mib: int, repeats: int, torch_python: Path | None) -> Copies:
    """Measure NumPy here, and torch (with CUDA, where there is one) in the other interpreter."""
    rows = measure("numpy", mib, repeats)
    if torch_python is None:
        return Copies(rows, (), None, "no --vllm-python was given, which has torch")
    root = Path(__file__).parents[1]
    command = [str(torch_python), "-m", "benchmarks.copies", str(mib), str(repeats)]
    try:
        _, output = process_seconds(command, environment={"PYTHONPATH": f"{root}:{root / 'src'}"})
    except (SystemExit, OSError) as error:
        return Copies(rows, (), None, str(error).strip().splitlines()[-1])
    told = json.loads(output.strip().splitlines()[-1])
    return Copies(rows, tuple(CopyRow(**row) for row in told["rows"]), told["device"], None)


def measure(backend: str, mib: int, repeats: int) -> tuple[CopyRow, ...]:
    """Measure every shape at every contiguity; backend is numpy, torch or cuda."""
    return tuple(
        _row(backend, layout, heads, mib * 2**20, per_run, repeats)
        for layout, heads in SHAPES
        for per_run in BLOCKS_PER_RUN
    )


def _row(
    backend: str, layout: str, heads: int, size: int, per_run: int | None, repeats: int
) -> CopyRow:
    block_bytes = LAYERS * 2 * SLOTS * heads * DIMS * 2
    count = max(8, size // block_bytes // 8 * 8)
    pool = KVCacheMemoryPool(
        2 * count,
        num_layers=LAYERS,
        block_size=SLOTS,
        kv_heads=heads,
        head_size=DIMS,
        dtype="float16",
        layout=layout,
        backend="numpy" if backend == "numpy" else "torch",
        device="cuda" if backend == "cuda" else "cpu",
    )
    whole = pool.memory.bytes
    whole[:] = 1
    memcpys = _memcpys(backend, whole, count * pool.bytes_per_block)
    doings = _operations(pool, count, per_run or count)
    seconds: dict[str, list[float]] = {name: [] for name in ("memcpy", *doings)}
    for turn in range(repeats + 1):
        took = {name: _seconds(doing, backend) for name, doing in doings.items()}
        took["indexing"] *= LAYERS / _INDEXED_LAYERS
        took["memcpy"] = min(_seconds(memcpy, backend) for memcpy in memcpys)
        if turn:  # the first warms up
            for name, each in took.items():
                seconds[name].append(each)
    copied = count * pool.bytes_per_block
    shares = {
        name: statistics.median(
            memcpy / each for memcpy, each in zip(seconds["memcpy"], seconds[name], strict=True)
        )
        for name in doings
    }
    speeds = {name: copied / statistics.median(all_s) / 1e9 for name, all_s in seconds.items()}
    planes = {"layer": 2 * LAYERS, "block": LAYERS, "cross-layer": 1}[layout]
    return CopyRow(
        backend,
        layout,
        block_bytes // planes,
        per_run or count,
        copied,
        speeds.pop("memcpy"),
        speeds,
        shares,
    )


def _operations(
    pool: KVCacheMemoryPool, count: int, per_run: int
) -> dict[str, Callable[[], object]]:
    """Return what is measured; each writes `count` blocks."""
    rng = np.random.default_rng(0)
    low = np.arange(count)
    runs = low.reshape(-1, per_run)
    froms = rng.permutation(runs).reshape(-1)
    tos = count + rng.permutation(runs).reshape(-1)
    # Without runs to shuffle, the halves change places.
    turned = rng.permutation(runs).reshape(-1) if len(runs) > 1 else np.roll(low, count // 2)
    rows = pool.gather(froms)
    if pool.backend == "torch":
        import torch

        source_ids, target_ids = (torch.from_numpy(ids).to(pool.device) for ids in (froms, tos))

        def indexing() -> None:
            for layer in pool.layers[:_INDEXED_LAYERS]:
                layer.index_copy_(0, target_ids, layer.index_select(0, source_ids))
    else:

        def indexing() -> None:
            for layer in pool.layers[:_INDEXED_LAYERS]:
                layer[tos] = layer[froms]

    return {
        "copy": lambda: pool.copy(froms, tos),
        "permute": lambda: pool.move(low, turned),
        "shift": lambda: pool.move(low + per_run, low),
        "gather": lambda: pool.gather(froms, out=rows),
        "scatter": lambda: pool.scatter(tos, rows),
        "digest": lambda: pool.digest(froms),
        "indexing": indexing,
    }


def _memcpys(backend: str, whole: Any, size: int) -> list[Callable[[], object]]:
    """Return contiguous copies of the same bytes: in one call, and in one call per thread."""
    source, target = whole[:size], whole[size : 2 * size]
    if backend == "cuda":
        return [lambda: target.copy_(source)]
    parts = threads.num_threads()
    cuts = [size * part // parts for part in range(parts + 1)]

    def part(first: int, last: int) -> None:
        np.copyto(target[first:last], source[first:last])

    return [lambda: part(0, size), lambda: threads.in_threads(part, list(pairwise(cuts)))]


def _seconds(doing: Callable[[], object], backend: str) -> float:
    synchronize: Callable[[], object] = int
    if backend == "cuda":
        import torch

        synchronize = torch.cuda.synchronize
    synchronize()
    started = time.perf_counter()
    doing()
    synchronize()
    return time.perf_counter() - started


def _main() -> None:
    import torch

    mib, repeats = int(sys.argv[1]), int(sys.argv[2])
    cuda = torch.cuda.is_available()
    rows = measure("torch", mib, repeats) + (measure("cuda", mib, repeats) if cuda else ())
    device = torch.cuda.get_device_name() if cuda else None
    print(json.dumps({"rows": [asdict(row) for row in rows], "device": device}))


if __name__ == "__main__":
    _main()
