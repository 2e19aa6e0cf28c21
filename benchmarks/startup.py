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
        compile: the first replay with an empty kernel cache, beyond what the replay takes.
        from_cache: the same with a filled cache.
    """

    help: Seconds
    load: Seconds
    compile: Seconds
    from_cache: Seconds


def startup(trace: Trace, *, repeats: int) -> Startup:
    """Measure all four."""
    help_ = repeat(lambda: process_seconds(kvatlas_command("--help"))[0], repeats)
    with tempfile.TemporaryDirectory() as cache:
        cold = repeat(lambda: _first_replay(Path(cache)), 1)
        warm = repeat(lambda: _first_replay(Path(cache)), repeats)
    load(trace.path, format="mooncake")
    return Startup(help_, repeat(lambda: _load(trace.path), repeats), cold, warm)


def _load(path: Path) -> float:
    started = time.perf_counter()
    load(path)
    return time.perf_counter() - started


def _first_replay(cache: Path) -> float:
    environment = {
        "KVATLAS_CACHE": str(cache),
        "NUMBA_CACHE_DIR": "",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    _, output = process_seconds(
        [sys.executable, "-m", "benchmarks.first_replay"], environment=environment
    )
    seconds = json.loads(output.strip().splitlines()[-1])
    return float(seconds["first_s"] - seconds["second_s"])
