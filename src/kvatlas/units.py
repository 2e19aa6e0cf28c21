"""Byte sizes and counts as people write them.

Owns: reading "40GiB" and writing it back, plurals. Leaves to others: what is counted.
"""

from __future__ import annotations

import re
from fractions import Fraction

from kvatlas.errors import InputError

__all__ = ["counted", "format_bytes", "parse_bytes"]

_UNITS = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?) ?([A-Za-z]*)", re.ASCII)
_LARGEST_BYTES = 2**63 - 1


def parse_bytes(text: str, *, field: str = "bytes") -> int:
    """Return the bytes that `text` says, rounded down to a whole byte.

    Units are exact, because GB and GiB differ by 7%: B, kB, MB, GB, TB (powers of 1000) and KiB,
    MiB, GiB, TiB (powers of 1024); a bare number is bytes.

    Args:
        text: such as "40GiB", "1.5 GB" or "1073741824".
        field: the flag that the error names.

    Raises:
        InputError: not a number with one of these units, or more than 2**63 - 1 bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError("not a byte size", field=field, value=text, remedy="write 40GiB or 40GB")
    number, unit = match.groups()
    if unit not in _UNITS:
        raise InputError(
            "unknown unit of bytes",
            field=field,
            value=text,
            remedy=f"use one of {', '.join(name for name in _UNITS if name)}",
        )
    size = int(Fraction(number) * _UNITS[unit])
    if size > _LARGEST_BYTES:
        raise InputError("more bytes than any machine has", field=field, value=text)
    return size


def format_bytes(size: int) -> str:
    """Return `size` in the largest binary unit that it reaches: "40 GiB", "1.5 MiB", "-3 B".

    At most two decimals; whole values have none.
    """
    sign, size = ("-", -size) if size < 0 else ("", size)
    power = min((size.bit_length() - 1) // 10, len(_BINARY) - 1) if size else 0
    hundredths = round(Fraction(100 * size, 1 << (10 * power)))
    if hundredths >= 102400 and power < len(_BINARY) - 1:
        # 1023.999 KiB rounds to 1024, which is the next unit.
        hundredths, power = 100, power + 1
    text = f"{hundredths // 100}.{hundredths % 100:02d}".rstrip("0").rstrip(".")
    return f"{sign}{text} {_BINARY[power]}"


def counted(number: int, word: str) -> str:
    """Return `1 block`, `2 blocks`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
