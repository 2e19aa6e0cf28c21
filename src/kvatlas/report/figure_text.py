"""A measurement as people read it: its unit follows from its name.

Owns: which names are shares, times, bytes or counts. Leaves to others: digits (`numbers`).
"""

from __future__ import annotations

from kvatlas.report.numbers import count, percent, seconds
from kvatlas.units import format_bytes

__all__ = ["column_title", "figure_text", "figure_title", "is_share"]

_SHARE_WORDS = (
    "rate", "share", "efi", "ufsi", "usage", "ratio", "waste", "any", "full", "cold", "capacity",
    "granularity", "configuration", "in_flight", "within_session", "across_sessions",
    "time_weighted", "hit_rate_so_far",
)  # fmt: skip
_NO_SHARES = ("running.time_weighted", "queue.length_time_weighted")
_PRODUCTS = ("slot", "block", "token")
"""Of these, a figure whose name goes on with `_s` is an integral over time, not a time."""
_SILENT = ("prefix", "latency", "life", "churn")
_COUNTED = (
    "evictions", "failures", "preemptions", "tokens", "slots", "blocks", "count", "requests",
    "seqs", "steps", "runs", "bytes", "s",
)  # fmt: skip


def is_share(name: str) -> bool:
    """Return whether a figure or column of this name is a share of 1."""
    if name.startswith("usage."):
        return True
    if name in _NO_SHARES or name.rsplit("_", 1)[-1] in _COUNTED:
        return False
    last = name.rsplit(".", 1)[-1]
    return name.startswith(("attribution.", "waste.")) or any(
        last == word or last.endswith("_" + word) or last.startswith(word + "_")
        for word in _SHARE_WORDS
    )


def figure_text(name: str, value: float, *, signed: bool = False) -> str:
    """Return `value` of the figure `name` with its unit; `signed` puts a plus before a rise."""
    for rate, unit in (("_per_s", "/s"), ("_per_h", "/h")):
        if name.endswith(rate):
            return figure_text(name.removesuffix(rate), value, signed=signed) + unit
    sign = "-" if value < 0 else "+" if signed and value > 0 else ""
    size = abs(value)
    product = next((unit for unit in _PRODUCTS if name.endswith(f"_{unit}_s")), None)
    if product is not None:
        return f"{sign}{count(round(size))} {product}·s"
    if name.endswith("_s"):
        return sign + seconds(size)
    if name.endswith("_ms"):
        return sign + seconds(size / 1e3)
    if name.endswith("_bytes"):
        return sign + format_bytes(round(size))
    if is_share(name) and size <= 1:
        return sign + percent(size)
    return sign + count(size)


def figure_title(name: str) -> str:
    """Return a figure's name in words: "prefix.token_hit_rate" is "token hit rate"."""
    family, _, rest = name.rpartition(".")
    title = column_title(rest)
    return title if not family or family in _SILENT else f"{family.replace('_', ' ')} {title}"


def column_title(name: str) -> str:
    """Return a column's name as a heading: "queue_time_s" is "queue time"."""
    for unit in ("_s", "_share"):
        if name.endswith(unit) and len(name) > len(unit):
            name = name[: -len(unit)]
            break
    return name.replace("_", " ")
