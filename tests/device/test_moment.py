"""Any moment of a trace, and who pins what; beside the naive allocator at that moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from naive_allocator import MIB, NaiveAllocator, Piece, write
from snapshot_files import RECORDED

from kvatlas.device import AllocatorMoment, AllocatorSettings, DeviceTwin, read_snapshot
from kvatlas.errors import InputError

STATES = ("inactive", "active_allocated", "active_pending_free")


def same(moment: AllocatorMoment, segments: list[dict[str, object]]) -> None:
    """The moment's blocks are those of a dump."""
    expected = [
        (
            (one["address"], one["total_size"], one["is_expandable"]),
            [
                (
                    block["address"],
                    block["size"],
                    block["state"],
                    0 if block["state"] == "inactive" else block["requested_size"],
                )
                for block in one["blocks"]  # type: ignore[attr-defined]
            ],
        )
        for one in segments
    ]
    found = []
    for at in range(moment.segment_address.size):
        mine = range(int(moment.first_block[at]), int(moment.first_block[at + 1]))
        found.append(
            (
                (
                    int(moment.segment_address[at]),
                    int(moment.segment_bytes[at]),
                    bool(moment.segment_expandable[at]),
                ),
                [
                    (
                        int(moment.block_address[block]),
                        int(moment.block_bytes[block]),
                        STATES[int(moment.block_state[block])],
                        int(moment.block_requested_bytes[block]),
                    )
                    for block in mine
                ],
            )
        )
    assert found == expected


@pytest.mark.parametrize("expandable", [False, True])
def test_every_moment(expandable: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    naive = NaiveAllocator(AllocatorSettings(expandable_segments=expandable))
    dumps, live = {}, list[Piece]()
    for _ in range(80):
        if live and rng.random() < 0.45:
            naive.free(live.pop(int(rng.integers(len(live)))))
        else:
            live.append(naive.malloc(int(np.exp(rng.uniform(6, 17)))))
        dumps[len(naive.events) - 1] = naive.dump()["segments"]
    twin = DeviceTwin(read_snapshot(write(naive.dump(), tmp_path / "snapshot.pickle")))
    for event, segments in dumps.items():
        same(twin.moment(event), segments)
    assert twin.moment(-1).reserved_bytes == 0
    for bad in (-2, len(naive.events)):
        with pytest.raises(InputError, match="no event"):
            twin.moment(bad)


def test_who_pins_what(tmp_path: Path) -> None:
    """GIVEN two segments, one pinned by one stack and one by two, THEN both say so."""
    naive = NaiveAllocator(AllocatorSettings())
    pieces = [naive.malloc(4 * MIB) for _ in range(10)]  # five to a segment
    for at in (1, 2, 3, 4, 6, 7, 8):
        naive.free(pieces[at])
    dumped = naive.dump()
    stacks = [[{"name": name, "filename": "x.py", "line": 1}] for name in "abc"]
    names = iter([0, 2, 2, 2, 2, 0, 2, 2, 2, 1])
    for event in dumped["device_traces"][0]:
        if event["action"] == "alloc":
            event["frames"] = stacks[next(names)]
    snapshot = read_snapshot(write(dumped, tmp_path / "snapshot.pickle"))
    twin = DeviceTwin(snapshot)
    moment = twin.moment(len(twin.trace) - 1)
    assert moment.pinned().tolist() == [True, True]
    assert moment.free_bytes().tolist() == [16 * MIB, 12 * MIB]
    first, second = moment.pinning_stacks()
    assert [snapshot.stacks.of(one.stack)[0].name for one in (first, second)] == ["a", "b"]
    assert (first.alone_bytes, first.shared_bytes) == (16 * MIB, 12 * MIB)
    assert (first.blocks, first.segments, first.held_bytes) == (2, 2, 8 * MIB)
    assert (second.alone_bytes, second.shared_bytes) == (0, 12 * MIB)


@pytest.mark.skipif(not RECORDED, reason="no recorded snapshots here (KVATLAS_SHARED)")
def test_a_recorded_snapshot() -> None:
    path = next(path for path in RECORDED if "512_training" in path.name)
    twin = DeviceTwin(read_snapshot(path))
    line = twin.replay_recorded().timeline
    event = int(line.stuck_bytes.argmax())
    moment = twin.moment(event)
    assert moment.reserved_bytes == line.reserved_bytes[event]
    assert moment.active_bytes == line.active_bytes[event]
    assert moment.free_bytes()[moment.pinned()].sum() == line.stuck_bytes[event]
    known = [one for one in moment.pinning_stacks() if one.stack]
    assert known
    assert sum(one.alone_bytes for one in known) <= line.stuck_bytes[event]
