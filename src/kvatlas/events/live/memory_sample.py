"""What a sample of the memory monitor says, and what a line of it may say.

Owns: the fields with their units and limits. Leaves to others: which lines count (`memory`).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

__all__ = ["DeviceMemory", "GcPauses", "MemorySample", "SampleLine", "TorchMemory"]

_Count = Annotated[int, Meta(ge=0, le=1 << 62)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Amount = Annotated[float, Meta(ge=0, le=1e15)]
_Time = Annotated[float, Meta(ge=-1e15, le=1e15)]
_Text = Annotated[str, Meta(max_length=200)]


class GcPauses(Struct, frozen=True):
    """Python's collector in the engine process, since the sample before.

    Attributes:
        gen: collections of each generation.
        pauses: collections in all.
        pause_ms_total: how long everything waited for them.
        pause_ms_max: the longest.
    """

    gen: Annotated[tuple[_Count, ...], Meta(max_length=3)]
    pauses: _Count
    pause_ms_total: _Amount
    pause_ms_max: _Amount


class TorchMemory(Struct, frozen=True):
    """Torch's caching allocator on one CUDA device, in this process; peaks are since its start.

    reserved >= active >= allocated >= requested.

    Attributes:
        device: its number in this process.
        allocated_bytes, allocated_peak_bytes: held by tensors.
        reserved_bytes, reserved_peak_bytes: taken from the device.
        active_bytes: held by tensors, or freed but still in use by a stream.
        requested_bytes: what tensors asked for, before rounding.
        inactive_split_bytes: free, but in segments that something alive keeps.
        alloc_retries: allocations that first had to give cached segments back.
        ooms: allocations that failed.
    """

    device: _Count
    allocated_bytes: _Count | None = None
    allocated_peak_bytes: _Count | None = None
    reserved_bytes: _Count | None = None
    reserved_peak_bytes: _Count | None = None
    active_bytes: _Count | None = None
    requested_bytes: _Count | None = None
    inactive_split_bytes: _Count | None = None
    alloc_retries: _Count | None = None
    ooms: _Count | None = None


class DeviceMemory(Struct, frozen=True):
    """One device as NVML sees it, all processes together.

    Attributes:
        device: its number on the machine.
        name: the product's.
        total_bytes, used_bytes: its memory.
        busy_share: share of the last moments in which a kernel ran, None where it does not say.
        memory_busy_share: in which its memory was read or written.
    """

    device: _Count
    name: _Text = ""
    total_bytes: _Count | None = None
    used_bytes: _Count | None = None
    busy_share: _Share | None = None
    memory_busy_share: _Share | None = None


class MemorySample(Struct, frozen=True):
    """Memory of the engine process and its devices at one time.

    Attributes:
        t_ms: the recording's clock, as `time_ms` of the events.
        wall_s: seconds since 1970.
        rss_bytes, peak_rss_bytes, vms_bytes, swap_bytes: the process as the kernel counts it.
        cpu_s: processor time of the process since its start.
        monitor_cpu_ms: of it, what the monitor took.
        gc: pauses of the collector.
        torch: per CUDA device that the process uses, empty without; then `torch_reason` says why.
        nvml: per device of the machine, empty without; then `nvml_reason` says why.
        process_reason: why there is no rss_bytes, else empty.
    """

    t_ms: float
    wall_s: float
    rss_bytes: int | None = None
    peak_rss_bytes: int | None = None
    vms_bytes: int | None = None
    swap_bytes: int | None = None
    cpu_s: float | None = None
    monitor_cpu_ms: float | None = None
    gc: GcPauses | None = None
    torch: tuple[TorchMemory, ...] = ()
    torch_reason: str = ""
    nvml: tuple[DeviceMemory, ...] = ()
    nvml_reason: str = ""
    process_reason: str = ""


class SampleLine(Struct, frozen=True):
    """A line as it is written: a source is what it gave, why it gave nothing, or as before."""

    t_ms: _Time
    wall_s: _Time
    rss_bytes: _Count | None = None
    peak_rss_bytes: _Count | None = None
    vms_bytes: _Count | None = None
    swap_bytes: _Count | None = None
    cpu_s: _Amount | None = None
    monitor_cpu_ms: _Amount | None = None
    process: str = ""
    gc: GcPauses | str | None = None
    torch: Annotated[tuple[TorchMemory, ...], Meta(max_length=64)] | str | None = None
    nvml: Annotated[tuple[DeviceMemory, ...], Meta(max_length=64)] | str | None = None
