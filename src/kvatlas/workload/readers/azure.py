"""Azure's LLM inference traces of 2023 and 2024: `TIMESTAMP,ContextTokens,GeneratedTokens`.

2023 (Splitwise, ISCA 2024): local times with seven fractional digits, sorted, no zero lengths in
the conversation trace; the file's last line has no newline. 2024 (DynamoLLM): the same columns,
times end in +00:00 and their fraction varies in length, and is left out on the full second.
Lengths only: which prefixes were shared is not published. Source: Azure/AzurePublicDataset.
"""

from __future__ import annotations

from pathlib import Path

from kvatlas.workload.formats import Reader
from kvatlas.workload.model import Workload
from kvatlas.workload.readers.lengths import CSV_OPTIONS, IsoClock, read_lengths
from kvatlas.workload.readers.table import header_of

__all__ = ["READER_2023", "READER_2024"]

_COLUMNS = {
    "timestamp": ("timestamp",),
    "prompt": ("contexttokens",),
    "output": ("generatedtokens",),
}


def _is_azure(head: bytes) -> bool:
    return {"timestamp", "contexttokens", "generatedtokens"} <= set(header_of(head))


def _has_zone(head: bytes) -> bool:
    rows = head.split(b"\n", 2)
    return len(rows) > 1 and b"+" in rows[1].split(b",")[0]


def _sniff_2023(head: bytes, path: Path) -> bool:
    return _is_azure(head) and not _has_zone(head)


def _sniff_2024(head: bytes, path: Path) -> bool:
    return _is_azure(head) and _has_zone(head)


def _read(
    path: Path, *, limit: int | None = None, sort: bool = False, drop_empty: bool = False
) -> Workload:
    clock = IsoClock("timestamp")
    return read_lengths(path, _COLUMNS, clock, limit=limit, sort=sort, drop_empty=drop_empty)


READER_2023 = Reader(
    name="azure-2023",
    summary="Azure LLM inference trace 2023 CSV: times and lengths",
    sniff=_sniff_2023,
    read=_read,
    options=CSV_OPTIONS,
)
READER_2024 = Reader(
    name="azure-2024",
    summary="Azure LLM inference trace 2024 CSV: times with a zone and lengths",
    sniff=_sniff_2024,
    read=_read,
    options=CSV_OPTIONS,
)
