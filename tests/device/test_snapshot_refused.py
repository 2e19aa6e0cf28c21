"""Bad snapshots: each is refused in one line that names the file, and nothing in it is run."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
from snapshot_files import with_stacks

from kvatlas.device import DeviceTwin, read_snapshot
from kvatlas.errors import InputError


class Runs:
    """A pickle of it calls a function when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def refused(path: Path, raw: bytes) -> str:
    """Return the one line."""
    path.write_bytes(raw)
    with pytest.raises(InputError) as caught:
        DeviceTwin(read_snapshot(path))
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_calls_os_system(protocol: int, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    for thing in (Runs(touched), {"segments": [Runs(touched)]}):
        text = refused(tmp_path / "bad.pickle", pickle.dumps(thing, protocol))
        assert "asks for code" in text
        assert "bad.pickle" in text
        if protocol < 4:
            assert "system" in text
    assert not touched.exists()


CLAIMS = {
    "a frame of 10 GB": b"\x80\x04\x95" + struct.pack("<Q", 10 << 30) + b"}.",
    "a string of 10 GB": b"\x80\x04\x8d" + struct.pack("<Q", 10 << 30) + b"a.",
    "a string of 4 GB": b"X" + struct.pack("<I", 0xFFFFFFFF) + b"a.",
    "a number of 2 GB": b"\x8b" + struct.pack("<I", 0x7FFFFFFF) + b"\x01.",
    "a memo number of 4 billion": b"}r" + struct.pack("<I", 0xFFFFFFFF) + b".",
    "a memo number in text": b"}p999999999\n.",
    "a memo number below 0": b"}p-1\n.",
    "a get of what is not there": b"h\x05.",
    "many marks": b"(" * 100_000,
    "lists in lists": b"]" * 100_000 + b"a" * 99_999 + b".",
    "tuples in tuples": b")" + b"\x85" * 100_000 + b".",
    "a list that holds itself": b"]\x94h\x00a.",
    "a dict that holds itself": b"}\x94(\x8c\x01ah\x00u.",
    "numbers without end": b"N" * 100 + b".",
    "no stop": b"}",
    "nothing": b"",
    "a text": b"hello, world\n",
    "an empty dict": b"}.",
    "no dict": b"K\x01.",
    "a long line": b"V" + b"a" * (2 << 20) + b"\n.",
    "a long number in text": b"I" + b"1" * 1000 + b"\n.",
    "bytes": b"\x80\x04C\x01a.",
    "a set": b"\x80\x04\x8f.",
    "a protocol from the future": b"\x80\x09}.",
    "an opcode that is none": b"\xff.",
    "not UTF-8": b"\x8c\x01\xff.",
    "a pop of nothing": b"0.",
    "an append to nothing": b"Na.",
    "an item of nothing": b"NNs.",
    "appends to a number": b"K\x01(K\x02e.",
}


@pytest.mark.parametrize("name", CLAIMS)
def test_what_a_pickle_claims(name: str, tmp_path: Path) -> None:
    assert "bad.pickle" in refused(tmp_path / "bad.pickle", CLAIMS[name])


def spoiled(field: str, value: Any, where: str) -> dict[str, Any]:
    """Return a snapshot with one value changed."""
    loaded = with_stacks(1)
    holder = {
        "root": loaded,
        "segment": loaded["segments"][0],
        "block": loaded["segments"][0]["blocks"][0],
        "event": loaded["device_traces"][0][0],
        "settings": loaded["allocator_settings"],
    }[where]
    holder[field] = value
    return loaded


SPOILED = {
    "a block with a gap": ("address", 1 << 30, "block", "gap"),
    "a negative size": ("size", -512, "block", "0 to 2**63"),
    "sizes that do not sum": ("total_size", 512, "segment", "not the sum"),
    "allocated that does not sum": ("allocated_size", 0, "segment", "not the sum"),
    "more requested than there is": ("requested_size", 1 << 40, "block", "more was requested"),
    "a state that is none": ("state", "asleep", "block", "no allocator knows"),
    "an action that is none": ("action", "dance", "event", "no allocator writes"),
    "a size that is text": ("size", "big", "event", "whole number"),
    "a size that is true": ("size", True, "event", "whole number"),
    "a size of 2**70": ("size", 2**70, "event", "whole number"),
    "a size of 2**90": ("size", 2**90, "event", "longer than"),
    "a size of 2**63": ("size", 2**63, "event", "whole number"),
    "frames that are none": ("frames", "here", "event", "stack frames"),
    "a segment type that is none": ("segment_type", "medium", "segment", "neither small"),
    "no blocks": ("blocks", [], "segment", "without blocks"),
    "blocks that are numbers": ("blocks", [1], "segment", "without blocks"),
    "a pool that is none": ("segment_pool_id", (1, "a"), "segment", "pool"),
    "traces that are no lists": ("device_traces", [1], "root", "not a list"),
    "segments that are none": ("segments", 3, "root", "not a list"),
    "settings that are none": ("allocator_settings", 3, "root", "not a dict"),
    "a split size below the least": ("max_split_size", 512, "settings", "max_split_size_mb"),
    "a threshold of NaN": ("garbage_collection_threshold", float("nan"), "settings", "number"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_contradicts_itself(name: str, tmp_path: Path) -> None:
    field, value, where, said = SPOILED[name]
    raw = pickle.dumps(spoiled(field, value, where))
    assert said in refused(tmp_path / "bad.pickle", raw)


def test_segments_that_overlap(tmp_path: Path) -> None:
    loaded = with_stacks(1)
    loaded["segments"] += loaded["segments"][:1]
    assert "overlap" in refused(tmp_path / "bad.pickle", pickle.dumps(loaded, 0))
    # The same dict twice in one pickle is one that is in two places.
    raw = pickle.dumps(loaded)
    assert "two" in refused(tmp_path / "bad.pickle", raw)


def test_a_trace_that_frees_twice(tmp_path: Path) -> None:
    loaded = with_stacks(1)
    trace = loaded["device_traces"][0]
    freed = next(one for one in trace if one["action"] == "free_requested")
    trace.append(dict(freed))
    trace.append(dict(freed))
    assert "contradicts" in refused(tmp_path / "bad.pickle", pickle.dumps(loaded))


def test_a_trace_whose_blocks_lie_nowhere(tmp_path: Path) -> None:
    loaded = with_stacks(1)
    event = {"size": 512, "addr": 1 << 40, "stream": 0, "time_us": 1, "frames": []}
    loaded["device_traces"][0].append({"action": "free_requested", **event})
    text = refused(tmp_path / "bad.pickle", pickle.dumps(loaded))
    assert "no segment" in text


def test_no_trace_and_which_device(tmp_path: Path) -> None:
    loaded = with_stacks(1)
    loaded["device_traces"] = []
    assert "traces of 0 devices" in refused(tmp_path / "bad.pickle", pickle.dumps(loaded))
    good = tmp_path / "good.pickle"
    good.write_bytes(pickle.dumps(with_stacks(1)))
    with pytest.raises(InputError, match="no trace of this device"):
        DeviceTwin(read_snapshot(good), 5)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_snapshot(tmp_path / "missing.pickle")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe, Path("/dev/null")):
        with pytest.raises(InputError, match="plain file"):
            read_snapshot(path)
