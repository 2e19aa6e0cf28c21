"""The memory monitor: what it sees, what it costs, and that nothing of it reaches the engine."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from kvatlas.errors import InputError
from kvatlas.events.live.memory import read_memory
from kvatlas.live import bounded_lines, monitor
from kvatlas.live.monitor import MEMORY_FILE, MemoryMonitor, memory_interval_s, start_monitor


def wait_for(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is so, and fail when it never is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of samples, which are all whole."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run_alone(script: str, *arguments: str) -> str:
    """Run a script in a process of its own and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_samples_come_at_the_interval_and_read_back(tmp_path: Path) -> None:
    # GIVEN a monitor on a clock of ours WHEN it runs THEN each sample is in the file, in order
    ticks = iter(range(10_000))
    watch = start_monitor(tmp_path / MEMORY_FILE, lambda: float(next(ticks)), 0.05)
    wait_for(lambda: len(read_memory(tmp_path)) >= 4)
    watch.stop()
    samples = read_memory(tmp_path)
    assert [sample.t_ms for sample in samples] == list(range(len(samples)))
    assert len(samples) == next(ticks)
    assert watch.errors == 0
    assert not watch.history
    first, last = samples[0], samples[-1]
    assert first.rss_bytes is not None and first.peak_rss_bytes is not None
    assert 1 << 20 < first.rss_bytes <= first.peak_rss_bytes
    assert first.vms_bytes is not None and first.vms_bytes > first.rss_bytes
    assert abs(first.wall_s - time.time()) < 60
    assert last.cpu_s is not None and first.cpu_s is not None and last.cpu_s >= first.cpu_s
    assert last.gc is not None


def test_history_keeps_the_newest_and_needs_no_file() -> None:
    with MemoryMonitor(0.05, keep=3) as watch:
        wait_for(lambda: len(watch.history) == 3 and watch.history[0]["t_ms"] > 60)
    assert len(watch.history) == 3
    times = [sample["t_ms"] for sample in watch.history]
    assert times == sorted(times)


def test_memory_that_is_taken_is_seen() -> None:
    watch = MemoryMonitor()
    before = watch.sample()["rss_bytes"]
    taken = bytearray(64 << 20)
    taken[:: 1 << 12] = b"x" * (len(taken) >> 12)
    after = watch.sample()["rss_bytes"]
    assert 60 << 20 < after - before < 80 << 20
    del taken
    # The kernel counts per processor and adds up late: within a few MiB.
    assert watch.sample()["peak_rss_bytes"] > after - (4 << 20)


def test_every_collection_is_counted_once() -> None:
    # GIVEN collections with a heap of cycles WHEN samples are taken between them THEN sums agree
    watch = MemoryMonitor(3600.0)
    gc.collect()
    with watch:
        wait_for(lambda: bool(watch.history))
        parts = [watch.history[0]["gc"]]
        for _ in range(5):
            knots: list[list[Any]] = [[] for _ in range(20_000)]
            for knot in knots:
                knot.append(knot)
            del knots, knot
            gc.collect()
            parts.append(watch.sample()["gc"])
    assert sum(part["gen"][-1] for part in parts) == 5
    assert all(sum(part["gen"]) == part["pauses"] for part in parts)
    for part in parts[1:]:
        assert 0 < part["pause_ms_max"] <= part["pause_ms_total"] < 10_000
    # AND once stopped nobody listens any more
    gc.collect()
    assert watch.sample()["gc"]["pauses"] == 0
    assert not any("kvatlas" in getattr(call, "__module__", "") for call in gc.callbacks)


def test_a_stopped_monitor_has_taken_a_last_sample() -> None:
    with MemoryMonitor(3600.0) as watch:
        wait_for(lambda: len(watch.history) == 1)
        watch.start()
    assert len(watch.history) == 2
    watch.stop()
    assert len(watch.history) == 2


def test_the_file_has_a_bound_and_each_says_why_a_source_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_lines, "_MOST_FILE_BYTES", 2000)
    watch = MemoryMonitor(path=tmp_path / MEMORY_FILE)
    for _ in range(100):
        watch._tick()
    assert {path.name for path in tmp_path.iterdir()} == {MEMORY_FILE, "memory.older.jsonl"}
    for path in tmp_path.iterdir():
        assert path.stat().st_size < 3000
        first, *rest = lines_of(path)
        assert isinstance(first["nvml"], str) and isinstance(first["torch"], str)
        assert not any("nvml" in line or "torch" in line for line in rest)
    samples = read_memory(tmp_path)
    assert all(sample.torch_reason and sample.nvml_reason for sample in samples)
    assert 5 < len(samples) < 30


