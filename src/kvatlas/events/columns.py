"""Between records in memory and Arrow columns in files, both ways.

Owns: nulls, names of events and causes, the list of block ids. Leaves to others: files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.events.chunk import Chunk
from kvatlas.events.schema import CAUSES, COLUMNS, EVENT, EVENTS, NONE

__all__ = ["arrow_schema", "from_arrow", "to_arrow"]

_NAMES = {"event": tuple(EVENTS), "cause": CAUSES}
_TEXT = pa.dictionary(pa.int8(), pa.string())
_TYPES = {"int8": pa.int8(), "int32": pa.int32(), "int64": pa.int64(), "float64": pa.float64()}


def arrow_schema(metadata: dict[bytes, bytes] | None = None) -> pa.Schema:
    """Return the columns of a file."""
    fields = [pa.field(column.name, _TYPES.get(column.type, _TEXT)) for column in COLUMNS]
    fields += [pa.field("blocks", pa.list_(pa.int32())), pa.field("name", pa.string())]
    return pa.schema(fields, metadata)


def to_arrow(
    chunk: Chunk,
    schema: pa.Schema,
    sessions: NDArray[np.int32] | None = None,
    names: Sequence[str | None] | None = None,
) -> pa.RecordBatch:
    """Return a chunk as columns of their own, so that the chunk's memory may be used again.

    Args:
        chunk: raw or resolved; rows that list blocks do so in the order of their ids.
        schema: what `arrow_schema` gave.
        sessions: (R,) the session of each request, NONE without.
        names: (R,) each request's own id.
    """
    rows = chunk.rows
    arrived = np.flatnonzero(rows["event"] == list(EVENTS).index("arrived"))
    requests = rows["request"][arrived]
    arrays: list[Any] = []
    for column in COLUMNS:
        values = np.array(rows[column.name])
        if column.name == "session" and sessions is not None:
            values[arrived] = sessions[requests]
        known = values != column.absent
        if column.type == "text":
            values[~known] = 0  # readers look names up under nulls, too
        codes = pa.Array.from_buffers(
            pa.int8() if column.type == "text" else _TYPES[column.type],
            values.size,
            [_bitmap(known), pa.py_buffer(values)],
        )
        if column.type == "text":
            codes = pa.DictionaryArray.from_arrays(codes, pa.array(_NAMES[column.name]))
        arrays.append(codes)
    arrays.append(_lists(chunk))
    if names is None:
        arrays.append(pa.nulls(rows.size, pa.string()))
    else:
        column_of_names = np.full(rows.size, None, object)
        column_of_names[arrived] = [names[request] for request in requests.tolist()]
        arrays.append(pa.array(column_of_names, pa.string()))
    return pa.record_batch(arrays, schema=schema)


def _bitmap(known: NDArray[np.bool_]) -> pa.Buffer | None:
    return None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))


def _lists(chunk: Chunk) -> pa.Array:
    at = chunk.rows["blocks_at"]
    listed = at != NONE
    lengths = np.where(listed, chunk.rows["count"], 0)
    offsets = np.zeros(at.size + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    if not np.array_equal(offsets[:-1][listed], at[listed]):
        # Lists that share ids or stand in another order, as in a resolved chunk.
        order = np.repeat(at[listed] - offsets[:-1][listed], lengths[listed])
        ids = chunk.ids[order + np.arange(offsets[-1])]
    else:
        ids = chunk.ids[: offsets[-1]].copy()
    return pa.Array.from_buffers(
        pa.list_(pa.int32()),
        at.size,
        [_bitmap(listed), pa.py_buffer(offsets)],
        children=[pa.Array.from_buffers(pa.int32(), ids.size, [None, pa.py_buffer(ids)])],
    )


def from_arrow(batch: pa.RecordBatch, names: dict[int, str], file: str) -> Chunk:
    """Return the chunk that a batch holds, and add to `names` what requests are called.

    Raises: InputError for columns that are missing, of another type, or hold unknown events.
    """
    try:
        batch.validate(full=True)
    except (pa.ArrowException, ValueError) as error:
        raise InputError("damaged: its columns contradict themselves", file=file) from error
    rows = np.empty(batch.num_rows, EVENT)
    for column in COLUMNS:
        values = _column(batch, column.name, file)
        if column.type == "text":
            rows[column.name] = _codes(values, column.name, file)
            continue
        if values.type != _TYPES[column.type]:
            raise _foreign(file, column.name, f"must be {column.type}", str(values.type))
        if values.null_count:
            values = values.fill_null(column.absent)
        rows[column.name] = values.to_numpy(zero_copy_only=False)
    rows["blocks_at"], ids = _ids(_column(batch, "blocks", file), rows["count"], file)
    if "name" in batch.schema.names:
        _add_names(batch.column("name"), rows["request"], names)
    return Chunk(rows, ids)


def _column(batch: pa.RecordBatch, name: str, file: str) -> Any:
    at = batch.schema.get_field_index(name)
    if at < 0:
        raise _foreign(file, name, "this column is missing", None)
    return batch.column(at)


def _foreign(file: str, field: str, what: str, value: object) -> InputError:
    return InputError(what, file=file, field=field, value=value, remedy="record again with kvatlas")


def _codes(values: Any, name: str, file: str) -> NDArray[np.int8]:
    if not pa.types.is_dictionary(values.type):
        if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
            raise _foreign(file, name, "must be text", str(values.type))
        values = values.dictionary_encode()
    words = values.dictionary.to_pylist()
    codes = np.full(len(words) + 1, NONE, np.int8)
    for at, word in enumerate(words):
        if word not in _NAMES[name]:
            raise _foreign(file, name, f"an {name} this version does not know", word)
        codes[at] = _NAMES[name].index(word)
    indices: NDArray[np.int8] = values.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return codes[indices]


def _ids(lists: Any, counts: NDArray[np.int32], file: str) -> tuple[Any, NDArray[np.int32]]:
    if not pa.types.is_list(lists.type) or lists.type.value_type != pa.int32():
        raise _foreign(file, "blocks", "must be a list of int32", str(lists.type))
    offsets = lists.offsets.to_numpy()
    listed = lists.is_valid().to_numpy(zero_copy_only=False)
    values = lists.values
    if values.null_count:
        raise _foreign(file, "blocks", "a block id is missing", None)
    wrong = listed & (np.diff(offsets) != counts)
    if wrong.any():
        at = int(wrong.argmax())
        raise _foreign(file, "blocks", "as many ids as count says", int(counts[at]))
    return np.where(listed, offsets[:-1], NONE), values.to_numpy(zero_copy_only=False)


def _add_names(column: Any, requests: NDArray[np.int32], names: dict[int, str]) -> None:
    if column.null_count == len(column):
        return
    for at in np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False)).tolist():
        names[int(requests[at])] = str(column[at].as_py())
