"""libCacheSim's lcs traces: every version, damage of every kind, and its own reader beside ours."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from kvatlas.errors import InputError
from kvatlas.measure.curves import lru_curve, request_paths, reuse_runs
from kvatlas.workload import detect, load
from kvatlas.workload.readers.lcs import HEADER_BYTES, MAGIC, RECORDS

Requests = Sequence[tuple[int, int, int]]
"""Clock time in seconds, object id, object size in bytes."""

FEW: Requests = [(5, 7, 100), (5, 2**64 - 1, 4096), (9, 7, 100), (9, 0, 1)]


def lcs_bytes(requests: Requests, *, version: int = 1, promised: int | None = None) -> bytes:
    """Return a trace in the layout that lcs.h documents; what is not read is filled with ones."""
    header = bytearray(HEADER_BYTES)
    count = len(requests) if promised is None else promised
    struct.pack_into("<QQqq", header, 0, MAGIC, version, 1, count)
    struct.pack_into("<Q", header, HEADER_BYTES - 8, MAGIC)
    records = np.frombuffer(
        bytearray(b"\1" * RECORDS[version].itemsize * len(requests)), dtype=RECORDS[version]
    )
    for column, values in zip(
        ("clock_time", "obj_id", "obj_size"), zip(*requests, strict=True), strict=False
    ):
        records[column] = np.array(values, dtype=object)
    return bytes(header) + records.tobytes()


def written(path: Path, requests: Requests = FEW, **how: Any) -> Path:
    path.write_bytes(lcs_bytes(requests, **how))
    return path


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("version", "size"), [(1, 24), (2, 28), (3, 36), (4, 40), (5, 44), (6, 52), (7, 68), (8, 100)]
)
def test_every_version(tmp_path: Path, version: int, size: int) -> None:
    # GIVEN a file of one version WHEN it is read THEN each object is one block of its own
    assert RECORDS[version].itemsize == size
    path = written(tmp_path / "trace.lcs", version=version)
    assert detect(path).name == "lcs"
    w = load(path, tokens_per_object=32)
    assert w.name == "trace"
    assert w.arrival_s.tolist() == [0, 0, 4, 4]
    assert w.prompt_tokens.tolist() == [33] * 4
    assert w.tokens_per_id == 32
    assert w.ids.tolist() == [0, 1, 2, 3, 0, 1, 4, 5]
    assert w.notes[0].startswith("objects, not prompts")
    assert w.notes[1].startswith("objects have 1 to 4,096 bytes")


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_compressed(tmp_path: Path, compress: Any) -> None:
    path = tmp_path / "trace.lcs.packed"
    path.write_bytes(compress(lcs_bytes(FEW)))
    assert load(path).num_requests == 4


def test_an_object_is_found_again(tmp_path: Path) -> None:
    # GIVEN one object over and over WHEN replayed one after another THEN all but the first hit
    w = load(written(tmp_path / "t", [(0, 5, 9)] * 10))
    assert len(w.notes) == 1
    curve = lru_curve(reuse_runs(request_paths(w, 16)))
    assert (int(curve.blocks(1)[0]), curve.queried_blocks) == (9, 10)
    assert int(curve.tokens(1)[0]) == 9 * 16


def test_many_batches_and_limits(tmp_path: Path) -> None:
    requests = [(row // 9, row % 1000, row % 3) for row in range(100_000)]
    path = written(tmp_path / "t", requests)
    w = load(path)
    assert w.num_requests == 66_666
    assert "33,334 requests for objects of size 0 are left out" in w.notes[2]
    assert [load(path, limit=n).num_requests for n in (1, 44_000, 66_666, 99_999)] == [
        1,
        44_000,
        66_666,
        66_666,
    ]
    assert "2 requests for objects of size 0" in load(path, limit=3).notes[2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lcs_bytes(FEW)[:100], "the header has 100 bytes of 8,192"),
        (lcs_bytes(FEW)[:-1], "holds 3 requests and 23 bytes of another where its header promises"),
        (lcs_bytes(FEW)[:-24], "the file holds 3 requests where its header promises 4"),
        (lcs_bytes(FEW) + b"\0" * 24, "the file holds 5 requests where its header promises 4"),
        (lcs_bytes(FEW, promised=-1), "promises a negative number of requests (got -1)"),
        (lcs_bytes([]), "the file holds no requests"),
        (lcs_bytes([(0, 1, 0)]), "the file holds no requests"),
        (lcs_bytes(FEW, version=2).replace(b"\2", b"\t", 1), "version: an unknown version of the"),
        (lcs_bytes(FEW)[: HEADER_BYTES - 8] + b"\0" * 99, "wrong number at its header's end"),
        (b"\0" * HEADER_BYTES, "wrong number at its header's start (got 0x0)"),
        (lcs_bytes([(0, 1, 1), (0, 1, -1)], version=3), ":2: obj_size: an object cannot have a"),
        (lcs_bytes([(3, 1, 1), (2, 1, 1)]), ":2: clock_time: arrives before the request above it"),
        (zstandard.compress(lcs_bytes(FEW))[:-3], "the zstd file ends too early"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.lcs"
    path.write_bytes(content)
    assert message in refused(path, format="lcs")


def test_options(tmp_path: Path) -> None:
    path = written(tmp_path / "t", [(3, 1, 1), (2, 1, 1)])
    assert load(path, sort=True).arrival_s.tolist() == [0, 1]
    assert "tokens_per_object: not a number" in refused(path, tokens_per_object=0)
    # A count of 0 is what files from before the statistics hold: nothing to compare with.
    assert load(written(path, promised=0)).num_requests == 4


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(RECORDS)), st.data())
def test_damage_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, version: int, data: st.DataObject
) -> None:
    """Overwrite, cut or insert bytes anywhere: the file loads or is refused in one line."""
    intact = lcs_bytes(FEW, version=version)
    # Half of the damage goes where the numbers are, not into 8 KiB of statistics.
    place = data.draw(
        st.one_of(st.integers(0, len(intact)), st.integers(0, 40), st.integers(8180, len(intact)))
    )
    inserted = data.draw(st.binary(max_size=12))
    removed = data.draw(st.integers(0, 30))
    path = tmp_path_factory.mktemp("d") / "t"
    path.write_bytes(intact[:place] + inserted + intact[place + removed :])
    try:
        load(path, format="lcs").check()
    except InputError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("version", sorted(RECORDS))
def test_libcachesim_reads_the_same(tmp_path: Path, version: int) -> None:
    """Object by object and miss by miss, where libCacheSim is installed."""
    theirs = pytest.importorskip("libcachesim")
    rng = np.random.default_rng(version)
    popular, sizes = rng.zipf(1.2, 3000).tolist(), rng.integers(0, 50, 3000).tolist()
    requests = [
        (second, number * 0x9E37_79B9_7F4A_7C15 % 2**64, size)  # ids of all 64 bits
        for second, (number, size) in enumerate(zip(popular, sizes, strict=True))
    ]
    path = written(tmp_path / "t.lcs", requests, version=version)
    params = theirs.ReaderInitParam(ignore_obj_size=True)
    reader = theirs.TraceReader(str(path), theirs.TraceType.LCS_TRACE, params)
    told = [(r.clock_time, r.obj_id) for r in reader]
    assert told == [(second, number) for second, number, size in requests if size > 0]

    w = load(path)
    assert (w.arrival_s + told[0][0]).tolist() == [second for second, _ in told]
    of_object = dict(zip((number for _, number in told), w.ids[::2].tolist(), strict=True))
    assert [of_object[number] for _, number in told] == w.ids[::2].tolist()
    assert len(set(of_object.values())) == len(of_object)
    curve = lru_curve(reuse_runs(request_paths(w, 16)))
    for capacity in (1, 10, 100, 500):
        reader.reset()
        missed, _ = theirs.LRU(cache_size=capacity).process_trace(reader)
        hits = int(curve.blocks(capacity)[0])
        assert hits == round((1 - missed) * len(told))
