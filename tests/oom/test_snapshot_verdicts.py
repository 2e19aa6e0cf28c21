"""Recordings explained: the scene of vLLM's pull request 37428, and one for every other cause."""

from __future__ import annotations

from pathlib import Path

import pytest
from messages import SCENE, held, new
from scenes import WEIGHTS, Recording, fitting, graph_pool, pull_request, too_small
from snapshot_files import RECORDED

from kvatlas.device import DeviceTwin, read_snapshot
from kvatlas.device.stack_words import stack_name
from kvatlas.device.survival import CANDIDATES
from kvatlas.oom import (
    KvBlock,
    SnapshotExplanation,
    explain_snapshot,
    kv_block_of_model,
    parse_message,
)

MIB = 1 << 20
FEW = ("", "expandable_segments:True", "large_segment_size_mb:64")
BLOCK = KvBlock(size_bytes=2 * MIB, tokens=16, source="given")


@pytest.fixture(scope="module")
def scene_twin(tmp_path_factory: pytest.TempPathFactory) -> DeviceTwin:
    """The pull request's scene."""
    return pull_request().twin(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def scene(scene_twin: DeviceTwin) -> SnapshotExplanation:
    """It explained, in blocks of Llama 2 13B: 12.5 MiB."""
    return explain_snapshot(scene_twin, block=kv_block_of_model("llama-2-13b"))


def test_the_pull_requests_scene_is_fragmentation(scene: SnapshotExplanation) -> None:
    """GIVEN 384 MiB asked, 402 stuck and 330 free THEN the verdict says so in these figures."""
    assert scene.verdict.cause == "fragmentation"
    for said in ("384 MiB asked", "330 MiB free", "402 MiB free in 67 segments", "piece 6 MiB"):
        assert said in scene.verdict.line
    moment = scene.scene
    assert moment is not None
    assert moment.recorded
    assert (moment.asked_bytes, moment.free_bytes) == (384 * MIB, 330 * MIB)
    assert (moment.stuck_bytes, moment.releasable_bytes) == (402 * MIB, 0)
    assert moment.capacity_bytes == (67 * 20 + 330) * MIB
    assert [(step.sum_bytes // MIB, step.suffices) for step in scene.verdict.steps] == [
        (330, False),
        (732, True),
    ]


def test_it_names_the_pinning_blocks_and_stacks(
    scene: SnapshotExplanation, scene_twin: DeviceTwin
) -> None:
    moment = scene.scene
    assert moment is not None
    stacks = scene_twin.snapshot.stacks
    assert [
        (stack_name(stacks.of(one.stack)), one.blocks, one.alone_bytes // MIB, one.segments)
        for one in moment.pinning
    ] == [
        ("empty (torch/_refs.py:9) ← load_weights (srv/model.py:12)", 120, 360, 60),
        ("empty (torch/_refs.py:9) ← load_adapter (srv/model.py:12)", 14, 42, 7),
    ]
    assert any("load_weights" in reason and "360 MiB" in reason for reason in scene.verdict.reasons)
    first = moment.segments[0]
    assert (first.size_bytes, first.free_bytes, first.live_blocks) == (20 * MIB, 6 * MIB, 2)
    assert (first.live_bytes, first.smallest_bytes) == (14 * MIB, 7 * MIB)
    assert moment.pinned_segments == 67
    assert stack_name(stacks.of(moment.stack)).endswith("← forward (srv/model.py:12)")


def test_it_names_the_setting_that_survives_and_what_it_costs(scene: SnapshotExplanation) -> None:
    remedy = scene.verdict.remedy
    assert remedy is not None
    assert remedy.setting == "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"
    assert (remedy.basis, remedy.kv_blocks, remedy.kv_bytes) == ("replayed", 0, 0)
    rows = {row.text: row for row in scene.settings_rows}
    assert set(rows) == set(CANDIDATES)
    chosen, own = rows["expandable_segments:True"], rows[""]
    assert (chosen.survives, chosen.spare_bytes, chosen.more_bytes) == (True, 330 * MIB, 0)
    assert (own.recorded, own.survives, own.spare_bytes) == (True, False, -54 * MIB)
    assert own.kv_blocks == 5  # 54 MiB, in blocks of 12.5
    smaller = scene.verdict.remedies[1]
    assert (smaller.kv_blocks, smaller.basis) == (5, "arithmetic")
    assert scene.survival_bytes == (67 * 20 + 384) * MIB


def test_what_no_recording_verified_says_so(scene: SnapshotExplanation) -> None:
    said = " ".join(scene.verdict.unverified)
    for path in ("out of memory", "a limited capacity", "expandable segments"):
        assert f"{path}: not verified on recordings" in said


def test_the_recommended_setting_does_replay_clean(
    scene: SnapshotExplanation, scene_twin: DeviceTwin
) -> None:
    """The recommendation, followed: the requests pass; and as recorded they do not."""
    from kvatlas.device import AllocatorSettings, Limits

    assert scene.capacity_bytes is not None
    limits = Limits(capacity_bytes=scene.capacity_bytes)
    for row in scene.settings_rows:
        if row.fraction is None:
            settings = AllocatorSettings.parse(row.text)
            run = scene_twin.what_if(settings, limits, start="rebuilt")
            assert run.oom != row.survives, row.text


def test_the_log_beside_it_knows_the_rest_of_the_device(scene_twin: DeviceTwin) -> None:
    message = parse_message(
        new(
            "384.00 MiB",
            "8.00 GiB",
            "330.00 MiB",
            "Process 7 has 5.00 GiB memory in use. Including non-PyTorch memory, this process has "
            "1.90 GiB memory in use. " + held("938.00 MiB", "402.00 MiB"),
        )
    )
    found = explain_snapshot(scene_twin, message=message, block=BLOCK, candidates=FEW)
    assert found.verdict.cause == "fragmentation"
    assert found.verdict.steps[-1].name == "held by others"
    assert not any("not the same" in note for note in found.verdict.notes)
    assert found.verdict.remedies[1].setting == "--gpu-memory-utilization lower by 0.01"
    other = parse_message(SCENE.replace("384.00 MiB", "9.00 GiB"))
    noted = explain_snapshot(scene_twin, message=other, candidates=("",)).verdict.notes
    assert any("not the same" in note for note in noted)


def test_too_little_memory(tmp_path: Path) -> None:
    found = explain_snapshot(too_small().twin(tmp_path), block=BLOCK, candidates=FEW)
    assert found.verdict.cause == "capacity"
    assert "100 MiB short" in found.verdict.line
    assert any("no setting can help" in reason for reason in found.verdict.reasons)
    (smaller,) = found.verdict.remedies
    assert (smaller.kv_bytes, smaller.kv_blocks) == (100 * MIB, 50)
    assert not any(row.survives for row in found.settings_rows)
    assert found.scene is not None
    assert (found.scene.holders[0].blocks, found.scene.holders[0].held_bytes) == (9, 900 * MIB)


def test_private_pools(tmp_path: Path) -> None:
    found = explain_snapshot(graph_pool().twin(tmp_path), candidates=FEW)
    assert found.verdict.cause == "private-pools"
    assert "300 MiB lie free inside 1 private pool" in found.verdict.line
    assert any("--enforce-eager" in each.setting for each in found.verdict.remedies)
    assert found.scene is not None
    (pool,) = found.scene.pools
    assert (pool.pool, pool.reserved_bytes, pool.active_bytes) == ((0, 1), 300 * MIB, 0)
    assert "private memory pools: not verified on recordings" in found.verdict.unverified


def test_pinned_by_others_is_told_from_pinned_in_a_pool(tmp_path: Path) -> None:
    """GIVEN free bytes beside a live block in a private pool THEN they are idle, not stuck."""
    recording = Recording(1000)
    recording.malloc(7, "capture", pool=1)
    recording.malloc(7, "serve")
    recording.fails(990)
    scene = explain_snapshot(recording.twin(tmp_path), candidates=("",)).scene
    assert scene is not None
    assert (scene.stuck_bytes, scene.idle_bytes) == (13 * MIB, 13 * MIB)
    assert (scene.pinned_segments, len(scene.pinning)) == (1, 1)
    assert scene.largest_bytes == 13 * MIB


def test_a_limit_of_the_process_itself(tmp_path: Path) -> None:
    """GIVEN a failure although the device had room WHEN explained THEN something else said no."""
    recording = too_small()
    recording.naive.events[-1]["device_free"] = 5_000 * MIB
    found = explain_snapshot(recording.twin(tmp_path), candidates=FEW)
    assert found.verdict.cause == "memory-fraction"
    assert "4.88 GiB free on the device" in found.verdict.line
    assert found.capacity_bytes == 1100 * MIB - 1
    assert found.verdict.remedies[0].setting == "torch.cuda.set_per_process_memory_fraction"


def test_the_last_mib_of_a_device_are_the_drivers(tmp_path: Path) -> None:
    recording = too_small()
    recording.naive.events[-1]["device_free"] = 203 * MIB
    found = explain_snapshot(recording.twin(tmp_path), candidates=FEW)
    assert found.verdict.cause == "capacity"
    assert any("keeps some MiB" in note for note in found.verdict.notes)


def test_a_replay_that_differs_says_so(tmp_path: Path) -> None:
    recording = too_small()
    recording.naive.segments[0].pieces[0].requested -= 512  # the final state is another
    notes = explain_snapshot(recording.twin(tmp_path), candidates=("",)).verdict.notes
    assert any("does not decide as recorded" in note for note in notes)


def test_of_several_failures_the_last_is_explained(tmp_path: Path) -> None:
    """GIVEN a first failure that the program survived WHEN explained THEN it is the second one."""
    recording = Recording(1000)
    pieces = [recording.malloc(100, "serve") for _ in range(9)]
    recording.fails(300)
    recording.naive.free(pieces[0])
    recording.malloc(50, "serve")
    recording.fails(250)
    twin = recording.twin(tmp_path)
    found = explain_snapshot(twin, candidates=FEW)
    assert found.scene is not None
    assert (found.scene.failures, found.scene.asked_bytes) == (2, 250 * MIB)
    assert any("2 failures" in note for note in found.verdict.notes)
    assert not any("with care" in note for note in found.verdict.notes)
    message = parse_message(new("300.00 MiB", "8.00 GiB", "100.00 MiB", held("1 GiB", "0 bytes")))
    first = explain_snapshot(twin, message=message, candidates=("",)).scene
    assert first is not None
    assert first.asked_bytes == 300 * MIB


def test_a_segment_larger_than_the_request(tmp_path: Path) -> None:
    """GIVEN 9 MiB asked and 15 free THEN a segment of 20 MiB did not fit: fragmentation."""
    recording = Recording(315)
    recording.malloc(300, "serve")
    recording.fails(9)
    found = explain_snapshot(recording.twin(tmp_path), candidates=FEW)
    assert found.verdict.cause == "fragmentation"
    assert "needs a segment of 20 MiB" in found.verdict.line


def test_no_failure_in_the_recording(tmp_path: Path) -> None:
    twin = fitting().twin(tmp_path)
    found = explain_snapshot(twin, candidates=FEW)
    assert found.verdict.cause == "unseen"
    assert found.scene is None
    assert found.survival_bytes == (20 + 3 * 98) * MIB
    assert "less than 314 MiB" in found.verdict.line
    recorded = "In the recording PyTorch held 314 MiB at most, and live blocks 300 MiB at most"
    assert found.verdict.reasons[0].startswith(recorded)
    enough = explain_snapshot(twin, capacity_bytes=found.survival_bytes, candidates=FEW)
    assert enough.verdict.cause == "none"


def test_where_it_would_fail_in_less(tmp_path: Path) -> None:
    """GIVEN a recording that passes WHEN replayed in 2 MiB less than it needs THEN it fails there.

    The 98 MiB that come third: 98 are free, less 2.
    """
    twin = fitting().twin(tmp_path)
    found = explain_snapshot(twin, capacity_bytes=312 * MIB, candidates=FEW, block=BLOCK)
    assert found.scene is not None
    assert not found.scene.recorded
    assert (found.scene.asked_bytes, found.scene.free_bytes) == (98 * MIB, 96 * MIB)
    assert "In 312 MiB these requests would fail" in found.verdict.line
    assert found.verdict.cause == "fragmentation"  # 14 MiB lie free beside the first block
    assert stack_name(twin.snapshot.stacks.of(found.scene.stack)).endswith(
        "forward (srv/model.py:12)"
    )


def test_other_settings_recorded_are_compared_too(tmp_path: Path) -> None:
    recording = Recording(1000, max_split_bytes=64 * MIB)
    for _ in range(9):
        recording.malloc(100, "serve")
    recording.fails(200)
    found = explain_snapshot(recording.twin(tmp_path), candidates=FEW)
    assert found.settings == "max_split_size_mb:64"
    assert [row.text for row in found.settings_rows if row.recorded] == ["max_split_size_mb:64"]


def test_interrupted_between_settings(scene_twin: DeviceTwin) -> None:
    told: list[tuple[int, int]] = []
    found = explain_snapshot(
        scene_twin,
        candidates=FEW,
        on_done=lambda done, total: told.append((done, total)),
        stop=lambda: len(told) == 2,
    )
    assert told == [(1, 3), (2, 3)]
    assert found.untried == 1
    assert found.verdict.remedy is not None
    assert "expandable_segments:True" in found.verdict.remedy.setting


@pytest.mark.skipif(not RECORDED, reason="no recorded snapshots on this machine")
def test_a_real_recording_in_less_memory() -> None:
    """A real training trace fails 2 MiB below its survival capacity, and not at it."""
    path = next(path for path in RECORDED if "128_training" in path.name)
    twin = DeviceTwin(read_snapshot(path))
    found = explain_snapshot(twin, candidates=("",))
    assert found.verdict.cause == "unseen"
    less = explain_snapshot(twin, capacity_bytes=found.survival_bytes - 2 * MIB, candidates=("",))
    assert less.scene is not None
    assert less.verdict.cause == "fragmentation"
    assert less.scene.stuck_bytes > 100 * MIB
    assert "a limited capacity: not verified on recordings" in less.verdict.unverified


def test_a_first_refusal_is_not_the_cause_where_live_blocks_do_not_fit(tmp_path: Path) -> None:
    """GIVEN blocks of 52 MiB WHEN 18 are there THEN a segment's size is not what lacks.

    15 MiB get a segment of 16, whose last MiB is too little to be split off.
    """
    small = Recording(None)
    small.malloc(4, WEIGHTS)
    for _ in range(3):
        small.malloc(15, WEIGHTS)
    found = explain_snapshot(small.twin(tmp_path), capacity_bytes=18 * MIB, candidates=FEW)
    assert found.verdict.cause == "capacity"
    assert "needs a segment of 20 MiB" in found.verdict.line
    assert "live blocks alone come to 52 MiB later, 34 MiB more" in found.verdict.line
