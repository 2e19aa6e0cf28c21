"""Numbers as people read them: the same in every view.

Owns: digits, separators, units. Never rounds a share that is not 0 or 1 to 0% or 100%.
"""

from __future__ import annotations

import math

from kvatlas.units import format_bytes

__all__ = [
    "blocks",
    "count",
    "mean",
    "percent",
    "rate",
    "seconds",
    "signed_bytes",
    "times",
]

_LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def count(number: float) -> str:
    """Return a whole number with separators, or a mean with one decimal: "12,031", "3.4"."""
    if isinstance(number, int) or float(number).is_integer():
        return f"{int(number):,}"
    return f"{number:,.1f}" if abs(number) >= 0.05 else f"{number:.2g}"


def requests(number: int) -> str:
    """Return a number of requests: "1 request", "12,031 requests"."""
    return "1 request" if number == 1 else f"{number:,} requests"


def blocks(number: int) -> str:
    """Return a number of blocks: "1 block", "20,000 blocks"."""
    return "1 block" if number == 1 else f"{number:,} blocks"


def times(number: int) -> str:
    """Return how often: "once", "12 times"."""
    return "once" if number == 1 else f"{number:,} times"


def signed_bytes(size: int) -> str:
    """Return a change in bytes: "+384 MiB", "-2 GiB", "0 B"."""
    return f"+{format_bytes(size)}" if size > 0 else format_bytes(size)


def mean(value: float) -> str:
    """Return a mean with three digits or so: "371", "11.6", "1.04"; a dash where unknown."""
    if math.isnan(value):
        return "–"
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def percent(share: float) -> str:
    """Return a share of 1 as a percentage with three digits or so: "14.4%", "0.031%"."""
    if share in (0, 1):
        return f"{share:.0%}"
    hundred = 100 * share
    for digits in (1, 2, 3, 4):
        text = f"{hundred:.{digits}f}"
        if abs(float(text)) >= 10 ** (1 - digits) and float(text) != 100:
            return f"{text}%"
    return "<0.001%" if hundred < 50 else ">99.99%"


def rate(per_s: float) -> str:
    """Return a number per second, shortened: "183 M"."""
    for size, letter in _LARGE:
        if per_s >= size:
            scaled = per_s / size
            return f"{scaled:.0f} {letter}" if scaled >= 99.5 else f"{scaled:.2g} {letter}"
    return f"{per_s:.0f}"


def seconds(span_s: float) -> str:
    """Return a span of time in a fitting unit: "350 ms", "1.24 s", "13 min 20 s", "2 h 5 min"."""
    if span_s == 0:
        return "0 s"
    if span_s < 0.9995e-3:
        return f"{span_s * 1e6:.3g} µs"
    if span_s < 0.9995:
        return f"{span_s * 1e3:.3g} ms"
    if span_s < 99.95:
        return f"{span_s:.3g} s"
    whole = round(span_s)
    if whole < 3600:
        return _pair(whole, 60, "min", "s")
    return _pair(round(whole / 60), 60, "h", "min")


def _pair(number: int, size: int, large: str, small: str) -> str:
    first, rest = divmod(number, size)
    return f"{first:,} {large} {rest} {small}" if rest else f"{first:,} {large}"
