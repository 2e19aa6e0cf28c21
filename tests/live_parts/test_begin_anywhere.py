"""Reading may begin in any segment: what is true at the end does not depend on where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from live_fixtures import files_of, write

from kvatlas.events import PoolState, open_recording, schema
from kvatlas.events.live.follow import Follower
from kvatlas.wire.segment_log import SUFFIX

_ROTATED = ("rotated", "rotated-window")


def segments_of(files: dict[str, bytes]) -> list[str]:
    """Return the segments, oldest first."""
    return sorted(name for name in files if name.endswith(SUFFIX))


def test_the_fixtures_have_segments_enough() -> None:
    for name in _ROTATED:
        assert len(segments_of(files_of(name))) >= 5


@pytest.mark.parametrize("name", _ROTATED)
def test_the_pool_at_the_end_is_the_same_from_every_segment_on(name: str, tmp_path: Path) -> None:
    files = files_of(name)
    whole = open_recording(str(write(files, tmp_path)))
    known = PoolState(whole.header, name)
    steps: list[int] = []
    finished: dict[str, int] = {}
    for chunk in whole.chunks():
        known.advance(chunk)
        rows = chunk.rows
        steps += rows[rows["event"] == schema.STEP]["step"].tolist()
        for row in rows[rows["event"] == schema.FINISHED]:
            finished[whole.names[int(row["request"])]] = int(row["tokens"])
    assert not whole.partial
    for dropped, segment in enumerate(segments_of(files)[:-1], 1):
        del files[segment]
        part = open_recording(str(write(files, tmp_path)))
        state = PoolState(part.header, name)
        later: list[int] = []
        for chunk in part.chunks():
            state.advance(chunk)
            rows = chunk.rows
            later += rows[rows["event"] == schema.STEP]["step"].tolist()
            for row in rows[rows["event"] == schema.FINISHED]:
                assert finished[part.names[int(row["request"])]] == int(row["tokens"])
        assert len(part.names) <= part.header.num_requests
        assert f"first {dropped} segments were dropped" in part.partial
        # Every step behind the first checkpoint is there, and nothing else.
        assert later == steps[len(steps) - len(later) :]
        assert len(later) > 0
        np.testing.assert_array_equal(state.blocks.ref_count, known.blocks.ref_count)
        held, expected = state.blocks.key >= 0, known.blocks.key >= 0
        np.testing.assert_array_equal(held, expected)
    # Requests that ended before it begins are no part of it: they take no room.
    assert part.header.num_requests < whole.header.num_requests


@pytest.mark.parametrize("name", _ROTATED)
def test_checkpoints_agree_with_what_was_read_before_them(name: str, tmp_path: Path) -> None:
    follower = Follower(write(files_of(name), tmp_path))
    while follower.behind_bytes:
        follower.poll()
    assert follower.ended
    assert (follower.disagreements, follower.gaps) == (0, 0)
