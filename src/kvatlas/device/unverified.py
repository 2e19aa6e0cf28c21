"""What the twin has from the source only, not from recordings.

Owns: the labels. Leaves to others: the rules. Recordings of default settings on one stream, without
a failure, have been replayed to the byte; everything else here has been read from PyTorch's source
and is said to be so wherever it acts.
"""

from __future__ import annotations

import numpy as np

from kvatlas.device.build import Limits
from kvatlas.device.operations import Places
from kvatlas.device.settings import AllocatorSettings
from kvatlas.device.snapshot import (
    FREE_COMPLETED,
    FREE_REQUESTED,
    SEGMENT_FREE,
    SEGMENT_UNMAP,
    DeviceSnapshot,
    DeviceTrace,
)

__all__ = ["of_recording", "of_run"]

_LABEL = "not verified on recordings"


def of_recording(snapshot: DeviceSnapshot, trace: DeviceTrace, places: Places) -> tuple[str, ...]:
    """Return what a replay of this trace rests on that no recording has verified."""
    found = _settings(snapshot.settings)
    if snapshot.segments.expandable[snapshot.segments.device == trace.device].any():
        found.append("expandable segments")
    found += _trace(trace, places)
    if np.isin(trace.action, (SEGMENT_FREE, SEGMENT_UNMAP)).any():
        found.append("segments given back")
    if trace.failures().size:
        found.append("out of memory")
    return _labelled(found)


def of_run(
    snapshot: DeviceSnapshot,
    trace: DeviceTrace,
    places: Places,
    settings: AllocatorSettings,
    limits: Limits,
    retries: int,
) -> tuple[str, ...]:
    """Return what a run under these settings and limits rests on that no recording has verified."""
    found = _settings(settings) + _trace(trace, places)
    if limits.capacity_bytes is not None or limits.allowed_bytes is not None:
        found.append("a limited capacity")
    if retries:
        found.append("release of cached memory and retry")
    return _labelled(found)


def _settings(settings: AllocatorSettings) -> list[str]:
    plain = AllocatorSettings()
    differing = {
        "expandable segments": settings.expandable_segments,
        "max_split_size_mb": settings.max_split_bytes is not None,
        "roundup_power2_divisions": any(settings.roundup_power2_divisions),
        "garbage collection": settings.garbage_collection_threshold > 0.0,
        "large_segment_size_mb": settings.large_segment_bytes != plain.large_segment_bytes,
        "max_non_split_rounding_mb": (
            settings.max_non_split_rounding_bytes != settings.large_segment_bytes
        ),
    }
    return [name for name, differs in differing.items() if differs]


def _trace(trace: DeviceTrace, places: Places) -> list[str]:
    found = []
    if np.unique(places.streams).size > 1:
        found.append("several streams")
    if places.pools.any():
        found.append("private memory pools")
    requested = np.flatnonzero(trace.action == FREE_REQUESTED)
    following = np.minimum(requested + 1, len(trace) - 1)
    if (trace.action[following] != FREE_COMPLETED).any():
        found.append("frees that wait for another stream")
    return found


def _labelled(found: list[str]) -> tuple[str, ...]:
    return tuple(f"{name}: {_LABEL}" for name in dict.fromkeys(found))
