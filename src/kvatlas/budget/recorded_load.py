"""What a recorded memory snapshot says about the memory that a load needs beyond its blocks.

Owns: replaying it once for the peaks and some twenty times for the survival capacity, and which
figure becomes which buffer. Leaves to others: the replay (`kvatlas.device`), the buffers' rule
(`waterfall`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kvatlas.budget.waterfall import Buffers
from kvatlas.errors import InputError

if TYPE_CHECKING:
    from kvatlas.device import DeviceTwin

__all__ = ["STAGES", "RecordedLoad", "read_load", "replayed_load"]

STAGES = ("Replaying the snapshot", "Looking for its survival capacity")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedLoad:
    """One device of a snapshot, replayed.

    Attributes:
        file: where it was read; device: which of its devices.
        events: of the trace; identical: whether the replay decides as recorded, to the byte.
        settings: the recorded allocator settings as `PYTORCH_CUDA_ALLOC_CONF` has them.
        peak_reserved_bytes, peak_allocated_bytes: the highest of each where memory is never short,
            so that a request that failed in the recording is served.
        peak_stuck_bytes: the most free bytes at once in segments that live blocks pinned.
        idle_bytes: free in private pools at the end, such as CUDA graphs'.
        survival_bytes: the smallest capacity, to 2 MiB, in which the same requests are served
            under the recorded settings; None where it was not looked for to the end.
        survival_retries: how often all cached memory is released there to go on, which waits for
            the device.
        failures: out-of-memory errors in the recording.
        unverified: what in these figures no recording has verified.
    """

    file: str
    device: int
    events: int
    identical: bool
    settings: str
    peak_reserved_bytes: int
    peak_allocated_bytes: int
    peak_stuck_bytes: int
    idle_bytes: int
    survival_bytes: int | None
    survival_retries: int
    failures: int
    unverified: tuple[str, ...]

    def buffers(
        self, *, measured_bytes: int | None = None, factor: float = 1.0, graphs_counted: bool = True
    ) -> Buffers:
        """Return both buffers: the published one from the peaks, ours from what survives.

        Args:
            measured_bytes: reserved less allocated bytes of a profile run, which the published
                formula is about; None: those of the whole trace.
            factor: the published formula's.
            graphs_counted: whether the budget has a term for CUDA graphs, which then holds what is
                free in private pools.

        Raises: InputError for a factor that cannot be.
        """
        peaks = self.peak_reserved_bytes - self.peak_allocated_bytes
        found = Buffers.of(
            measured_bytes=peaks if measured_bytes is None else measured_bytes,
            factor=factor,
            stuck_bytes=self.peak_stuck_bytes,
            survival_bytes=self.survival_bytes,
            allocated_bytes=None if self.survival_bytes is None else self.peak_allocated_bytes,
        )
        changes: dict[str, object] = {"own_basis": "measured"}
        if measured_bytes is None:
            changes["published_basis"] = "measured"
            changes["published_how"] = (
                f"{found.published_how}, of the snapshot's peaks instead of a profile run's"
            )
        own = found.own_bytes or 0
        idle = min(own, self.idle_bytes) if graphs_counted and self.survival_bytes else 0
        if idle:
            changes["own_bytes"] = own - idle
            changes["own_how"] = (
                f"{found.own_how}, less what is free in private pools: the CUDA graphs' term has it"
            )
        return replace(found, **changes)  # type: ignore[arg-type]


def read_load(path: str | os.PathLike[str], device: int | None = None) -> RecordedLoad:
    """Return what the snapshot at `path` says about one device.

    Cost: 17 us per event to read, and `replayed_load`'s.

    Args:
        path: what `torch.cuda.memory._dump_snapshot` wrote.
        device: which one; may be left out when only one has a trace.

    Raises: InputError when it is no snapshot or the device has no trace.
    """
    from kvatlas.device import DeviceTwin, read_snapshot  # Numba, which other budgets do not need

    snapshot = read_snapshot(path)
    try:
        return replayed_load(DeviceTwin(snapshot, device), path)
    except InputError as error:
        error.file = error.file or os.fspath(path)
        raise


def replayed_load(
    twin: DeviceTwin,
    path: str | os.PathLike[str],
    *,
    on_stage: Callable[[int], object] = lambda stage: None,
) -> RecordedLoad:
    """Return what the snapshot read from `path` says about a device, by its `twin`.

    Cost: 0.2 us per event for each of some twenty replays. KeyboardInterrupt while the survival
    capacity is looked for ends that search only.

    Args:
        on_stage: called with the number of the stage (of `STAGES`) that begins.

    Raises: InputError for a trace without an event.
    """
    from kvatlas.device.survival import survival

    if not len(twin.trace):
        raise InputError(
            "a trace without an event",
            file=path,
            remedy="record with torch.cuda.memory._record_memory_history()",
        )
    on_stage(0)
    recorded = twin.replay_recorded()
    free = twin.what_if()
    on_stage(1)
    found = None
    with suppress(KeyboardInterrupt):
        found = survival(twin, twin.settings)
    limited = () if found is None else found.unverified
    return RecordedLoad(
        file=os.fspath(path),
        device=twin.device,
        events=recorded.events,
        identical=recorded.identical,
        settings=twin.settings.text(),
        peak_reserved_bytes=free.peak_reserved_bytes,
        peak_allocated_bytes=free.peak_allocated_bytes,
        peak_stuck_bytes=free.peak_stuck_bytes,
        idle_bytes=free.idle_bytes,
        survival_bytes=None if found is None else found.capacity_bytes,
        survival_retries=0 if found is None else found.retries,
        failures=free.recorded_failures_survived,
        unverified=tuple(dict.fromkeys((*recorded.unverified, *free.unverified, *limited))),
    )
