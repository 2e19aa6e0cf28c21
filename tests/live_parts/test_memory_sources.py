"""Each source of memory figures, or why there is none; torch and NVML stood in for.

The stand-ins answer as torch 2.13 and nvidia-ml-py 13 do; none of the machines that run these tests
needs a device.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kvatlas.events.live.memory import DeviceMemory, TorchMemory, read_memory
from kvatlas.live import memory_sources
from kvatlas.live.memory_sources import NvmlMemory, ProcessMemory, torch_memory
from kvatlas.live.monitor import MEMORY_FILE, MemoryMonitor


def counter(current: int, peak: int) -> dict[str, Any]:
    """Return a counter of torch's allocator."""
    return {"all": {"current": current, "peak": peak, "allocated": peak, "freed": peak - current}}


STATS = {
    "allocated_bytes": counter(500, 700),
    "reserved_bytes": counter(1000, 1200),
    "active_bytes": counter(510, 710),
    "requested_bytes": counter(490, 690),
    "inactive_split_bytes": counter(90, 95),
    "num_alloc_retries": 2,
    "num_ooms": 1,
}


class Cuda:
    """`torch.cuda` with two devices, of which this process uses the second."""

    def __init__(self, initialized: bool = True) -> None:
        self._initialized = initialized

    def is_initialized(self) -> bool:
        return self._initialized

    def is_available(self) -> bool:
        raise AssertionError("asking would make a context or load the driver")

    def device_count(self) -> int:
        assert self._initialized
        return 2

    def memory_stats_as_nested_dict(self, device: int) -> dict[str, Any]:
        assert self._initialized
        return STATS if device else {"reserved_bytes": counter(0, 0)}


def stand_in(monkeypatch: pytest.MonkeyPatch, cuda: object, version: str | None = "13.0") -> None:
    """Put a torch into the process."""
    torch = SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda=version, hip=None))
    monkeypatch.setitem(sys.modules, "torch", torch)


def test_torch_is_never_loaded_and_never_made_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert torch_memory() == "torch is not loaded in this process"
    assert "torch" not in sys.modules
    stand_in(monkeypatch, Cuda(), version=None)
    assert torch_memory() == "this torch is built without CUDA"
    stand_in(monkeypatch, Cuda(initialized=False))
    assert "no CUDA context in this process" in torch_memory()


def test_torch_counts_the_devices_that_this_process_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, Cuda())
    MemoryMonitor(path=tmp_path / MEMORY_FILE)._tick()
    (sample,) = read_memory(tmp_path)
    assert sample.torch_reason == ""
    assert sample.torch == (
        TorchMemory(
            device=1,
            allocated_bytes=500,
            allocated_peak_bytes=700,
            reserved_bytes=1000,
            reserved_peak_bytes=1200,
            active_bytes=510,
            requested_bytes=490,
            inactive_split_bytes=90,
            alloc_retries=2,
            ooms=1,
        ),
    )
    monkeypatch.setattr(Cuda, "memory_stats_as_nested_dict", lambda self, device: {})
    assert torch_memory() == "torch has reserved no device memory in this process"


def test_a_source_that_fails_says_so_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Cuda, device: int) -> dict[str, Any]:
        raise RuntimeError("CUDA error: unspecified launch failure")

    stand_in(monkeypatch, Cuda())
    watch = MemoryMonitor(path=tmp_path / MEMORY_FILE)
    watch._tick()
    with monkeypatch.context() as broken:
        broken.setattr(Cuda, "memory_stats_as_nested_dict", fails)
        watch._tick()
        watch._tick()
    watch._tick()
    samples = read_memory(tmp_path)
    assert [len(sample.torch) for sample in samples] == [1, 0, 0, 1]
    assert [bool(sample.torch_reason) for sample in samples] == [False, True, True, False]
    assert "RuntimeError: CUDA error" in samples[2].torch_reason
    assert watch.errors == 2
    # AND every other source was read all the same
    assert all(sample.rss_bytes and sample.gc for sample in samples)


class NVMLError(Exception):
    """As the binding's."""


class Nvml:
    """`pynvml` with two devices, one of which does not say how busy it is."""

    NVMLError = NVMLError

    def __init__(self) -> None:
        self.open = 0

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:
        return b"Old binding" if handle else "NVIDIA H200"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(total=1000, used=600 + handle, free=400 - handle)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        if handle:
            raise NVMLError("Not Supported")
        return SimpleNamespace(gpu=97, memory=40)


@pytest.mark.parametrize("binding", ["pynvml", "vllm.third_party.pynvml"])
def test_nvml_tells_of_every_device(
    binding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setitem(sys.modules, binding, nvml)
    monkeypatch.setattr(memory_sources, "_DRIVER_FILES", ("/proc/self/status",))
    with MemoryMonitor(3600.0, path=tmp_path / MEMORY_FILE):
        pass
    assert nvml.open == 0
    assert read_memory(tmp_path)[-1].nvml == (
        DeviceMemory(0, "NVIDIA H200", 1000, 600, busy_share=0.97, memory_busy_share=0.4),
        DeviceMemory(1, "Old binding", 1000, 601),
    )


def test_nvml_that_is_absent_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a driver the binding is not even looked for: None in its place cannot be imported.
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(memory_sources, "_DRIVER_FILES", ("/nowhere/nvidiactl",))
    assert NvmlMemory().read() == "no NVIDIA driver on this machine"
    monkeypatch.setattr(memory_sources, "_DRIVER_FILES", ("/proc/self/status",))
    assert "is not installed" in NvmlMemory().read()

    def refused() -> None:
        raise NVMLError("Driver/library version mismatch")

    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with monkeypatch.context() as broken:
        broken.setattr(nvml, "nvmlInit", refused)
        source = NvmlMemory()
        assert source.read() == "NVML: Driver/library version mismatch"
    # AND it is not tried again every second
    assert source.read() == "NVML: Driver/library version mismatch"
    monkeypatch.setattr(nvml, "nvmlDeviceGetCount", lambda: 0)
    assert NvmlMemory().read() == "NVML sees no device"


def test_real_nvml_answers_or_says_why() -> None:
    source = NvmlMemory()
    found = source.read()
    source.close()
    if isinstance(found, str):
        assert found
    else:
        assert all(device["total_bytes"] > device["used_bytes"] >= 0 for device in found)


def test_a_system_without_proc_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str, flags: int) -> int:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "open", missing)
    assert ProcessMemory().read() == "no /proc/self/status on this system"
    sample = MemoryMonitor().sample()
    assert sample["process"] == "no /proc/self/status on this system"
    assert "rss_bytes" not in sample
