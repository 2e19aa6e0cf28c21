"""The snapshots that the page is measured with are such as PyTorch's allocator would record."""

from __future__ import annotations

import pickle
from pathlib import Path

from benchmarks.device_trace import device_trace

from kvatlas.device import DeviceTwin, overview_of, read_snapshot


def test_made_traces_replay_to_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "made.pickle"
    path.write_bytes(pickle.dumps(device_trace(6000, live=300, depth=9)))
    twin = DeviceTwin(read_snapshot(path))
    found = overview_of(twin)
    assert len(twin.trace) >= 6000
    assert found.recorded.identical
    assert found.recorded.unseen_tails == 0
    assert len(found.failures) == 1
    assert found.moment.stuck_bytes > 0