def test_a_full_disk_is_counted_and_the_monitor_goes_on() -> None:
    # /dev/full takes nothing, ever.
    watch = MemoryMonitor(0.05, path=Path("/dev/full"))
    with watch:
        wait_for(lambda: watch.errors >= 3)
    assert "No space left" in watch.last_error
    assert len(watch.history) >= 3


def test_a_line_that_the_disk_cut_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = MemoryMonitor(path=tmp_path / MEMORY_FILE)
    watch._tick()
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda file, line: write(file, line[:20]))
        watch._tick()
    watch._tick()
    assert watch.errors == 1 and "20 of" in watch.last_error
    assert [sample.t_ms for sample in read_memory(tmp_path)] == [
        watch.history[0]["t_ms"],
        watch.history[2]["t_ms"],
    ]


def test_a_folder_that_comes_later_is_found(tmp_path: Path) -> None:
    watch = MemoryMonitor(path=tmp_path / "later" / MEMORY_FILE)
    watch._tick()
    assert watch.errors == 1
    (tmp_path / "later").mkdir()
    watch._tick()
    assert watch.errors == 1
    assert len(read_memory(tmp_path / "later")) == 1


def test_a_clock_may_go_backwards_or_fail(tmp_path: Path) -> None:
    times = iter([100.0, 50.0, -1e6])
    watch = MemoryMonitor(path=tmp_path / MEMORY_FILE, clock_ms=lambda: next(times))
    for _ in range(4):
        watch._tick()
    assert [sample.t_ms for sample in read_memory(tmp_path)] == [100.0, 50.0, -1e6]
    assert watch.errors == 1
    assert "StopIteration" in watch.last_error


def test_a_source_that_hangs_does_not_hold_up_whoever_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitor, "_STOP_WAIT_S", 0.1)
    release = Event()
    monkeypatch.setattr(monitor, "torch_memory", release.wait)
    watch = MemoryMonitor(0.05)
    watch.start()
    thread = watch._thread
    began = time.monotonic()
    watch.stop()
    assert time.monotonic() - began < 2
    assert thread is not None and thread.is_alive() and thread.daemon
    release.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_forked_child_neither_samples_nor_listens() -> None:
    assert run_alone(_FORK) == "0 0\n"


_FORK = """
import gc, os, time, warnings
from kvatlas.live.monitor import MemoryMonitor
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of forking beside a thread
with MemoryMonitor(0.05) as watch:
    while not watch.history:
        time.sleep(0.01)
    child = os.fork()
    if not child:
        before = len(watch.history)
        time.sleep(0.3)
        print(len(gc.callbacks), len(watch.history) - before, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_it_loads_nothing_heavy_and_costs_less_than_a_thousandth_of_a_core() -> None:
    heavy, median_ms = run_alone(_COST).split()
    assert heavy == "[]"
    assert float(median_ms) < 1.0, "processor time of a sample, taken every second"


_COST = """
import statistics, sys, time
from kvatlas.live.monitor import MemoryMonitor
with MemoryMonitor(0.05) as watch:
    while len(watch.history) < 30:
        time.sleep(0.05)
names = ("numpy", "numba", "msgspec", "pyarrow", "torch", "pynvml", "psutil", "vllm", "rich")
print([name for name in names if name in sys.modules], end=" ")
spent = [sample["monitor_cpu_ms"] for sample in watch.history]
print(statistics.median(b - a for a, b in zip(spent, spent[1:], strict=False)))
"""


def test_the_interval_is_read_as_people_write_it() -> None:
    assert memory_interval_s(None) == 1.0
    assert memory_interval_s(" ") == 1.0
    assert memory_interval_s("0") is None
    assert memory_interval_s("0.5") == 0.5
    for text in ("fast", "nan", "-1", "inf", "0.001", "1e9"):
        with pytest.raises(InputError, match=r"KVATLAS_MEMORY_INTERVAL: must be 0.05 to 3600"):
            memory_interval_s(text)
    with pytest.raises(InputError, match="interval_s"):
        start_monitor(Path("nowhere"), time.monotonic, 0.0)
