"""One peer at one capacity over block ids prepared for it: the other side of the curve.

Runs as a script in an interpreter that holds the peer and needs nothing of kvatlas:

    python benchmarks/peer_driver.py libcachesim FOLDER --capacity 96000

FOLDER holds `blocks.i64`, the ids of all requests' blocks one after another, and `offsets.i64`,
where each request's begin. Equal ids are equal prefixes. Prints one JSON object; on the clock is
only the peer's own work, not what brings the ids into the shape it wants. A peer that cannot be
imported, or that measured nothing, is no error: the object then says why.
"""

from __future__ import annotations

import argparse
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import json
import resource
import sys
import time
import types
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
Measured = tuple[float, float]
"""Seconds, and hit blocks over looked-up blocks."""


class NothingMeasuredError(Exception):
    """The peer ran and gave no figure; the message says why."""


def libcachesim(blocks: I64, offsets: I64, capacity: int, folder: Path) -> Measured:
    """LRU over a flat list of ids, read by libCacheSim's own reader in its own loop."""
    import libcachesim as lcs

    trace = np.zeros(
        blocks.size, dtype=[("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")]
    )
    trace["id"], trace["size"] = blocks, 1
    path = folder / "trace.oracleGeneral.bin"
    trace.tofile(path)
    reader = lcs.TraceReader(
        str(path), lcs.TraceType.ORACLE_GENERAL_TRACE, lcs.ReaderInitParam(ignore_obj_size=True)
    )
    cache = lcs.LRU(cache_size=capacity)
    started = time.perf_counter()
    missed, _ = cache.process_trace(reader)
    seconds = time.perf_counter() - started
    path.unlink()
    return seconds, 1 - missed


def kvcache_simulator(blocks: I64, offsets: I64, capacity: int, folder: Path) -> Measured:
    """LRU by its C++ part, compiled before, the trace handed over as its own front end does.

    It measures once the cache is full, by default the last half of the requests; so here.
    """
    from kvcache_sim.cpp_backend import ensure_cpp_simulator, run_cpp_sweep
    from kvcache_sim.trace import TraceData

    block_tokens = 16  # only a weight here: every block has the same
    trace = TraceData(
        ids=blocks.tolist(),
        tokens=[block_tokens] * blocks.size,
        request_starts=offsets.tolist(),
        block_size=block_tokens,
        request_count=offsets.size - 1,
        unique_raw_blocks=int(blocks.max()) + 1,
        total_input_tokens=block_tokens * blocks.size,
        average_input_tokens=block_tokens * blocks.size / (offsets.size - 1),
        parse_errors=0,
        skipped_records=0,
    )
    ensure_cpp_simulator()
    started = time.perf_counter()
    swept = run_cpp_sweep(
        trace, capacities=[capacity], policies=["lru"], warmup_requests=trace.request_count // 2
    )
    seconds = time.perf_counter() - started
    result = swept.results["lru", capacity]
    if result.measurementMode != "fixed_window":
        raise NothingMeasuredError("the cache was not full after half of the requests")
    return seconds, result.hitRate


def sglang(blocks: I64, offsets: I64, capacity: int, folder: Path) -> Measured:
    """RadixCache with one token per block: match, insert, then evict down to the capacity."""
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.append(_StandIns())
    import torch
    from sglang.srt.mem_cache.base_prefix_cache import EvictParams, InsertParams, MatchPrefixParams
    from sglang.srt.mem_cache.radix_cache import RadixCache, RadixKey

    cache = RadixCache.create_simulated(mock_allocator=_Allocator())
    keys = [
        RadixKey(array("q", blocks[low:high].tobytes()))
        for low, high in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        if low < high
    ]
    slots = torch.arange(int(np.diff(offsets).max()))
    gc.freeze()  # or every collection walks all that importing SGLang has left
    hits = 0
    started = time.perf_counter()
    for key in keys:
        hits += cache.match_prefix(MatchPrefixParams(key=key)).device_prefix_len
        cache.insert(InsertParams(key=key, value=slots[: len(key)]))
        over = cache.evictable_size() - capacity
        if over > 0:
            cache.evict(EvictParams(num_tokens=over))
    return time.perf_counter() - started, hits / blocks.size


class _Allocator:
    """What RadixCache hands evicted slots back to."""

    device = "cpu"

    def free_segment(self, value: Any, start_pos: int = 0) -> None:
        """Take the slots."""


class _Any(type):
    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


class _Nothing(metaclass=_Any):
    """Stands for any name that is imported and never used."""


class _Empty(types.ModuleType):
    __version__ = "0"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules for torchvision: SGLang's package imports it, its prefix cache has no use."""

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Answer for torchvision and all below it."""
        if name.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Return an empty module."""
        return _Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Leave it empty."""


PEERS: dict[str, Callable[[I64, I64, int, Path], Measured]] = {
    "libcachesim": libcachesim,
    "kvcache-simulator": kvcache_simulator,
    "sglang": sglang,
}


def main() -> None:
    """Measure one peer and print what was measured, or why it could not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--capacity", type=int, required=True)
    settings = parser.parse_args()
    blocks, offsets = (
        np.fromfile(settings.folder / f"{name}.i64", np.int64) for name in ("blocks", "offsets")
    )
    told: dict[str, Any]
    try:
        seconds, hit_rate = PEERS[settings.peer](
            blocks, offsets, settings.capacity, settings.folder
        )
    except ImportError as error:
        told = {"missing": f"cannot be imported: {error}"}
    except NothingMeasuredError as error:
        told = {"missing": str(error)}
    else:
        peaks = [
            resource.getrusage(who).ru_maxrss
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        ]
        told = {"seconds": seconds, "hit_rate": hit_rate, "peak_mib": max(peaks) / 1024}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
