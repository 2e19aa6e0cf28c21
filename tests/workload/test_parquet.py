"""The Parquet form: lossless there and back, and never trusted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from workload_builders import public_trace, same, workload, workloads

from kvatlas.errors import InputError
from kvatlas.workload import Workload, detect, load, write_parquet

KEY = b"kvatlas.workload"


@settings(max_examples=50, deadline=None)
@given(workloads())
def test_there_and_back(tmp_path_factory: pytest.TempPathFactory, w: Workload) -> None:
    path = tmp_path_factory.mktemp("p") / "w.parquet"
    write_parquet(w, path)
    assert same(load(path), w)


def example() -> Workload:
    return workload([32, 20, 48], [[1, 2], [1, 3], [1, 2, 4]], parents=[-1, -1, 0])


def test_wide_ids_and_limit(tmp_path: Path) -> None:
    w = example().with_(ids=example().ids.astype(np.int64))
    write_parquet(w, tmp_path / "w.parquet")
    assert detect(tmp_path / "w.parquet").name == "parquet"
    assert load(tmp_path / "w.parquet").ids.dtype == np.int64
    assert same(load(tmp_path / "w.parquet", limit=2), w.head(2))


def test_several_row_groups(tmp_path: Path) -> None:
    w = workload([16] * 70_000, [[k % 5] for k in range(70_000)])
    write_parquet(w, tmp_path / "w.parquet")
    assert pq.ParquetFile(tmp_path / "w.parquet").num_row_groups == 2
    assert same(load(tmp_path / "w.parquet"), w)


def test_the_conversation_trace(tmp_path: Path) -> None:
    w = load(public_trace("mooncake_conversation.jsonl"))
    write_parquet(w, tmp_path / "w.parquet")
    assert same(load(tmp_path / "w.parquet"), w)


def test_writing_where_one_cannot(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_parquet(example(), tmp_path / "none" / "w.parquet")
    assert list(tmp_path.iterdir()) == []


def replaced(table: pa.Table, name: str, column: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def described(table: pa.Table, **changes: Any) -> pa.Table:
    told = {**json.loads(table.schema.metadata[KEY]), **changes}
    return table.replace_schema_metadata({KEY: json.dumps(told)})


def lists(*values: list[int | None] | None) -> pa.Array:
    return pa.array(values, type=pa.large_list(pa.int32()))


DAMAGES: list[tuple[Callable[[pa.Table], pa.Table], str]] = [
    (lambda t: t.replace_schema_metadata({}), "a Parquet file that kvatlas did not write"),
    (lambda t: t.replace_schema_metadata({KEY: b"{"}), "damaged metadata"),
    (lambda t: t.replace_schema_metadata({KEY: b"[" * 99999}), "damaged metadata"),
    (lambda t: t.replace_schema_metadata({KEY: b'{"schema": 1}'}), "damaged metadata"),
    (lambda t: described(t, schema=2), "schema: written by another kvatlas.*got 2"),
    (lambda t: described(t, num_ids="4"), "damaged metadata"),
    (lambda t: described(t, num_ids=2**62), "a broken promise"),
    (lambda t: described(t, tokens_per_id=0), "a broken promise"),
    (lambda t: described(t, tokens_per_id=2**70), "damaged|broken"),
    (lambda t: described(t, surprise=1), "damaged metadata"),
    (lambda t: t.drop_columns(["salt"]), "salt: the column is missing"),
    (
        lambda t: t.append_column("salt", t.column("salt")),
        "salt: the column is missing, or there tw",
    ),
    (lambda t: replaced(t, "arrival_s", pa.array([1, 2, 3])), "arrival_s: has type int64"),
    (lambda t: replaced(t, "arrival_s", pa.array([0.0, None, 1.0])), "arrival_s: has 1 nulls"),
    (lambda t: replaced(t, "arrival_s", pa.array([0.0, np.nan, 1.0])), "arrival_s must be finite"),
    (lambda t: replaced(t, "parent", pa.array([5, 5, 5], pa.int32())), "earlier row"),
    (lambda t: replaced(t, "ids", pa.array([1, 2, 3])), "ids: has type int64"),
    (lambda t: replaced(t, "ids", lists([0, 1], None, [0, 1, 3])), "ids: has nulls"),
    (lambda t: replaced(t, "ids", lists([0, 1], [0, None], [0, 1, 3])), "ids: has nulls"),
    (lambda t: replaced(t, "ids", lists([0, 1], [0], [0, 1, 3])), "ceil"),
    (lambda t: replaced(t, "ids", lists([0, 1], [0, -9], [0, 1, 3])), "negative"),
    (lambda t: replaced(t, "session", pa.array([7, 7, 7], pa.int32())), "session must be dense"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damaged_files_are_refused(
    tmp_path: Path, damage: Callable[[pa.Table], pa.Table], message: str
) -> None:
    path = tmp_path / "w.parquet"
    write_parquet(example(), path)
    pq.write_table(damage(pq.ParquetFile(path).read()), path)
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes_never_raise_anything_else(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "w.parquet"
    write_parquet(example(), path)
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(4, len(data), 3):
        data[place] = int(rng.integers(0, 256))
    path.write_bytes(bytes(data[: len(data) - (seed % 3)]))
    try:
        load(path)
    except InputError as error:
        assert "\n" not in str(error)
