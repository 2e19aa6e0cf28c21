"""Buffers from a replayed snapshot: ours from what survives, the published one from its peaks."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loads import ALLOCATED, MIB, RESERVED, STUCK, shared_segments, write_load

from kvatlas.budget import RecordedLoad, read_load
from kvatlas.device import DeviceTwin
from kvatlas.errors import InputError


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
    assert any("a limited capacity" in said for said in load.unverified)


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

    monkeypatch.setattr(DeviceTwin, "survival_capacity", interrupted)
    stages: list[int] = []
    load = read_load(write_load(tmp_path / "snapshot.pickle"), on_stage=stages.append)

    assert stages == [0, 1, 2, 3]
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
