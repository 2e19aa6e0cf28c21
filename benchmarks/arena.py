"""Byte arenas beside naive ones and beside the memory pools of PyArrow, on the same courses.

Owns: the courses, the contenders, time per operation, and how much memory each needs for what is
live. A course fills up and then replaces one allocation after the other, chosen at random.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.trace import Trace
from kvatlas.storage.arena import GPUMemoryPool, IntelligentMemoryPool

I64 = NDArray[np.int64]

GRANULE = 256
_BYTES_PER_TOKEN = 256
"""Of a request's KV in the course of the trace: small enough to be written into."""
_SPREAD_LIVE = 8_000
_NAIVE_MOST = 10_000
_PYARROW = ("system", "jemalloc", "mimalloc")


@dataclass(frozen=True)
class Course:
    """`sizes[:live]` fill up; then the `victims[i]`-th gives way to `sizes[live + i]`."""

    name: str
    sizes: I64
    victims: I64
    live: int

    @property
    def peak_bytes(self) -> int:
        """The most bytes that are asked for at a time."""
        held = self.sizes[: self.live].copy()
        peak = total = int(held.sum())
        for victim, size in zip(self.victims, self.sizes[self.live :], strict=True):
            total += int(size - held[victim])
            held[victim] = size
            peak = max(peak, total)
        return peak


@dataclass(frozen=True)
class Operation:
    """Time of one allocation and its free at a number of live allocations; None: not measured."""

    contender: str
    live: int
    single_ns: float
    bulk_ns: float | None


@dataclass(frozen=True)
class Need:
    """How much memory a course needs, over the most bytes that it asked for at a time."""

    contender: str
    course: str
    overhead: float


def courses(trace: Trace, steps: int) -> list[Course]:
    """Return sizes over three magnitudes, and a trace's requests kept as one piece of KV each."""
    rng = np.random.default_rng(0)
    lengths = trace.workload.prompt_tokens.astype(np.int64) + trace.workload.output_tokens
    live = 100
    tokens = rng.choice(lengths, live + steps)
    return [
        spread_sizes(_SPREAD_LIVE, steps),
        Course(
            f"whole KV of {live} requests of {trace.what}",
            np.maximum(1, tokens) * _BYTES_PER_TOKEN,
            rng.integers(0, live, steps),
            live,
        ),
    ]


def spread_sizes(live: int, steps: int) -> Course:
    """Return log-uniform sizes from 64 B to 64 KiB."""
    rng = np.random.default_rng(live)
    sizes = np.exp(rng.uniform(np.log(64), np.log(65_536), live + steps)).astype(np.int64)
    return Course("64 B to 64 KiB, log-uniform", sizes, rng.integers(0, live, steps), live)


