"""Where a process's memory can be read: the kernel, Python's collector, torch, NVML.

Owns: one reading of each source, or why there is none. Leaves to others: when to read and what to
do with it (`monitor`). Nothing here is imported into the process for the sake of a reading, except
NVML's binding where a driver is present; no reading creates a CUDA context.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

__all__ = ["MOST_DEVICES", "GcPauses", "NvmlMemory", "ProcessMemory", "torch_memory"]

MOST_DEVICES = 64
"""Devices of one sample: what a line is bounded by."""

_DRIVER_FILES = ("/dev/nvidiactl", "/dev/dxg", "/proc/driver/nvidia/version")
_STATUS_FIELDS = (
    (b"\nVmRSS:", "rss_bytes"),
    (b"\nVmHWM:", "peak_rss_bytes"),
    (b"\nVmSize:", "vms_bytes"),
    (b"\nVmSwap:", "swap_bytes"),
)
_TORCH_BYTES = (
    ("allocated_bytes", "current", "allocated_bytes"),
    ("allocated_bytes", "peak", "allocated_peak_bytes"),
    ("reserved_bytes", "current", "reserved_bytes"),
    ("reserved_bytes", "peak", "reserved_peak_bytes"),
    ("active_bytes", "current", "active_bytes"),
    ("requested_bytes", "current", "requested_bytes"),
    ("inactive_split_bytes", "current", "inactive_split_bytes"),
)
_TORCH_COUNTS = (("num_alloc_retries", "alloc_retries"), ("num_ooms", "ooms"))


class ProcessMemory:
    """This process as the kernel counts it: one `pread` of an open file, some 20 us.

    `/proc/self/smaps_rollup` would tell shared pages from own ones, but walks every page table with
    the process's memory map locked: too dear beside a model.
    """

    def __init__(self) -> None:
        self._file = -1

    def read(self) -> dict[str, int] | str:
        """Return rss_bytes, peak_rss_bytes, vms_bytes, swap_bytes, or why not. Raises: OSError."""
        if self._file < 0:
            try:
                self._file = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return "no /proc/self/status on this system"
        text = os.pread(self._file, 8192, 0)
        found = {}
        for field, name in _STATUS_FIELDS:
            at = text.find(field)
            if at >= 0:
                found[name] = int(text[at + len(field) : text.index(b"kB", at)]) * 1024
        return found

    def close(self) -> None:
        """Give the file back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class GcPauses:
    """How often Python's collector ran and how long it held everything up.

    The counters only grow, so that no pause is lost between two readings; only the longest pause is
    since the last reading. Cost: 2 us per collection, half of it Python's for asking anybody.
    """

    def __init__(self) -> None:
        self._on_collection, self._counted = _collections_counted()
        self._told = ([0, 0, 0], 0)

    def start(self) -> None:
        """Listen to the collector."""
        if self._on_collection not in gc.callbacks:
            gc.callbacks.append(self._on_collection)

    def stop(self) -> None:
        """Listen no longer."""
        if self._on_collection in gc.callbacks:
            gc.callbacks.remove(self._on_collection)

    def read(self) -> dict[str, Any]:
        """Return runs per generation, pauses, their total and the longest since the last call."""
        runs, total_ns, longest_ns = self._counted()
        told_runs, told_ns = self._told
        self._told = (runs, total_ns)
        new = [now - before for now, before in zip(runs, told_runs, strict=True)]
        return {
            "gen": new,
            "pauses": sum(new),
            "pause_ms_total": round((total_ns - told_ns) / 1e6, 3),
            "pause_ms_max": round(longest_ns / 1e6, 3),
        }


_OnCollection = Callable[[str, dict[str, int]], None]


