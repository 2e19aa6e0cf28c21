"""What a user waits for before the first result: help, reading the trace, compiling, loading."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clock import Seconds, kvatlas_command, process_seconds, repeat
from benchmarks.trace import Trace
from kvatlas.workload import load


@dataclass(frozen=True)
class Startup:
    """Seconds, each the median of several runs but for the compilation from nothing.

    Attributes:
        help: `kvatlas --help`, the whole process.
        load: reading the trace in a process that has read one before.
        imports: importing the engine with NumPy and Numba, and drawing three requests.
        compile: making the kernels ready with an empty cache.
        from_cache: the same with a filled cache.
    """

    help: Seconds
    load: Seconds
    imports: Seconds
    compile: Seconds
    from_cache: Seconds


def startup(trace: Trace, *, repeats: int) -> Startup:
    """Measure all of them."""
    help_ = repeat(lambda: process_seconds(kvatlas_command("--help"))[0], repeats)
    with tempfile.TemporaryDirectory() as cache:
        cold = _first_replay(Path(cache))
        warm = [_first_replay(Path(cache)) for _ in range(repeats)]
    load(trace.path, format="mooncake")
    return Startup(
        help=help_,
        load=repeat(lambda: _load(trace.path), repeats),
        imports=Seconds(tuple(run["import_s"] for run in warm)),
        compile=Seconds((cold["kernels_s"],)),
        from_cache=Seconds(tuple(run["kernels_s"] for run in warm)),
    )


def _load(path: Path) -> float:
    started = time.perf_counter()
    load(path)
    return time.perf_counter() - started


def _first_replay(cache: Path) -> dict[str, float]:
    environment = {
        "KVATLAS_CACHE": str(cache),
        "NUMBA_CACHE_DIR": "",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    _, output = process_seconds(
        [sys.executable, "-m", "benchmarks.first_replay"], environment=environment
    )
    seconds: dict[str, float] = json.loads(output.strip().splitlines()[-1])
    return seconds
