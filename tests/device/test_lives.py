"""Lives of blocks and segments, and bytes by stack: any moment read off them is the twin's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from naive_allocator import write
from snapshot_files import RECORDED, with_stacks

from kvatlas.device import DeviceSnapshot, DeviceTwin, read_snapshot
from kvatlas.device.attribution import bytes_by_stack, stuck_of_segments

_SEEDS = range(40)


def hold_against_moments(snapshot: DeviceSnapshot, moments: int) -> int:
    """Compare both at some moments; returns the bytes that were stuck at them."""
    twin = DeviceTwin(snapshot)
    timeline = twin.replay_recorded().timeline
    lives, page = twin.lives(timeline), twin.settings.large_segment_bytes
    last = len(twin.trace) - 1
    found = 0
    for event in {-1, last, *range(0, last, max(1, last // moments))}:
        moment = twin.moment(event)
        alive = np.flatnonzero((lives.block_born <= event) & (lives.block_gone > event))
        alive = alive[np.argsort(lives.block_address[alive])]
        live = moment.block_state != 0
        state = np.where(lives.block_freed[alive] <= event, 2, 1)
        for mine, theirs in (
            (lives.block_address[alive], moment.block_address),
            (lives.block_bytes[alive], moment.block_bytes),
            (lives.block_requested_bytes[alive], moment.block_requested_bytes),
            (lives.block_stack[alive], moment.block_stack),
            (lives.block_born[alive], moment.block_event),
            (state, moment.block_state),
        ):
            assert mine.tolist() == theirs[live].tolist(), event
        there = (lives.segment_born <= event) & (lives.segment_gone > event)
        for name in ("pool", "stream", "small", "expandable"):
            kind, other = (getattr(one, f"segment_{name}") for one in (lives, moment))
            for value in set(other.tolist()):
                nbytes = lives.segment_bytes[there & (kind == value)].sum()
                assert nbytes == moment.segment_bytes[other == value].sum(), (event, name)
        assert lives.segment_bytes[there].sum() == moment.reserved_bytes
        stuck, shares = stuck_of_segments(moment, page), bytes_by_stack(moment, page)
        assert shares.held_bytes.sum() == moment.active_bytes
        assert shares.stuck_bytes.sum() == stuck.sum()
        assert shares.blocks.sum() == live.sum()
        if event >= 0:
            assert stuck.sum() == timeline.stuck_bytes[event], event
        found += int(stuck.sum())
    return found


def test_lives_give_every_moment(tmp_path: Path) -> None:
    """GIVEN courses with all that there is WHEN moments are read off THEN they are the twin's."""
    stuck = 0
    seen = {"expandable": 0, "private": 0, "waiting": 0, "released": 0}
    for seed in _SEEDS:
        snapshot = read_snapshot(write(with_stacks(seed, 60), tmp_path / "course.pickle"))
        if not snapshot.traces:
            continue
        stuck += hold_against_moments(snapshot, 6)
        twin = DeviceTwin(snapshot)
        lives = twin.lives(twin.replay_recorded().timeline)
        seen["expandable"] += int(lives.segment_expandable.any())
        seen["private"] += int(lives.segment_pool.any())
        seen["waiting"] += int((lives.block_gone > lives.block_freed + 1).any())
        seen["released"] += int((lives.segment_gone < len(twin.trace)).any())
    assert stuck > 0
    assert min(seen.values()) >= 5, seen


@pytest.mark.skipif(not RECORDED, reason="no recorded snapshots at hand")
def test_lives_of_a_recording() -> None:
    training = next(path for path in RECORDED if "1024_training" in path.name)
    assert hold_against_moments(read_snapshot(training), 5) > 0


def test_stuck_bytes_are_shared_evenly(tmp_path: Path) -> None:
    """GIVEN two stacks in one segment WHEN 6 MiB are free in it THEN each keeps half of them."""
    mib = 1 << 20
    frames = [[{"name": name, "filename": "a.py", "line": 1}] for name in ("one", "two")]
    blocks = [
        {"address": (20 + start) * mib, "size": size * mib, "requested_size": used * mib,
         "state": "active_allocated" if used else "inactive",
         "frames": frames[at % 2] if used else []}
        for at, (start, size, used) in enumerate(((0, 9, 9), (9, 5, 5), (14, 6, 0)))
    ]  # fmt: skip
    segment = {
        "device": 0, "address": 20 * mib, "total_size": 20 * mib, "allocated_size": 14 * mib,
        "active_size": 14 * mib, "requested_size": 14 * mib, "stream": 0, "segment_type": "large",
        "segment_pool_id": (0, 0), "is_expandable": False, "frames": [], "blocks": blocks,
    }  # fmt: skip
    trace = [
        {"action": "segment_alloc", "addr": 20 * mib, "size": 20 * mib, "stream": 0},
        *({"action": "alloc", "addr": one["address"], "size": one["size"], "stream": 0,
           "frames": one["frames"]} for one in blocks[:2]),
    ]  # fmt: skip
    snapshot = {"segments": [segment], "device_traces": [trace], "allocator_settings": {}}
    twin = DeviceTwin(read_snapshot(write(snapshot, tmp_path / "two.pickle")))
    shares = bytes_by_stack(twin.moment(2), twin.settings.large_segment_bytes)
    assert shares.stuck_bytes.tolist() == [3 * mib, 3 * mib]
    assert sorted(shares.held_bytes.tolist()) == [5 * mib, 9 * mib]
