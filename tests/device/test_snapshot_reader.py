"""What is in a snapshot's file is what the reader returns; in every protocol, without torch."""

from __future__ import annotations

import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapshot_files import RECORDED, WAYS, pickled, trusted, with_stacks

from kvatlas.device import ACTIONS, BLOCK_STATES, DeviceSnapshot, Frame, read_snapshot


def same(found: DeviceSnapshot, loaded: dict[str, Any]) -> None:
    """Everything in the pickle is in the columns."""
    traces = [trace for trace in loaded["device_traces"] if trace]
    assert len(found.traces) == len(traces)
    for trace, events in zip(found.traces, traces, strict=True):
        assert len(trace) == len(events)
        assert [ACTIONS[code] for code in trace.action] == [one["action"] for one in events]
        addresses = [one.get("addr", one.get("device_free")) for one in events]
        assert trace.address.tolist() == addresses
        assert trace.nbytes.tolist() == [one["size"] for one in events]
        assert trace.stream.tolist() == [one["stream"] for one in events]
        assert trace.time_us.tolist() == [one["time_us"] for one in events]
        pools = [one.get("pool_id", (0, 0)) for one in events]
        assert [found.pools[at] for at in trace.pool] == pools
        texts = found.stacks.texts
        metadata = [one.get("user_metadata", "") for one in events]
        assert [texts[at] for at in trace.metadata] == metadata
        assert_stacks(found, trace.stack.tolist(), events)
    segments = sorted(loaded["segments"], key=lambda one: (one["device"], one["address"]))
    for column, field in (
        (found.segments.address, "address"),
        (found.segments.nbytes, "total_size"),
        (found.segments.allocated_bytes, "allocated_size"),
        (found.segments.active_bytes, "active_size"),
        (found.segments.stream, "stream"),
        (found.segments.expandable, "is_expandable"),
    ):
        assert column.tolist() == [one[field] for one in segments]
    kinds = ["large" if large else "small" for large in found.segments.large]
    assert kinds == [one["segment_type"] for one in segments]
    assert_stacks(found, found.segments.stack.tolist(), segments)
    assert np.diff(found.segments.first_block).tolist() == [len(s["blocks"]) for s in segments]
    blocks = [block for segment in segments for block in segment["blocks"]]
    assert found.blocks.address.tolist() == [one["address"] for one in blocks]
    assert found.blocks.nbytes.tolist() == [one["size"] for one in blocks]
    assert found.blocks.requested_bytes.tolist() == [one["requested_size"] for one in blocks]
    assert [BLOCK_STATES[code] for code in found.blocks.state] == [one["state"] for one in blocks]
    assert_stacks(found, found.blocks.stack.tolist(), blocks)
    notes, texts = loaded.get("external_annotations", []), found.stacks.texts
    assert [texts[at] for at in found.annotations.name] == [note["name"] for note in notes]


def assert_stacks(found: DeviceSnapshot, numbers: list[int], holders: list[Any]) -> None:
    """The stacks are those of the dicts."""
    known: dict[int, tuple[Frame, ...]] = {}
    for number, holder in zip(numbers, holders, strict=True):
        stack = known.setdefault(number, found.stacks.of(number))
        frames = tuple((one["name"], one["filename"], one["line"]) for one in holder["frames"])
        assert tuple((one.name, one.filename, one.line) for one in stack) == frames


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("seed", range(3))
def test_every_way_to_write_a_pickle(how: str, seed: int, tmp_path: Path) -> None:
    loaded = with_stacks(seed, steps=150)
    path = tmp_path / "snapshot.pickle"
    path.write_bytes(pickled(loaded, how))
    same(read_snapshot(path), loaded)


def test_an_optimised_pickle(tmp_path: Path) -> None:
    loaded = with_stacks(4)
    path = tmp_path / "snapshot.pickle"
    for protocol in (2, 4):
        path.write_bytes(pickletools.optimize(pickle.dumps(loaded, protocol)))
        same(read_snapshot(path), loaded)


@pytest.mark.skipif(not RECORDED, reason="no recorded snapshots here (KVATLAS_SHARED)")
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
@pytest.mark.slow
def test_recorded_snapshots_are_read_as_python_reads_them(path: Path) -> None:
    same(read_snapshot(path), trusted(path))


def test_before_2_1_blocks_had_neither_address_nor_requested_size(tmp_path: Path) -> None:
    loaded = with_stacks(1)
    addresses = []
    for segment in loaded["segments"]:
        segment.pop("requested_size")
        for block in segment["blocks"]:
            addresses.append(block.pop("address"))
            block.pop("requested_size")
            block["history"] = [{"addr": 1, "real_size": 2, "frames": block.pop("frames")}]
            block["state"] = block["state"].replace("pending_free", "awaiting_free")
    path = tmp_path / "snapshot.pickle"
    path.write_bytes(pickle.dumps(loaded))
    found = read_snapshot(path)
    assert sorted(found.blocks.address.tolist()) == sorted(addresses)
    assert set(found.blocks.requested_bytes.tolist()) == {-1}


@pytest.mark.slow
def test_memory_is_that_of_the_columns(tmp_path: Path) -> None:
    """GIVEN 200,000 events with long stacks THEN a list of dicts is never made of them."""
    import tracemalloc

    loaded = with_stacks(2)
    events = loaded["device_traces"][0]
    stack = [{"name": f"call {at}", "filename": "file.py", "line": at} for at in range(60)]
    one = dict(events[0], action="snapshot", frames=stack)
    many = [dict(one, frames=list(stack), time_us=at) for at in range(20_000)]
    loaded["device_traces"][0] = events + many
    path = tmp_path / "snapshot.pickle"
    path.write_bytes(pickle.dumps(loaded))
    nbytes = path.stat().st_size
    del many, loaded
    tracemalloc.start()
    found = read_snapshot(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.traces[0]) > 20_000
    # 150 bytes an event, the windows, and the pickle's memo.
    assert peak < 20_000 * 250 + (8 << 20) < nbytes * 2
