"""Compression, long lines and memory: what a file says never decides how much is held."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import zstandard
from workload_builders import mooncake_row, public_trace, same

from kvatlas.errors import InputError
from kvatlas.workload import load
from kvatlas.workload.readers import text


def trace_bytes(rows: int) -> bytes:
    rng = np.random.default_rng(0)
    made = [
        mooncake_row(k, 512 * n, rng.integers(0, 1 << 40, n).tolist())
        for k, n in enumerate(rng.integers(1, 60, rows).tolist())
    ]
    return "\n".join(map(json.dumps, made)).encode()


def test_gzip_and_zstd_read_like_the_plain_file(tmp_path: Path) -> None:
    data = trace_bytes(3000)
    half = len(data) // 2
    forms = {
        "t.jsonl": data,
        "t.jsonl.gz": gzip.compress(data[:half]) + gzip.compress(data[half:]),
        "t.jsonl.zst": zstandard.compress(data[:half]) + zstandard.compress(data[half:]),
        "t": gzip.compress(data),  # the content decides, not the suffix
    }
    loaded = []
    for name, content in forms.items():
        (tmp_path / name).write_bytes(content)
        loaded.append(load(tmp_path / name).with_(source=""))
    assert loaded[0].name == "t"
    assert all(same(loaded[0], other) for other in loaded[1:])


def test_a_ten_gigabyte_line_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with path.open("wb") as out:
        out.write(json.dumps(mooncake_row(0, 5, [1])).encode() + b'\n{"hash_ids": ')
        out.truncate(10 * 1024**3)  # sparse: takes no space
    tracemalloc.start()
    with pytest.raises(InputError, match=r"t.jsonl:2: the line is longer than 64 MiB"):
        load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_a_decompression_bomb_is_refused_early(
    tmp_path: Path, compress: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "MAX_LINE_BYTES", 4 * 2**20)
    path = tmp_path / "t.jsonl"
    path.write_bytes(compress(b'{"hash_ids": ' + b" " * (256 * 2**20)))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"t.jsonl:1: the line is longer than 4 MiB"):
        load(path, format="mooncake")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80 * 2**20


def test_a_document_is_bounded_too(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(b'{"block_size": 64, "requests": [' + b" " * 5000)
    with pytest.raises(InputError, match="larger than 0 MiB"):
        text.read_document(path, 1000)


def test_reading_holds_at_most_three_times_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(trace_bytes(20_000))
    load(path, limit=10)  # imports and compiles
    tracemalloc.start()
    w = load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * w.columnar_bytes + 4 * 2**20


def test_the_conversation_trace_in_little_memory() -> None:
    path = public_trace("mooncake_conversation.jsonl")
    load(path, limit=10)
    tracemalloc.start()
    w = load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * w.columnar_bytes + 2 * 2**20
