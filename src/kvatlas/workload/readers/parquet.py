"""kvatlas's own Parquet form of a workload: written and read back without loss.

One row per request: `arrival_s`, `prompt_tokens`, `output_tokens`, `ids` (a large list of int32 or
int64), `session`, `parent`, `priority`, `salt`. What is not per request lies as JSON in the
schema's metadata under `kvatlas.workload`, with `schema` = 1. A file is not trusted: types, nulls
and every promise of `Workload` are checked.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError, InvariantError
from kvatlas.workload.formats import Reader
from kvatlas.workload.model import Workload

__all__ = ["READER", "SCHEMA_VERSION", "write_parquet"]

SCHEMA_VERSION = 1
_KEY = b"kvatlas.workload"
_ROW_GROUP = 65_536
_COLUMNS = {
    "arrival_s": np.float64,
    "prompt_tokens": np.int32,
    "output_tokens": np.int32,
    "session": np.int32,
    "parent": np.int32,
    "priority": np.int32,
    "salt": np.int32,
}


class _Metadata(msgspec.Struct, forbid_unknown_fields=True):
    schema: int
    name: str
    source: str
    tokens_per_id: int
    num_ids: int
    prefix_known: bool
    outputs_identified: bool
    notes: tuple[str, ...]


_DESCRIBED = tuple(name for name in _Metadata.__struct_fields__ if name != "schema")


def write_parquet(workload: Workload, path: str | os.PathLike[str]) -> None:
    """Write `workload` to `path`, whole or not at all (a temporary file is renamed).

    `load` gives back an equal workload, column types included. O(N + M).
    Raises: InputError when the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    described = {field: getattr(workload, field) for field in _DESCRIBED}
    columns: dict[str, Any] = {name: pa.array(getattr(workload, name)) for name in _COLUMNS}
    columns["ids"] = pa.LargeListArray.from_arrays(workload.id_offsets, workload.ids)
    table = pa.table(columns).replace_schema_metadata(
        {_KEY: msgspec.json.encode(_Metadata(schema=SCHEMA_VERSION, **described))}
    )
    file = Path(path)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        pq.write_table(table, partial, compression="zstd", row_group_size=_ROW_GROUP)
        partial.replace(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(
            f"cannot be written: {error.strerror or error}",
            file=str(file),
            remedy="choose a folder that exists and is writable",
        ) from None


def _sniff(head: bytes, path: Path) -> bool:
    return head.startswith(b"PAR1")


def _read(path: Path, *, limit: int | None = None) -> Workload:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _bad(path, f"not a readable Parquet file: {str(error).splitlines()[0]}") from None
    described = _metadata(path, table.schema.metadata or {})
    columns: dict[str, Any] = {
        name: _column(path, table, name, dtype) for name, dtype in _COLUMNS.items()
    }
    ids, offsets = _ids(path, table)
    workload = Workload(
        **{name: getattr(described, name) for name in _DESCRIBED},
        **columns,
        ids=ids,
        id_offsets=offsets,
    )
    try:
        workload.check()
    except InvariantError as error:
        raise _bad(path, f"a broken promise: {error}") from None
    return workload if limit is None else workload.head(limit)


def _metadata(path: Path, metadata: dict[bytes, bytes]) -> _Metadata:
    if _KEY not in metadata:
        raise InputError(
            "a Parquet file that kvatlas did not write",
            file=str(path),
            remedy="convert it to CSV or JSONL with arrival, input and output columns",
        )
    try:
        version = msgspec.json.decode(metadata[_KEY], type=dict[str, Any]).get("schema")
        if version != SCHEMA_VERSION:
            raise InputError(
                f"written by another kvatlas; this one reads schema {SCHEMA_VERSION}",
                file=str(path),
                field="schema",
                value=version,
                remedy="write it again, or upgrade kvatlas",
            )
        return msgspec.json.decode(metadata[_KEY], type=_Metadata)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise _bad(path, f"damaged metadata: {error}") from None


def _column(path: Path, table: Any, name: str, dtype: Any) -> NDArray[Any]:
    column = _chunked(path, table, name)
    if str(column.type) != {np.float64: "double", np.int32: "int32"}[dtype]:
        raise _bad(path, f"has type {column.type}, not {np.dtype(dtype).name}", name)
    if column.null_count:
        raise _bad(path, f"has {column.null_count:,} nulls", name)
    values: NDArray[Any] = column.to_numpy()
    return np.require(values, requirements=["C", "W"])


def _ids(path: Path, table: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    column = _chunked(path, table, "ids")
    kinds = {"int32": np.int32, "int64": np.int64}
    kind = kinds.get(str(getattr(column.type, "value_type", None)))
    if kind is None or not str(column.type).startswith("large_list"):
        raise _bad(path, f"has type {column.type}, not large_list<int32 or int64>", "ids")
    if column.null_count or any(piece.flatten().null_count for piece in column.chunks):
        raise _bad(path, "has nulls", "ids")
    # flatten() respects a slice's bounds, the raw child array does not.
    pieces = [piece.flatten().to_numpy() for piece in column.chunks]
    counts = [piece.value_lengths().to_numpy() for piece in column.chunks]
    offsets = np.zeros(len(column) + 1, dtype=np.int64)
    np.cumsum(np.concatenate([np.empty(0, np.int64), *counts]), out=offsets[1:])
    return np.concatenate([np.empty(0, kind), *pieces]), offsets


def _chunked(path: Path, table: Any, name: str) -> Any:
    if table.column_names.count(name) != 1:
        raise _bad(path, "the column is missing, or there twice", name)
    return table.column(name)


def _bad(path: Path, what: str, field: str | None = None) -> InputError:
    return InputError(what, file=str(path), field=field, remedy="write the file again")


READER = Reader(
    name="parquet",
    summary="a workload that kvatlas wrote (write_parquet)",
    sniff=_sniff,
    read=_read,
)
