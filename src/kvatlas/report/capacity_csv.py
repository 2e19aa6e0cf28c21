"""The curve, and the comparison of policies, as one CSV table each.

Owns: columns and bytes. Leaves to others: the figures (as in the JSON), writing the file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from kvatlas.report.curve_document import CurveDocument, PoliciesDocument
from kvatlas.report.curve_json import curve_rows
from kvatlas.report.policies_json import policy_points

__all__ = ["csv_bytes", "curve_csv", "policies_csv"]


def curve_csv(document: CurveDocument) -> bytes:
    """Return one row per capacity; an empty cell is what is not known."""
    rows = curve_rows(document.table, document.config.get("bytes_per_block"))
    return csv_bytes({**row, "misses": None} | row["misses"] for row in rows)


def policies_csv(document: PoliciesDocument) -> bytes:
    """Return one row per policy and capacity; an empty cell is what is not known."""
    return csv_bytes(
        {"policy": row.name, "kind": row.kind, **point}
        for row in document.rows
        for point in policy_points(document, row)
    )


def csv_bytes(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return UTF-8 with a header line, numbers in full."""
    text = io.StringIO()
    writer: Any = None
    for row in rows:
        flat = {name: value for name, value in row.items() if name != "misses"}
        if writer is None:
            writer = csv.DictWriter(text, list(flat), lineterminator="\n")
            writer.writeheader()
        writer.writerow(flat)
    return text.getvalue().encode()
