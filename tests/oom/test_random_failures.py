"""Random courses that run out of memory: what an explanation promises holds when it is tried."""

from __future__ import annotations

import numpy as np
import pytest
from courses import random_settings, run_course
from naive_allocator import write

from kvatlas.device import AllocatorSettings, DeviceTwin, Limits, read_snapshot
from kvatlas.oom import SnapshotExplanation, explain_snapshot

MIB = 1 << 20
FEW = ("", "expandable_segments:True", "large_segment_size_mb:12")


@pytest.fixture(scope="module")
def explained(
    tmp_path_factory: pytest.TempPathFactory,
) -> list[tuple[DeviceTwin, SnapshotExplanation]]:
    """Failures without a memory fraction, of every kind of settings and with private pools."""
    folder = tmp_path_factory.mktemp("courses")
    found = []
    for seed in range(40):
        rng = np.random.default_rng((4, seed))
        course = run_course(
            rng,
            random_settings(rng),
            steps=150,
            pools=int(rng.choice([1, 2])),
            capacity=int(rng.integers(60, 400)) * MIB,
        )
        if course.failed:
            path = write(course.naive.dump(), folder / f"{seed}.pickle")
            twin = DeviceTwin(read_snapshot(path))
            found.append((twin, explain_snapshot(twin, candidates=FEW)))
    assert len(found) >= 12
    assert len({one.verdict.cause for _, one in found}) >= 3
    return found


def test_every_byte_is_somewhere(
    explained: list[tuple[DeviceTwin, SnapshotExplanation]],
) -> None:
    for twin, one in explained:
        scene = one.scene
        assert scene is not None
        parts = scene.active_bytes, scene.stuck_bytes, scene.releasable_bytes, scene.idle_bytes
        assert sum(parts) == scene.reserved_bytes
        assert scene.free_bytes + scene.reserved_bytes == one.capacity_bytes
        assert scene.event == len(twin.trace) - 1
        assert scene.asked_bytes <= scene.needed_bytes
        assert sum(pool.reserved_bytes for pool in scene.pools) <= scene.reserved_bytes
        assert max((each.free_bytes for each in scene.segments), default=0) >= 0
        assert scene.largest_bytes < scene.asked_bytes or scene.idle_bytes or _unsplit(twin)


def _unsplit(twin: DeviceTwin) -> bool:
    """Whether a free block may be refused: another stream's, or one too large to be split."""
    return len(set(twin.trace.stream.tolist())) > 1 or twin.settings.max_split_bytes is not None


def test_the_ladder_says_what_the_cause_says(
    explained: list[tuple[DeviceTwin, SnapshotExplanation]],
) -> None:
    for _, one in explained:
        steps = {step.name: step for step in one.verdict.steps}
        enough = [step.name for step in one.verdict.steps if step.suffices]
        match one.verdict.cause:
            case "capacity":
                assert not enough
            case "private-pools":
                assert enough == ["free in private pools"]
            case "fragmentation":
                assert steps["free, but pinned by live blocks"].suffices or "not released" in str(
                    enough
                )


def test_a_setting_that_passes_does_pass(
    explained: list[tuple[DeviceTwin, SnapshotExplanation]],
) -> None:
    for twin, one in explained:
        assert one.capacity_bytes is not None
        limits = Limits(capacity_bytes=one.capacity_bytes)
        for row in one.settings_rows:
            if row.fraction is None:
                settings = AllocatorSettings.parse(row.text)
                run = twin.what_if(settings, limits, start="rebuilt")
                assert run.oom != row.survives
            if not row.recorded and row.survives and one.verdict.cause == "capacity":
                # More than the live blocks: only where sizes are rounded up less.
                assert row.needs_bytes <= one.capacity_bytes


def test_giving_up_what_is_said_is_enough_and_no_more(
    explained: list[tuple[DeviceTwin, SnapshotExplanation]],
) -> None:
    """The last remedy is about the settings as they are: that much more memory, and they pass."""
    tried = 0
    for twin, one in explained:
        assert one.capacity_bytes is not None
        smaller = [each for each in one.verdict.remedies if each.basis == "arithmetic"]
        if not smaller:
            continue
        tried += 1
        enough = one.capacity_bytes + smaller[-1].kv_bytes
        assert not twin.what_if(limits=Limits(capacity_bytes=enough)).oom
        assert twin.what_if(limits=Limits(capacity_bytes=enough - 2 * MIB)).oom
    assert tried >= 8
