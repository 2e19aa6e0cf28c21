"""`TuningLoop`: when to look at the division of a budget, when to move a step of it, and the log.

Owns: the decision and what is written down of it. Leaves to others: what a division is worth and
carrying it out (whoever holds the memory), which divisions there are (`tuning`).
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from kvatlas.pressure.hybrid.tuning import Division, Look, Space, Tuning

__all__ = ["Divided", "TuningLoop"]

_KEPT = 512


class Divided(Protocol):
    """Memory that can be divided otherwise."""

    @property
    def moved_blocks(self) -> int:
        """Blocks copied so far to empty whole pages."""

    def value_s(self, division: Division) -> float:
        """Return the seconds that a division would have saved since the counts began."""

    def divide(self, now: Division, wanted: Division) -> bool:
        """Divide otherwise; False, and everything as before, when what would be given is in use."""

    def looked(self, division: Division, *, moved: bool) -> None:
        """Forget part of what was counted, or all of it where the division is another now."""


class TuningLoop:
    """Looks every `tuning.interval` admissions and moves a step of the budget if it pays.

    Args:
        space: which divisions there are.
        start: the division at first.
        tuning: the knobs, None to look only when asked.
        memory: what is divided.

    Attributes:
        division: the present one.
        looks: the latest 512; count: of all looks so far.
        moves: how often a step was moved.
    """

    def __init__(
        self, space: Space, start: Division, tuning: Tuning | None, memory: Divided
    ) -> None:
        self.space, self.tuning, self.division = space, tuning, start
        self.looks: deque[Look] = deque(maxlen=_KEPT)
        self.count = self.moves = 0
        self._memory = memory
        self._last_look = self._moved_at = 0

    def due(self, admissions: int) -> bool:
        """Return whether it is time to look, `admissions` in all having been made."""
        return self.tuning is not None and admissions - self._last_look >= self.tuning.interval

    def look(self, admissions: int) -> Look:
        """Look now: move a step of the budget if it pays, and write down what was seen."""
        before, memory = self.division, self._memory
        near = [before, *(division for _, division in self.space.neighbours(before))]
        values = {division: memory.value_s(division) for division in near}
        tuning = self.tuning or Tuning()
        wanted, moved, why = self.space.best(before, values, tuning.least_gain)
        if moved is not None and admissions - self._moved_at < tuning.least_requests:
            wanted, moved, why = before, None, f"{moved} waits for more evidence"
        copied = memory.moved_blocks
        if moved is not None and not memory.divide(before, wanted):
            wanted, moved, why = before, None, f"{moved} waits: what would be given is in use"
        self.division, self._last_look = wanted, admissions
        if moved is not None:
            self._moved_at = admissions
            self.moves += 1
        memory.looked(wanted, moved=moved is not None)
        copied = memory.moved_blocks - copied
        best_s = max(values.values())
        look = Look(admissions, before, wanted, values[before], best_s, moved, why, copied)
        self.looks.append(look)
        self.count += 1
        return look