def _collections_counted() -> tuple[_OnCollection, Callable[[], tuple[list[int], int, int]]]:
    """Return a callback of the collector, and what it has counted: runs, total and longest in ns.

    Variables of a closure: an object's attributes would double the callback's own cost.
    """
    runs = [0, 0, 0]
    began_ns = total_ns = longest_ns = 0

    def on_collection(phase: str, info: dict[str, int]) -> None:
        nonlocal began_ns, total_ns, longest_ns
        if phase == "start":
            began_ns = perf_counter_ns()
        elif began_ns:  # else we began to listen in the middle of one
            took_ns = perf_counter_ns() - began_ns
            began_ns = 0
            runs[info["generation"]] += 1
            total_ns += took_ns
            if took_ns > longest_ns:
                longest_ns = took_ns

    def counted() -> tuple[list[int], int, int]:
        nonlocal longest_ns
        longest, longest_ns = longest_ns, 0
        return list(runs), total_ns, longest

    return on_collection, counted


def torch_memory() -> list[dict[str, int]] | str:
    """Return the CUDA caching allocator's counters per device that it uses, or why there are none.

    Torch is asked only when the process has it and a CUDA context already: asking earlier would
    make one. One call into the allocator per device, some 30 us; it waits for the allocator's lock.

    Source: torch/cuda/memory.py, torch 2.13 (`memory_stats_as_nested_dict`).
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return "torch is not loaded in this process"
    version, cuda = getattr(torch, "version", None), getattr(torch, "cuda", None)
    if cuda is None or not (getattr(version, "cuda", None) or getattr(version, "hip", None)):
        return "this torch is built without CUDA"
    if not cuda.is_initialized():
        return "no CUDA context in this process: its workers are processes of their own"
    devices = []
    for device in range(min(cuda.device_count(), MOST_DEVICES)):
        stats = cuda.memory_stats_as_nested_dict(device)
        reserved = stats.get("reserved_bytes", {}).get("all", {})
        if not reserved.get("peak"):
            continue
        counters = {"device": device}
        for stat, kind, name in _TORCH_BYTES:
            value = stats.get(stat, {}).get("all", {}).get(kind)
            if value is not None:
                counters[name] = int(value)
        for stat, name in _TORCH_COUNTS:
            if stat in stats:
                counters[name] = int(stats[stat])
        devices.append(counters)
    return devices or "torch has reserved no device memory in this process"


class NvmlMemory:
    """Every NVIDIA device of the machine, whoever uses it.

    NVML's binding is loaded at the first reading, and only where a driver is. Calls go through
    ctypes, which lets the engine run meanwhile.
    """

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[tuple[Any, str]] = []
        self._absent = ""

    def read(self) -> list[dict[str, Any]] | str:
        """Return per device its bytes and the share of time it was busy, or why not.

        Raises: what the binding raises when a device fails.
        """
        if self._nvml is None and not self._absent:
            self._absent = self._begin()
        if self._absent:
            return self._absent
        return [
            {"device": number, "name": name} | self._device(handle)
            for number, (handle, name) in enumerate(self._handles)
        ]

    def close(self) -> None:
        """Give NVML back. Raises: what the binding raises."""
        nvml, self._nvml, self._handles = self._nvml, None, []
        if nvml is not None:
            nvml.nvmlShutdown()

    def _begin(self) -> str:
        if not any(Path(file).exists() for file in _DRIVER_FILES):
            return "no NVIDIA driver on this machine"
        # vLLM brings a copy of its own and has loaded it by now.
        nvml: Any = sys.modules.get("vllm.third_party.pynvml")
        if nvml is None:
            try:
                import pynvml
            except ImportError:
                return "NVML's Python binding is not installed (nvidia-ml-py)"
            nvml = pynvml
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            return f"NVML: {error}"
        self._nvml = nvml
        for number in range(min(nvml.nvmlDeviceGetCount(), MOST_DEVICES)):
            handle = nvml.nvmlDeviceGetHandleByIndex(number)
            name = nvml.nvmlDeviceGetName(handle)
            self._handles.append((handle, name if isinstance(name, str) else name.decode()))
        return "" if self._handles else "NVML sees no device"

    def _device(self, handle: Any) -> dict[str, Any]:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        found = {"total_bytes": int(memory.total), "used_bytes": int(memory.used)}
        try:
            busy = self._nvml.nvmlDeviceGetUtilizationRates(handle)
        except self._nvml.NVMLError:
            return found  # a MIG slice does not say
        return found | {"busy_share": busy.gpu / 100, "memory_busy_share": busy.memory / 100}
