"""Bad files: every one ends in a single-line `InputError` that names file, place and remedy."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from workload_builders import mooncake_row, write_lines

from kvatlas.errors import InputError
from kvatlas.workload import format_names, load

GOOD = '{"timestamp": 0, "input_length": 5, "output_length": 5, "hash_ids": [1]}'


def refused(path: Path | str, **options: Any) -> str:
    """Load what must be refused and return the message, which must be one line naming the file."""
    with pytest.raises(InputError) as caught:
        load(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600 + len(str(path))
    return message


def mooncake(**changes: Any) -> dict[str, Any]:
    return {**mooncake_row(0, 5, [1]), **changes}


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in mooncake_row(0, 5, [1]).items() if name != field}


BAD_ROWS: list[tuple[Any, str]] = [
    (without("input_length"), "input_length: the field is missing; add it"),
    (without("hash_ids"), "hash_ids: the field is missing"),
    (mooncake(input_length=-5), "input_length: a length cannot be negative (got -5)"),
    (mooncake(input_length=0, hash_ids=[]), "input_length: a request needs a prompt (got 0)"),
    (mooncake(input_length=100_000_001), "input_length: a length above 100,000,000 tokens"),
    (mooncake(output_length=10**15), "output_length: a length above 100,000,000 tokens"),
    (mooncake(output_length=-1), "output_length: a length cannot be negative"),
    (mooncake(input_length=2**64), "input_length: the number does not fit in 64 bits"),
    (mooncake(input_length=True), "input_length: expected int, got bool (got true)"),
    (mooncake(input_length=5.5), "input_length: expected int, got float"),
    (mooncake(input_length="5"), "input_length: expected int, got str"),
    (mooncake(input_length=None), "input_length: expected int, got null"),
    (mooncake(hash_ids=[1, 2]), "hash_ids: 2 ids for 5 prompt tokens; 1 ids of 512 tokens are due"),
    (mooncake(hash_ids=[]), "hash_ids: 0 ids for 5 prompt tokens"),
    (
        mooncake(hash_ids=[2**63]),
        "hash_ids: the id does not fit in 64 bits (got 9223372036854775808)",
    ),
    (mooncake(hash_ids=[1, True]), "hash_ids[1]: expected int, got bool (got true)"),
    (mooncake(hash_ids=["a"]), 'hash_ids[0]: expected int, got str (got "a")'),
    (mooncake(hash_ids=3), "hash_ids: expected array, got int"),
    (mooncake(timestamp="x"), "timestamp: expected float, got str"),
    (GOOD.replace("0,", "NaN,", 1), "not valid JSON"),
    (GOOD.replace("0,", "1e999,", 1), "timestamp: number out of range (got 1e999)"),
    (GOOD.replace("0,", "-1,", 1), "timestamp: arrives before the request above it (got -1.0)"),
    (GOOD[:-5], "not valid JSON"),
    ("[1, 2]", "expected object, got array"),
    ("null", "expected object, got null"),
    ("[" * 100_000, "expected object, got array"),
    ('{"x": ' + "[" * 100_000, "not valid JSON"),
    (f"{GOOD} {GOOD}", "not valid JSON"),
]


@pytest.mark.parametrize(("row", "message"), BAD_ROWS, ids=[message for _, message in BAD_ROWS])
def test_a_bad_line_is_named(tmp_path: Path, row: Any, message: str) -> None:
    path = write_lines(tmp_path / "t.jsonl", [GOOD, "", GOOD, row, GOOD])
    said = refused(path)
    assert said.startswith(f"{path}:4: ")
    assert message in said


CSV_HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"
BAD_CSV = [
    ("2023-11-16 18:15:46.68,374", "2 cells where the header has 3"),
    ("2023-11-16 18:15:46.68,374,44,1", "4 cells where the header has 3"),
    ("2023-11-16 18:15:46.68,,44", "ContextTokens: not a whole number of tokens"),
    ("2023-11-16 18:15:46.68,x,44", "ContextTokens: not a whole number of tokens (got x)"),
    ("2023-11-16 18:15:46.68,1.5,44", "ContextTokens: not a whole number of tokens (got 1.5)"),
    ("2023-11-16 18:15:46.68,nan,44", "ContextTokens: not a whole number of tokens (got nan)"),
    ("2023-11-16 18:15:46.68,1e400,44", "ContextTokens: not a whole number of tokens"),
    ("2023-11-16 18:15:46.68,5,-44", "GeneratedTokens: a length cannot be negative (got -44)"),
    ("2023-11-16 18:15:46.68,0,44", "ContextTokens: a request needs a prompt"),
    ("2023-11-16 18:15:46.68,99999999999999999999,44", "ContextTokens: "),
    ("2023-11-31 18:15:46.68,5,44", "TIMESTAMP: not a time like 2023-11-16 18:15:46.68"),
    ("9999-11-30 18:15:46.68,5,44", "TIMESTAMP: not a time like"),
    ("2023-11-16 18:15:46+99:00,5,44", "TIMESTAMP: not a time like"),
    ("2023-11-16 18:15:46+xx:00,5,44", "TIMESTAMP: not a time like"),
    ("yesterday,5,44", "TIMESTAMP: not a time like"),
    ("NaT,5,44", "TIMESTAMP: not a time like"),
    (",5,44", "TIMESTAMP: not a time like"),
    ("2023-11-16 10:00:00,5,44", "TIMESTAMP: arrives before the request above it"),
]


@pytest.mark.parametrize(("row", "message"), BAD_CSV)
def test_a_bad_csv_row_is_named(tmp_path: Path, row: str, message: str) -> None:
    good = "2023-11-16 18:15:46.6805900,374,44"
    path = write_lines(tmp_path / "t.csv", [CSV_HEADER, good, "", row])
    said = refused(path)
    assert said.startswith(f"{path}:4: ")
    assert message in said


@pytest.mark.parametrize("seconds", ["nan", "inf", "-inf", "x", ""])
def test_times_that_are_no_numbers(tmp_path: Path, seconds: str) -> None:
    path = write_lines(tmp_path / "t.csv", ["t,in,out", f"{seconds},1,1"])
    assert f"{path}:2: t: not a" in refused(path)


def spoiled(compress: Callable[[bytes], bytes]) -> bytes:
    """Compress many rows and overwrite the middle."""
    rows = "".join(f"{GOOD}\n" for _ in range(50)) + str([k * k for k in range(4000)])
    whole = compress(rows.encode())
    middle = len(whole) // 2
    return whole[: middle - 300] + b"\xff" * 600 + whole[middle + 300 :]


WHOLE_FILES: list[tuple[bytes, str]] = [
    (b"", "the file is empty"),
    (b" \n\n \n", "the file is empty"),
    (b"\x00\x01\x02\x03" * 2000, "a binary file of unknown format"),
    (b"\x7fELF\x02\x01\x01\x00" + bytes(range(256)) * 8, "a binary file of unknown format"),
    (b"hello world\n", "no known trace format fits this file"),
    (b"a,b,c\n1,2,3\n", "no known trace format fits"),
    (b'{"a": 1}\n', "no known trace format fits"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:3d\nsize 1\n", "Git LFS pointer"),
    (b"TIMESTAMP,ContextTokens,GeneratedTokens\n", "holds a header and no requests"),
    (GOOD.encode() + b'\n{"timestamp": 0, "x": "\xff\xfe"}\n', "not valid UTF-8 text"),
    (gzip.compress(GOOD.encode() * 3000)[:-20], "the gzip file ends too early"),
    (spoiled(gzip.compress), "the gzip file is damaged"),
    (b"\x1f\x8b\xff\xff garbage", "the gzip file is damaged"),
    (gzip.compress(b""), "the file is empty"),
    (zstandard.compress(os.urandom(999))[:-20], "the zstd file ends too early"),
    (spoiled(zstandard.compress), "the zstd file is damaged"),
    (b"PAR1" + b"\x00" * 50 + b"PAR1", "not a readable Parquet file"),
]


@pytest.mark.parametrize(("content", "message"), WHOLE_FILES, ids=[m for _, m in WHOLE_FILES])
def test_a_bad_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(content)
    said = refused(path)
    assert str(path) in said
    assert message in said


@pytest.mark.parametrize(
    "content",
    [
        b"{" + b'\\"' * 200_000,
        b"{" + b'"' * 300_000,
        b"," * 300_000 + b"\n1",
        b'{"a"' + b" " * 300_000,
    ],
)
def test_hostile_beginnings_are_told_apart_quickly(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t"
    path.write_bytes(content)
    began = time.process_time()
    assert "no known trace format fits" in refused(path)
    assert time.process_time() - began < 2


def test_the_line_of_invalid_utf8(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\n".join([GOOD.encode()] * 4000 + [b'{"timestamp": "\xe4"}']))
    assert f"{path}:4001: not valid UTF-8" in refused(path)


@pytest.mark.parametrize("name", sorted(set(format_names()) - {"parquet"}))
@pytest.mark.parametrize("content", [b"\0" * 4096, b"\xff\xfe" * 99, b"{", b"x\ny\n", b",\n", b'"'])
def test_every_format_refuses_nonsense(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "t"
    path.write_bytes(content)
    refused(path, format=name)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damage_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Flip, cut or insert bytes anywhere: the file loads or is refused in one line."""
    intact = data.draw(st.sampled_from(INTACT))
    place = data.draw(st.integers(0, len(intact)))
    inserted = data.draw(
        st.one_of(st.binary(max_size=4), st.sampled_from([b"-", b"9" * 30, b"\n"]))
    )
    removed = data.draw(st.integers(0, 6))
    path = tmp_path_factory.mktemp("d") / "t"
    path.write_bytes(intact[:place] + inserted + intact[place + removed :])
    try:
        load(path)
    except InputError as error:
        assert "\n" not in str(error)


