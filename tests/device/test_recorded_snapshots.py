"""Snapshots recorded on a GPU: the twin gives every address, segment, block and total."""

from __future__ import annotations

from pathlib import Path

import pytest
from naive_allocator import write
from snapshot_files import RECORDED, trusted

from kvatlas.device import AllocatorSettings, DeviceTwin, Limits, read_snapshot

pytestmark = pytest.mark.skipif(not RECORDED, reason="no recorded snapshots (KVATLAS_SHARED)")

# events, allocations, completed frees, segments, blocks, reserved bytes, allocated bytes
EXACT = {
    "medium_1024_inference": (3840, 1280, 1280, 108, 239, 3204448256, 1703677952),
    "medium_1024_training": (22331, 7591, 7370, 234, 1031, 25178406912, 6874481152),
    "medium_128_inference": (3840, 1280, 1280, 98, 230, 1763704832, 1703276544),
    "medium_128_training": (19136, 6526, 6305, 377, 918, 7235174400, 6816891392),
    "medium_256_inference": (3840, 1280, 1280, 101, 232, 1864368128, 1703333888),
    "medium_512_training": (22332, 7591, 7370, 400, 1041, 12660506624, 6838108672),
}


def name_of(path: Path) -> str:
    """Return a recording's short name."""
    return path.stem.removesuffix("_memory_snapshot")


@pytest.mark.parametrize("path", RECORDED, ids=name_of)
def test_every_address_and_total(path: Path) -> None:
    events, allocs, frees, segments, blocks, reserved, allocated = EXACT[name_of(path)]
    found = DeviceTwin(read_snapshot(path)).replay_recorded(check=True)
    assert found.identical
    assert (found.events, found.allocs, found.frees) == (events, allocs, frees)
    assert found.addresses_equal == allocs
    assert (found.segments, found.segments_equal) == (segments, segments)
    assert (found.blocks, found.blocks_equal) == (blocks, blocks)
    assert found.reserved_bytes == (reserved, reserved)
    assert found.allocated_bytes == (allocated, allocated)
    assert found.unverified == ()


@pytest.mark.parametrize("path", RECORDED, ids=name_of)
@pytest.mark.slow
def test_a_trace_that_began_late(path: Path, tmp_path: Path) -> None:
    """GIVEN only the end of the ring THEN what was there before is found, and all is the same."""
    loaded = trusted(path)
    trace = loaded["device_traces"][0]
    for eighths in range(1, 8):
        loaded["device_traces"] = [trace[len(trace) * eighths // 8 :]]
        late = write(loaded, tmp_path / "late.pickle")
        found = DeviceTwin(read_snapshot(late)).replay_recorded(check=True)
        assert found.identical, (eighths, found)


@pytest.mark.parametrize("path", RECORDED, ids=name_of)
def test_a_free_run_under_the_recorded_settings(path: Path) -> None:
    twin = DeviceTwin(read_snapshot(path))
    recorded = twin.replay_recorded()
    found = twin.what_if(timeline=True, check=True)
    assert not found.oom
    assert found.retries == 0
    assert found.unverified == ()
    assert found.timeline is not None
    for own, theirs in (
        (found.timeline.reserved_bytes, recorded.timeline.reserved_bytes),
        (found.timeline.allocated_bytes, recorded.timeline.allocated_bytes),
        (found.timeline.stuck_bytes, recorded.timeline.stuck_bytes),
    ):
        # A segment is asked for one event before the allocation that it is for.
        differing = own != theirs
        assert differing.sum() <= twin.trace.action.tolist().count(3)
    assert found.reserved_bytes == recorded.reserved_bytes[0]
    assert found.peak_stuck_bytes == recorded.timeline.stuck_bytes.max()


@pytest.mark.parametrize("path", RECORDED, ids=name_of)
def test_survival_capacity(path: Path) -> None:
    twin = DeviceTwin(read_snapshot(path))
    for settings in (None, AllocatorSettings(expandable_segments=True)):
        free = twin.what_if(settings)
        survives = twin.survival_capacity(settings)
        assert free.peak_active_bytes <= survives <= free.peak_reserved_bytes
        assert not twin.what_if(settings, Limits(capacity_bytes=survives), check=True).oom
        below = twin.what_if(settings, Limits(capacity_bytes=survives - (2 << 20)), check=True)
        assert below.oom
