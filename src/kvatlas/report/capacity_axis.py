"""Capacity as a person reads it: blocks, tokens, bytes; as an axis, and as words.

Owns: whether the axis is logarithmic, its ticks, short numbers. Leaves to others: what is drawn
over it (`capacity_chart`, `terminal_plot`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.report.chart_frame import round_ticks
from kvatlas.units import format_bytes

__all__ = ["CapacityAxis", "CapacityUnits", "short_count"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_LOG_FROM = 12.0
"""An axis whose end is this many times its beginning is logarithmic."""
_LETTERS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


@dataclass(frozen=True, slots=True)
class CapacityUnits:
    """What a block is: tokens, and bytes where a model is given."""

    block_size: int
    bytes_per_block: int | None = None

    def words(self, blocks: int) -> str:
        """Return a capacity in all its units: "20,000 blocks (320 k tokens, 39.1 GiB)"."""
        parts = [f"{short_count(blocks * self.block_size)} tokens"]
        if self.bytes_per_block is not None:
            parts.append(self.memory(blocks))
        return f"{blocks:,} block{'' if blocks == 1 else 's'} ({', '.join(parts)})"

    def memory(self, blocks: int) -> str:
        """Return the bytes of so many blocks in words; empty without a model."""
        if self.bytes_per_block is None:
            return ""
        number, _, unit = format_bytes(blocks * self.bytes_per_block).partition(" ")
        return f"{float(number):.3g} {unit}" if float(number) < 1000 else f"{number} {unit}"


@dataclass(frozen=True, slots=True)
class CapacityAxis:
    """The axis from `first` to `last` blocks, linear or logarithmic."""

    first: int
    last: int
    log: bool

    @classmethod
    def over(cls, blocks: I64 | Sequence[int]) -> CapacityAxis:
        """Return the axis that holds all of `blocks` (at least one, each 0 or more)."""
        first, last = max(0, int(min(blocks))), int(max(blocks))
        if first == last:  # a single capacity stands in the middle
            return cls(first // 2, max(2, 2 * last), False)
        if first == 0:
            positive = [int(each) for each in blocks if each > 0]
            if max(positive) >= _LOG_FROM * min(positive):
                # Nothing stands at 0: the axis begins where there is something to see.
                return cls(min(positive), last, True)
            return cls(0, last, False)
        return cls(first, last, last >= _LOG_FROM * first)

    def at(self, blocks: float) -> float:
        """Return the coordinate of a capacity, which `place` and the page's script count in."""
        return math.log10(max(blocks, 1e-9)) if self.log else float(blocks)

    def place(self, blocks: float) -> float:
        """Return where a capacity lies, 0 at the beginning of the axis, 1 at its end."""
        low, high = self.at(self.first), self.at(self.last)
        return (self.at(max(blocks, self.first)) - low) / (high - low)

    def places(self, blocks: I64) -> F64:
        """Return `place` of each."""
        return np.array([self.place(each) for each in blocks.tolist()])

    def ticks(self, most: int = 7) -> list[int]:
        """Return round capacities along the axis, some `most` of them."""
        if not self.log:
            even = round_ticks(self.first, self.last, most)
            return sorted({int(tick) for tick in even if tick == int(tick)})
        decades = range(math.floor(math.log10(self.first)), math.ceil(math.log10(self.last)) + 1)
        for steps in ((1, 2, 5), (1, 3), (1,)):
            ticks = [step * 10**decade for decade in decades for step in steps if decade >= 0]
            shown = [tick for tick in ticks if self.first <= tick <= self.last]
            if len(shown) <= most:
                break
        return shown


def short_count(number: int) -> str:
    """Return a count in at most three digits and a letter: "320 k", "1.19 M", "42"."""
    for size, letter in _LETTERS:
        # 999,999 is 1 M, not 1000 k.
        if number >= 0.9995 * size:
            return f"{float(f'{number / size:.3g}'):g} {letter}"
    return f"{number:,}"
