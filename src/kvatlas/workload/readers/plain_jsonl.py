"""Any JSONL with an arrival, an input and an output number on each line. Lengths only.

The first line decides which keys are meant (matched without case and punctuation) and so the time
unit (`arrival_ms`; seconds without a suffix; `time_unit` overrides it); other keys are ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from kvatlas.errors import InputError
from kvatlas.workload.formats import HEAD_BYTES, Reader
from kvatlas.workload.model import Workload
from kvatlas.workload.readers.aliases import (
    ARRIVAL_UNITS,
    OUTPUT_NAMES,
    PROMPT_NAMES,
    units_per_s,
)
from kvatlas.workload.readers.columns import FieldNames, Rows, int_column
from kvatlas.workload.readers.jsonl import field_names, rows_of
from kvatlas.workload.readers.table import match_columns, normal
from kvatlas.workload.readers.text import read_head

__all__ = ["READER"]

_KEYS = {"arrival": tuple(ARRIVAL_UNITS), "prompt": PROMPT_NAMES, "output": OUTPUT_NAMES}


def _matched(head: bytes) -> dict[str, str]:
    """Return the file's own key for each wanted column that its first line has."""
    keys = sorted(field_names(head))
    found = match_columns([normal(key) for key in keys], _KEYS)
    return {column: keys[position] for column, position in found.items()}


def _sniff(head: bytes, path: Path) -> bool:
    return "hash_ids" not in field_names(head) and len(_matched(head)) == len(_KEYS)


def _read(
    path: Path, *, limit: int | None = None, time_unit: str | None = None, sort: bool = False
) -> Workload:
    keys = _matched(read_head(path, HEAD_BYTES))
    for column in _KEYS:
        if column not in keys:
            raise InputError(
                f"the first line has no key for the {column}",
                file=str(path),
                line=1,
                remedy=f"name it one of {', '.join(list(_KEYS[column])[:6])}",
            )
    per_s = units_per_s(time_unit, normal(keys["arrival"]))
    row_type: Any = msgspec.defstruct(
        "PlainRow",
        [("arrival", float), ("prompt", int), ("output", int)],
        rename=keys,
        gc=False,
    )
    rows = Rows(path, FieldNames(keys["arrival"], keys["prompt"], keys["output"]), sort=sort)
    for decoded, chunk in rows_of(path, msgspec.json.Decoder(row_type), limit):
        rows.add(
            np.array([row.arrival for row in decoded], dtype=np.float64),
            int_column([row.prompt for row in decoded], path, keys["prompt"], chunk.line_number),
            int_column([row.output for row in decoded], path, keys["output"], chunk.line_number),
            chunk.line_number,
        )
    return rows.finish(units_per_s=per_s)


READER = Reader(
    name="plain-jsonl",
    summary="any JSONL with arrival, input and output numbers: lengths only",
    sniff=_sniff,
    read=_read,
    options={
        "time_unit": "unit of the arrival key: s, ms, us or ns (by its name)",
        "sort": "order the requests by arrival instead of refusing a disorderly file",
    },
)