class NaiveArena:
    """Free ranges in a Python list by address, looked through from the front."""

    def __init__(self, capacity: int, best: bool) -> None:
        self.free, self._best = [(0, capacity)], best

    def allocate(self, nbytes: int) -> tuple[int, int] | None:
        """Return (offset, length): the first range that fits, or the smallest."""
        length = -(-nbytes // GRANULE) * GRANULE
        found = -1
        for at, (_, whole) in enumerate(self.free):
            if whole >= length and (found < 0 or whole < self.free[found][1]):
                found = at
                if not self._best or whole == length:
                    break
        if found < 0:
            return None
        offset, whole = self.free[found]
        if whole == length:
            del self.free[found]
        else:
            self.free[found] = (offset + length, whole - length)
        return offset, length

    def release(self, held: tuple[int, int]) -> None:
        """Take a range back and merge it."""
        offset, length = held
        at = bisect_left(self.free, held)
        if at < len(self.free) and self.free[at][0] == offset + length:
            length += self.free.pop(at)[1]
        if at > 0 and sum(self.free[at - 1]) == offset:
            offset, before = self.free.pop(at - 1)
            length += before
        insort(self.free, (offset, length))


Calls = tuple[Callable[[int], Any], Callable[[Any], Any]]


def contenders(capacity: int) -> dict[str, Callable[[], Calls]]:
    """Return by name how to get the calls (allocate, free) of each in an arena of that size."""

    def ours(make: type[GPUMemoryPool]) -> Calls:
        pool = make(capacity, granule=GRANULE)
        return pool.allocate, pool.free

    def naive(best: bool) -> Calls:
        arena = NaiveArena(capacity, best)
        return arena.allocate, arena.release

    found: dict[str, Callable[[], Calls]] = {
        "GPUMemoryPool": lambda: ours(GPUMemoryPool),
        "IntelligentMemoryPool": lambda: ours(IntelligentMemoryPool),
        "naive first fit": lambda: naive(False),
        "naive best fit": lambda: naive(True),
    }
    for backend in _PYARROW:
        if backend in pa.supported_memory_backends():
            found[f"PyArrow {backend}"] = partial(_pyarrow, backend)
    return found


def _pyarrow(backend: str) -> Calls:
    pool = getattr(pa, f"{backend}_memory_pool")()
    return lambda nbytes: pa.allocate_buffer(nbytes, pool), lambda buffer: None


def run_course(course: Course, allocate: Callable[[int], Any], free: Callable[[Any], Any]) -> bool:
    """Run a course call by call; False when something did not fit."""
    sizes = course.sizes.tolist()
    held = [allocate(size) for size in sizes[: course.live]]
    if any(one is None for one in held):
        return False
    for victim, size in zip(course.victims.tolist(), sizes[course.live :], strict=True):
        free(held[victim])
        held[victim] = None
        got = allocate(size)
        if got is None:
            return False
        held[victim] = got
    return True


def operations(live_counts: tuple[int, ...], *, steps: int) -> list[Operation]:
    """Return the time of an allocation and its free, at growing numbers of live allocations."""
    rows = []
    for live in live_counts:
        course = spread_sizes(live, steps)
        for name, make in contenders(2 * course.peak_bytes).items():
            if name.startswith("naive") and live > _NAIVE_MOST:
                continue
            allocate, free = make()
            held = [allocate(size) for size in course.sizes[:live].tolist()]
            pairs = list(zip(course.victims.tolist(), course.sizes[live:].tolist(), strict=True))
            started = time.perf_counter()
            for victim, size in pairs:
                free(held[victim])
                held[victim] = None
                held[victim] = allocate(size)
            single = (time.perf_counter() - started) / steps
            bulk = _bulk_s(name, course) if name.endswith("MemoryPool") else None
            rows.append(Operation(name, live, single * 1e9, bulk and bulk * 1e9))
    return rows


def _bulk_s(name: str, course: Course) -> float:
    make = GPUMemoryPool if name == "GPUMemoryPool" else IntelligentMemoryPool
    pool = make(2 * course.peak_bytes, granule=GRANULE)
    handles = pool.allocate_many(course.sizes[: course.live])
    batch = min(1_000, course.live // 2, course.victims.size // 2)
    pool.free_many(handles[:batch])  # compiles, or loads what was compiled
    handles[:batch] = pool.allocate_many(course.sizes[:batch])
    rng, seconds, done = np.random.default_rng(1), 0.0, 0
    for start in range(course.live, course.sizes.size - batch, batch):
        which = rng.permutation(course.live)[:batch]
        started = time.perf_counter()
        pool.free_many(handles[which])
        handles[which] = pool.allocate_many(course.sizes[start : start + batch])
        seconds += time.perf_counter() - started
        done += batch
    return seconds / done


def needs(course: Course) -> list[Need]:
    """Return how much memory every contender needs: its smallest arena, or its resident pages."""
    peak, rows = course.peak_bytes, []
    for name in contenders(peak):
        if name.startswith("PyArrow"):
            bytes_needed = _resident_bytes(name.split()[1], course)
        else:
            bytes_needed = _smallest_arena(name, course, peak)
        rows.append(Need(name, course.name, bytes_needed / peak))
    return rows


def _smallest_arena(name: str, course: Course, peak: int) -> int:
    """Return the smallest arena in which the course runs, to half a percent."""
    low, high = peak, 2 * peak  # the first is rarely, the second always enough
    while high - low > peak // 200:
        middle = (low + high) // 2
        if run_course(course, *contenders(middle)[name]()):
            high = middle
        else:
            low = middle
    return high


def _resident_bytes(backend: str, course: Course) -> int:
    told = {"backend": backend, "live": course.live}
    told |= {"sizes": course.sizes.tolist(), "victims": course.victims.tolist()}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.arena"],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def _measure_resident() -> None:
    """In a process of its own: run the course that comes in, touch every page, say the peak."""
    told = json.loads(sys.stdin.read())
    course = Course("", np.array(told["sizes"]), np.array(told["victims"]), told["live"])
    allocate, free = _pyarrow(told["backend"])

    def touched(nbytes: int) -> Any:
        buffer = allocate(nbytes)
        np.frombuffer(buffer, np.uint8)[::1024] = 1
        return buffer

    before = _status_bytes("VmRSS")
    run_course(course, touched, free)
    print(_status_bytes("VmHWM") - before)


def _status_bytes(name: str) -> int:
    # Not getrusage: its peak outlives exec and is the parent's.
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


if __name__ == "__main__":
    _measure_resident()