INTACT = [
    f"{GOOD}\n{GOOD}\n".encode(),
    gzip.compress(f"{GOOD}\n{GOOD}\n".encode()),
    zstandard.compress(f"{GOOD}\n{GOOD}\n".encode()),
    b'{"chat_id":1,"parent_chat_id":-1,"timestamp":0.5,"input_length":20,"output_length":1,'
    b'"type":"text","turn":1,"hash_ids":[1,2]}\n',
    b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,5,6\n2023-11-16 18:15:47,5,6",
    b"Timestamp,Session ID,Model,Request tokens,Response tokens\n1,a,m,5,6\n2,a,m,5,6\n",
    b'"t","in","out"\n"1",5,6\n2,"5",6\n',
    b'{"t": 1, "in": 5, "out": 6}\n{"t": 2, "in": 5, "out": 6}\n',
    b'{"input_tok_ids":[1,2,3],"output_tok_ids":[4],"arrival_time_ns":7}\n',
    b'{"block_size":4,"requests":[{"t":0,"in":9,"out":1,"hash_ids":[1,2]},{"t":9,"type":"subagent",'
    b'"duration_ms":5,"requests":[{"t":0,"in":4,"out":1,"hash_ids":[3]}]}]}',
]


def test_paths_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such file" in refused(tmp_path / "none.jsonl")
    assert "cannot be read" in refused("a\0b")
    assert "cannot be read" in refused(tmp_path / ("x" * 5000))
    assert "not a regular file" in refused("/dev/null")
    assert "no session files" in refused(tmp_path)
    assert "cannot be read" in refused(tmp_path, format="mooncake")
    assert "not a readable Parquet file" in refused(tmp_path, format="parquet")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert "cannot be read" in refused(loop)
    path = write_lines(tmp_path / "t.jsonl", [GOOD])
    monkeypatch.setattr(os, "access", lambda *_: False)  # chmod does not stop root
    assert "permission denied" in refused(path)


def test_bad_arguments(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "t.jsonl", [GOOD])
    assert "unknown trace format (got csv); use one of azure-2023" in refused(path, format="csv")
    assert "limit must be at least 1" in refused(path, limit=0)
    assert "last_block: unknown choice" in refused(path, last_block="maybe")
    assert "tokens_per_id: not a number" in refused(path, tokens_per_id=0)
    assert "tokens_per_id: not a number" in refused(path, tokens_per_id=True)
    assert "it takes last_block, sort, tokens_per_id" in refused(path, block_size=16)
