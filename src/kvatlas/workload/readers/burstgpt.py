"""BurstGPT CSV: `Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type`.

Timestamps are seconds (fractions occur) from midnight of the first day; newer files add
`Session ID` and `Elapsed time`. Failed requests have 0 response tokens; like any output of 0 they
are read as 1, or left out with `drop_empty`. A session, where given, links its turns. Lengths only.
Source: HPMLL/BurstGPT (arXiv 2401.17644).
"""

from __future__ import annotations

from pathlib import Path

from kvatlas.workload.formats import Reader
from kvatlas.workload.model import Workload
from kvatlas.workload.readers.lengths import CSV_OPTIONS, NumberClock, read_lengths
from kvatlas.workload.readers.table import header_of

__all__ = ["READER"]

_COLUMNS = {
    "timestamp": ("timestamp",),
    "prompt": ("requesttokens",),
    "output": ("responsetokens",),
    "session": ("sessionid",),
}


def _sniff(head: bytes, path: Path) -> bool:
    return {"timestamp", "requesttokens", "responsetokens"} <= set(header_of(head))


def _read(
    path: Path, *, limit: int | None = None, sort: bool = False, drop_empty: bool = False
) -> Workload:
    clock = NumberClock("timestamp")
    return read_lengths(path, _COLUMNS, clock, limit=limit, sort=sort, drop_empty=drop_empty)


READER = Reader(
    name="burstgpt",
    summary="BurstGPT CSV: seconds, lengths, and sessions in the newer files",
    sniff=_sniff,
    read=_read,
    options=CSV_OPTIONS,
)
