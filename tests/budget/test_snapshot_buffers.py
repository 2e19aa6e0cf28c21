"""Buffers from a replayed snapshot: ours from what survives, the published one from its peaks."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loads import ALLOCATED, MIB, RESERVED, STUCK, shared_segments, write_load

from kvatlas.budget import RecordedLoad, read_load
from kvatlas.budget.recorded_load import replayed_load
from kvatlas.device import DeviceTwin, read_snapshot
from kvatlas.errors import InputError

_GIVEN = os.environ.get("KVATLAS_SHARED")
RECORDED = (Path(_GIVEN) if _GIVEN else Path(__file__).parents[3] / "shared") / "snapshots"


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> RecordedLoad:
    return read_load(write_load(tmp_path_factory.mktemp("load") / "snapshot.pickle"))


def test_a_snapshot_gives_both_buffers(load: RecordedLoad) -> None:
    """GIVEN two blocks of 7 MiB to a segment of 20 THEN 6 MiB of each are lost; for a moment 13."""
    assert load.identical and not load.failures and not load.settings
    assert (load.peak_reserved_bytes, load.peak_allocated_bytes) == (RESERVED, ALLOCATED)
    assert (load.peak_stuck_bytes, load.survival_bytes) == (STUCK + 7 * MIB, RESERVED)

    found = load.buffers()
    assert (found.own_bytes, found.published_bytes) == (STUCK, STUCK)
    assert found.recommended_bytes == STUCK
    assert found.own_basis == found.published_basis == "measured"
    assert found.stuck_bytes == load.peak_stuck_bytes
    assert load.unverified == ("a limited capacity: not verified on recordings",)
    assert load.survival_retries == 0


@pytest.mark.skipif(not RECORDED.is_dir(), reason="no recorded snapshots (KVATLAS_SHARED)")
@pytest.mark.parametrize(
    ("name", "figures", "buffers"),
    [
        ("medium_128_inference", (1682, 1658, 35, 1678), (150, 19)),
        ("medium_256_inference", (1778, 1712, 29, 1742), (150, 29)),
        ("medium_1024_inference", (3056, 2746, 277, 3002), (309, 255)),
        ("medium_1024_training", (24012, 23092, 6543, 23334), (919, 241)),
    ],
)
def test_loads_of_a_gpu(name: str, figures: tuple[int, ...], buffers: tuple[int, ...]) -> None:
    """GIVEN real recordings THEN ours is the smaller buffer, and stuck bytes are far above both."""
    load = read_load(RECORDED / f"{name}_memory_snapshot.pickle")
    found = load.buffers()
    assert load.identical
    assert figures == tuple(
        (size or 0) // MIB
        for size in (
            load.peak_reserved_bytes,
            load.peak_allocated_bytes,
            load.peak_stuck_bytes,
            load.survival_bytes,
        )
    )
    assert ((found.published_bytes or 0) // MIB, (found.own_bytes or 0) // MIB) == buffers
    assert load.survival_retries > 0
    assert load.unverified == (
        "a limited capacity: not verified on recordings",
        "release of cached memory and retry: not verified on recordings",
    )


def test_a_profile_runs_figure_is_the_published_one(load: RecordedLoad) -> None:
    found = load.buffers(measured_bytes=MIB, factor=2.0)

    assert (found.published_bytes, found.published_basis) == (150 * MIB, "given")
    assert found.recommended_bytes == STUCK


def test_what_graphs_hold_is_not_counted_again(load: RecordedLoad) -> None:
    graphs = replace(load, idle_bytes=100 * MIB)

    assert graphs.buffers().own_bytes == STUCK - 100 * MIB
    assert "private pools" in graphs.buffers().own_how
    # WHEN the budget has no term for graphs THEN their memory is part of the buffer
    assert graphs.buffers(graphs_counted=False).own_bytes == STUCK
    assert replace(load, idle_bytes=10 * STUCK).buffers().own_bytes == 0


def test_ctrl_c_leaves_the_stuck_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("kvatlas.device.survival._smallest", interrupted)
    stages: list[int] = []
    path = write_load(tmp_path / "snapshot.pickle")
    load = replayed_load(DeviceTwin(read_snapshot(path)), path, on_stage=stages.append)

    assert stages == [0, 1]
    assert load.survival_bytes is None
    assert load.buffers().own_bytes == load.peak_stuck_bytes
    assert "stuck bytes" in load.buffers().own_how


def test_a_failure_in_the_recording_is_counted(tmp_path: Path) -> None:
    load = read_load(write_load(tmp_path / "snapshot.pickle", failed=True))

    assert load.failures == 1
    assert load.survival_bytes == RESERVED + 64 * MIB


@pytest.mark.parametrize(
    ("change", "device", "line"),
    [
        ({"device_traces": [[]]}, None, "traces of 0 devices"),
        ({}, 3, "device: no trace of this device"),
        ({"segments": 5}, None, "segments"),
    ],
)
def test_what_is_no_load_is_one_line(
    change: dict[str, Any], device: int | None, line: str, tmp_path: Path
) -> None:
    path = tmp_path / "snapshot.pickle"
    path.write_bytes(pickle.dumps(shared_segments() | change))
    with pytest.raises(InputError, match=line) as raised:
        read_load(path, device)
    assert str(raised.value).startswith(str(path))
