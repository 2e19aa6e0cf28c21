"""A sheet of named figures, each a number or `None` with the reason why it is not there.

Owns: the promise that a figure which cannot be observed is never shown as 0. Leaves to others:
which figures there are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["Figures", "Number"]

Number = int | float


@dataclass(slots=True)
class Figures:
    """Named figures in the order in which they were put.

    Attributes:
        values: every figure; ratios run 0 to 1, names carry units.
        unavailable: the reason for each figure whose value is `None`.
    """

    values: dict[str, Number | None] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, value: Number) -> None:
        """Add a figure. Raises: ValueError when it is no finite number, for JSON knows none."""
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}")
        self.values[name] = value

    def lack(self, reason: str, *names: str) -> None:
        """Add figures that cannot be had, with the reason in plain words."""
        for name in names:
            self.values[name] = None
            self.unavailable[name] = reason

    def ratio(self, name: str, part: float, whole: float, otherwise: str) -> None:
        """Add `part / whole`; with nothing to divide by it is lacking, and `otherwise` says why."""
        if whole > 0:
            self.put(name, part / whole)
        else:
            self.lack(otherwise, name)

    def add(self, other: Figures) -> None:
        """Take over the figures of `other` that are not here, or lacking here and known there."""
        for name, value in other.values.items():
            if name not in self.values or (self.values[name] is None and value is not None):
                self.values[name] = value
                self.unavailable.pop(name, None)
                if value is None:
                    self.unavailable[name] = other.unavailable[name]

    def __getitem__(self, name: str) -> Number | None:
        return self.values[name]
