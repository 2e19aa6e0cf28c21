"""libCacheSim's `lcs` traces: a binary list of requests for objects, versions 1 to 8.

Owns: the layout, and what an object is to a prefix cache. Leaves to others: opening and
decompressing (`text`), times and identities (`columns`).

A header of 8,192 bytes (a magic number at both ends, the version, statistics), then records of one
size: clock time in seconds, a 64-bit object id, the object's size in bytes, and by version an
operation, tenant, time to live and features. All little-endian, packed.

Objects have no prefixes: each is a prompt of its own whose first `tokens_per_object` tokens are the
object, so that with blocks of that size every object is one block, whatever its bytes (libCacheSim
calls that ignoring the object size). One token more makes the block worth finding, as an engine
always computes a prompt's last token. Every operation is a request and the id alone names the
object, as in libCacheSim's own simulation; like its reader, this one leaves out size 0.
Source: libCacheSim 0.3.5, traceReader/customizedReader/lcs.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.workload.formats import Reader
from kvatlas.workload.model import Workload
from kvatlas.workload.readers.block_hash import check_span
from kvatlas.workload.readers.columns import FieldNames, Identities, Rows
from kvatlas.workload.readers.text import byte_pieces

__all__ = ["HEADER_BYTES", "MAGIC", "READER", "RECORDS"]

MAGIC = 0x1234_5678_9ABC_DEF0
HEADER_BYTES = 8192
_END_MAGIC_AT = HEADER_BYTES - 8
_REQUESTS_AT = 24  # the statistics' second field

_SMALL = [("clock_time", "<u4"), ("obj_id", "<u8"), ("obj_size", "<u4")]
_LARGE = [("clock_time", "<u4"), ("obj_id", "<u8"), ("obj_size", "<i8")]
_OP_TENANT, _TTL, _NEXT = ("op_tenant", "<u4"), ("ttl", "<u4"), ("next_access_vtime", "<i8")
_V3 = [*_LARGE, _OP_TENANT, _TTL, _NEXT]
RECORDS: dict[int, np.dtype[np.void]] = {
    1: np.dtype([*_SMALL, _NEXT]),
    2: np.dtype([*_SMALL, _OP_TENANT, _NEXT]),
    3: np.dtype(_V3),
    **{
        version: np.dtype([*_V3, ("features", "<u4", (features,))])
        for version, features in ((4, 1), (5, 2), (6, 4), (7, 8), (8, 16))
    },
}
"""By version, how one request lies in the file: 24 to 100 bytes without padding."""

_BATCH_BYTES = 1 << 20
_NAMES = FieldNames("clock_time", "obj_id", "obj_size")


def _sniff(head: bytes, path: Path) -> bool:
    return head.startswith(struct.pack("<Q", MAGIC))


def _read(
    path: Path, *, limit: int | None = None, tokens_per_object: int = 16, sort: bool = False
) -> Workload:
    check_span("tokens_per_object", tokens_per_object)
    rows = Rows(path, _NAMES, sort=sort)
    identities = Identities(tokens_per_object)
    empty, seen = 0, 0
    smallest, largest = 2**63 - 1, 0
    for records in _records(path):
        first, seen = seen, seen + records.size
        size = records["obj_size"].astype(np.int64)
        _refuse_negative(path, size, first)
        kept = np.flatnonzero(size > 0)
        if limit is not None:
            kept = kept[: limit - len(rows)]
            seen = first + int(kept[-1]) + 1 if len(rows) + kept.size == limit else seen
        empty += int((size[: seen - first] == 0).sum())
        if kept.size:
            smallest = min(smallest, int(size[kept].min()))
            largest = max(largest, int(size[kept].max()))
            _add(rows, identities, records[kept], kept + first + 1)
        if len(rows) == limit:
            break
    return rows.finish(
        units_per_s=1.0, identities=identities, notes=_notes(smallest, largest, empty)
    )


def _add(
    rows: Rows, identities: Identities, records: NDArray[np.void], numbers: NDArray[np.int64]
) -> None:
    """Append requests, `numbers` (n,) their places in the file from 1, for errors to name."""
    count, span = records.size, identities.tokens_per_id
    rows.add(
        records["clock_time"].astype(np.float64),
        np.full(count, span + 1, np.int64),
        np.ones(count, np.int64),
        lambda row: int(numbers[row]),
    )
    # The object's block and, after it, the one token that makes the prompt complete.
    raw = np.repeat(records["obj_id"].view(np.int64), 2)
    identities.add(raw, np.full(count, 2, np.int64))


def _records(path: Path) -> Iterator[NDArray[np.void]]:
    """Yield the file's requests in batches. Raises: InputError for a damaged or cut file."""
    pieces = byte_pieces(path)
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= HEADER_BYTES:
            break
    record, promised = _header(path, bytes(held[:HEADER_BYTES]))
    del held[:HEADER_BYTES]
    found = 0
    for piece in pieces:
        held += piece
        if len(held) >= _BATCH_BYTES:
            whole = len(held) // record.itemsize
            found += whole
            yield np.frombuffer(bytes(held[: whole * record.itemsize]), dtype=record)
            del held[: whole * record.itemsize]
    whole, rest = divmod(len(held), record.itemsize)
    found += whole
    if rest or (promised and found != promised):
        inside = f"{found:,} requests" + (f" and {rest} bytes of another" if rest else "")
        wanted = f" where its header promises {promised:,}" if promised else ""
        raise _bad(path, f"the file holds {inside}{wanted}")
    if whole:
        yield np.frombuffer(bytes(held), dtype=record)


