"""Damaged snapshots: each is read or refused in one line, soon, in bounded memory."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from snapshot_files import damaged

from kvatlas.device import AllocatorSettings, DeviceTwin, Limits, read_snapshot
from kvatlas.errors import InputError

DAMAGED = int(os.environ.get("KVATLAS_FUZZ_SNAPSHOTS", "200"))


@pytest.mark.parametrize("share", range(2))
def test_damaged_snapshots(share: int, tmp_path: Path) -> None:
    """GIVEN a pickle with something wrong THEN there is an InputError, or a twin that runs."""
    path, read, refused = tmp_path / "damaged.pickle", 0, 0
    for seed in range(share, DAMAGED, 2):
        path.write_bytes(damaged(seed))
        begin = time.perf_counter()
        try:
            snapshot = read_snapshot(path)
            for device in [trace.device for trace in snapshot.traces]:
                twin = DeviceTwin(snapshot, device)
                twin.replay_recorded(check=True)
                twin.what_if(check=True)
                twin.what_if(
                    AllocatorSettings(expandable_segments=True), Limits(capacity_bytes=50 << 20)
                )
            read += 1
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        took = time.perf_counter() - begin
        # The first one may compile.
        assert took < 5 or read == 1, (seed, took)
    assert read + refused == len(range(share, DAMAGED, 2))
    assert min(read, refused) > DAMAGED // 40


def test_seeds_give_the_same_damage_everywhere() -> None:
    assert damaged(7) == damaged(7)
    assert len({damaged(seed) for seed in range(100)}) > 80
