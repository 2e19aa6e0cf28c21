"""The whole exact curve beside peers that need as long for one capacity, and how it grows."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.clock import Seconds, process_seconds, repeat
from benchmarks.slope import Point, Slope
from benchmarks.trace import Trace
from kvatlas.measure.curves import (
    LruCurve,
    Optimum,
    Paths,
    ReuseRuns,
    lru_curve,
    request_paths,
    reuse_runs,
)
from kvatlas.workload import Workload, generate

BLOCK_SIZE = 16
CAPACITY_BLOCKS = 96_000
PEERS = ("libcachesim", "kvcache-simulator", "sglang")
WHAT = {
    "libcachesim": "libCacheSim, LRU, flat ids",
    "kvcache-simulator": "kvcache-simulator, LRU (last half)",
    "sglang": "SGLang's RadixCache",
}


@dataclass(frozen=True)
class Peer:
    """One peer at one capacity; all but the name are None where it is missing, and says why."""

    name: str
    seconds: Seconds | None = None
    hit_rate: float | None = None
    peak_mib: float | None = None
    missing: str | None = None


@dataclass(frozen=True)
class Curves:
    """kvatlas's whole curve and its optimum at one capacity, and the peers at that capacity.

    Hit rates are hit blocks over looked-up blocks. `curve` starts from the trace in memory, as the
    peers do; `optimum` includes the pass that the curve needs too.
    """

    requests: int
    blocks: int
    capacity_blocks: int
    curve: Seconds
    lru_hit_rate: float
    optimum: Seconds
    optimum_hit_rate: float
    peers: tuple[Peer, ...]


@dataclass(frozen=True)
class AtScale:
    """A large generated trace in a process of its own: seconds, and peak resident memory."""

    requests: int
    blocks: int
    distinct_blocks: int
    generate_s: float
    curve_s: float
    generated_peak_mib: float
    peak_mib: float

    @property
    def total_s(self) -> float:
        """Generation and curve."""
        return self.generate_s + self.curve_s


def curves(trace: Trace, *, repeats: int, peers_python: Path | None) -> Curves:
    """Measure the curve, the optimum and the peers on full blocks of `trace`, inputs only."""
    workload = trace.workload
    curve, runs, paths = whole_curve(workload)  # also loads the compiled kernels
    hits = int(Optimum(runs).hits(CAPACITY_BLOCKS).sum(dtype=np.int64))

    def one_curve() -> float:
        started = time.perf_counter()
        whole_curve(workload)
        return time.perf_counter() - started

    def one_optimum() -> float:
        started = time.perf_counter()
        Optimum(reuse_runs(request_paths(workload, BLOCK_SIZE))).hits(CAPACITY_BLOCKS)
        return time.perf_counter() - started

    return Curves(
        requests=workload.num_requests,
        blocks=paths.queried_blocks,
        capacity_blocks=CAPACITY_BLOCKS,
        curve=repeat(one_curve, repeats),
        lru_hit_rate=int(curve.blocks(CAPACITY_BLOCKS)[0]) / paths.queried_blocks,
        optimum=repeat(one_optimum, repeats),
        optimum_hit_rate=hits / paths.queried_blocks,
        peers=_peers(workload, peers_python, repeats),
    )


def whole_curve(workload: Workload) -> tuple[LruCurve, ReuseRuns, Paths]:
    """Return the curve and what it came from."""
    paths = request_paths(workload, BLOCK_SIZE)
    runs = reuse_runs(paths)
    return lru_curve(runs), runs, paths


def block_ids(workload: Workload) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ids of all full blocks (M,) and where each request's begin (N + 1,).

    An id of the trace spans several blocks; each gets a number of its own.
    """
    per_id, odd = divmod(workload.tokens_per_id, BLOCK_SIZE)
    if odd:
        raise SystemExit(f"an id of {workload.tokens_per_id} tokens does not hold whole blocks")
    blocks = (workload.prompt_tokens // BLOCK_SIZE).astype(np.int64)
    offsets = np.append(0, np.cumsum(blocks))
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], blocks)
    spans = workload.ids[np.repeat(workload.id_offsets[:-1], blocks) + within // per_id]
    return spans.astype(np.int64) * per_id + within % per_id, offsets


def over_prefixes(sizes: Sequence[int], *, repeats: int) -> Slope:
    """Make the curve of ever longer beginnings of one generated trace of agents."""
    whole = generate("agents", seed=0, num_requests=max(sizes))
    points = []
    for size in sizes:
        workload = whole.head(size)
        blocks = whole_curve(workload)[2].queried_blocks

        def once(workload: Workload = workload) -> float:
            started = time.perf_counter()
            whole_curve(workload)
            return time.perf_counter() - started

        seconds = repeat(once, repeats, at_least_s=0.2)
        points.append(Point(size, blocks, seconds.median / blocks * 1e9))
    return Slope("requests", tuple(points), per="block")


def at_scale(num_blocks: int) -> AtScale:
    """Make the curve of a generated trace with about `num_blocks` block accesses."""
    root = Path(__file__).parents[1]
    _, output = process_seconds(
        [sys.executable, "-m", "benchmarks.curve_at_scale", str(num_blocks)],
        environment={"PYTHONPATH": str(root)},
    )
    return AtScale(**json.loads(output.strip().splitlines()[-1]))


def _peers(workload: Workload, python: Path | None, repeats: int) -> tuple[Peer, ...]:
    if python is None:
        return tuple(Peer(name, missing="no --peers-python was given") for name in PEERS)
    with tempfile.TemporaryDirectory() as folder:
        for name, values in zip(("blocks", "offsets"), block_ids(workload), strict=True):
            values.tofile(Path(folder) / f"{name}.i64")
        return tuple(_peer(name, python, Path(folder), min(3, repeats)) for name in PEERS)


def _peer(name: str, python: Path, folder: Path, repeats: int) -> Peer:
    driver = Path(__file__).with_name("peer_driver.py")
    command = [str(python), str(driver), name, str(folder), f"--capacity={CAPACITY_BLOCKS}"]
    seconds, told = [], {}
    for _ in range(repeats):
        try:
            _, output = process_seconds(command)
        except (SystemExit, OSError) as error:
            return Peer(name, missing=str(error).strip().splitlines()[-1])
        told = json.loads(output.strip().splitlines()[-1])
        if "missing" in told:
            return Peer(name, missing=told["missing"])
        seconds.append(float(told["seconds"]))
    return Peer(name, Seconds(tuple(seconds)), told["hit_rate"], told["peak_mib"])