def _header(path: Path, header: bytes) -> tuple[np.dtype[np.void], int]:
    """Return how a request lies in the file, and how many are promised (0: not told)."""
    if len(header) < HEADER_BYTES:
        raise _bad(path, f"the header has {len(header):,} bytes of {HEADER_BYTES:,}")
    start, version = struct.unpack_from("<QQ", header)
    (end,) = struct.unpack_from("<Q", header, _END_MAGIC_AT)
    for magic, where in ((start, "start"), (end, "end")):
        if magic != MAGIC:
            raise _bad(path, f"not an lcs trace: wrong number at its header's {where}", hex(magic))
    if version not in RECORDS:
        raise InputError(
            "an unknown version of the lcs format",
            file=str(path),
            field="version",
            value=version,
            remedy=f"convert it with libCacheSim to one of {min(RECORDS)} to {max(RECORDS)}",
        )
    (promised,) = struct.unpack_from("<q", header, _REQUESTS_AT)
    if promised < 0:
        raise _bad(path, "the header promises a negative number of requests", promised)
    return RECORDS[version], promised


def _refuse_negative(path: Path, size: NDArray[np.int64], first: int) -> None:
    if size.size and size.min() < 0:
        row = int((size < 0).argmax())
        raise InputError(
            "an object cannot have a negative size",
            file=str(path),
            line=first + row + 1,
            field="obj_size",
            value=int(size[row]),
            remedy="write or fetch the file again",
        )


def _notes(smallest: int, largest: int, empty: int) -> list[str]:
    said = ["objects, not prompts: each is one block of its own, and no prefix is shared"]
    if smallest < largest:
        said.append(
            f"objects have {smallest:,} to {largest:,} bytes; each counts as one block all the same"
        )
    if empty:
        said.append(f"{empty:,} requests for objects of size 0 are left out, as libCacheSim does")
    return said


def _bad(path: Path, what: str, value: Any = None) -> InputError:
    return InputError(what, file=str(path), value=value, remedy="write or fetch the file again")


READER = Reader(
    name="lcs",
    summary="libCacheSim's binary lcs traces, versions 1 to 8: objects, one block each",
    sniff=_sniff,
    read=_read,
    options={
        "tokens_per_object": "tokens that stand for one object (16)",
        "sort": "order the requests by arrival instead of refusing a disorderly file",
    },
)
