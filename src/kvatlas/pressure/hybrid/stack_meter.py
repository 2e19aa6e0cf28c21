"""An LRU stack with marks: how much would have been hit if a cache were smaller or larger.

Owns: the stack. Leaves to others: what a hit at which depth is worth (`tuning`).

The depth of a key is the weight of everything used since it was used last, itself included: an LRU
cache of capacity C hits exactly what lies at depth C or less (Mattson et al., IBM Systems Journal
1970). Between two marks lies a zone; what is found is counted by zone, so that the hits of every
capacity that has a mark are known, also of those larger than the cache (ghost entries). Marking
only where a decision looks keeps a use at O(marks) instead of O(log n) for exact depths.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from itertools import pairwise

from kvatlas.errors import InputError, InvariantError

__all__ = ["StackMeter"]


class StackMeter:
    """Counts what is found between marks. Memory: some 200 bytes per key up to the last mark.

    Args:
        marks: capacities, ascending, at least one; what lies beyond the last is forgotten.

    Attributes:
        marks: as given.
        found: value found per zone; `found[i]` lies between mark i - 1 and mark i.

    Raises: InputError: no marks, or not ascending from 0 on.
    """

    def __init__(self, marks: Sequence[int]) -> None:
        self._zones: list[OrderedDict[Hashable, int]] = []
        self._zone_of: dict[Hashable, int] = {}
        self._used: list[int] = []
        self.marks: tuple[int, ...] = ()
        self.found: list[float] = []
        self.set_marks(marks)

    def __len__(self) -> int:
        return len(self._zone_of)

    def zone_of(self, key: Hashable) -> int | None:
        """Return the zone that holds `key`, None when it is not known (any more). O(1)."""
        return self._zone_of.get(key)

    def count(self, key: Hashable, value: float = 1.0) -> None:
        """Count `value` where `key` lies; the stack stays as it is."""
        zone = self._zone_of.get(key)
        if zone is not None:
            self.found[zone] += value

    def use(self, key: Hashable, weight: int = 1) -> None:
        """Put `key` on top. O(marks), amortised over weights.

        Depths are exact as long as keys keep their weights.
        """
        zone, last = self._zone_of.get(key), len(self.marks)
        if zone is not None:
            old = self._zones[zone].pop(key)
            self._used[zone] -= old
            # Where it was is room for what sinks: nothing below that changes its depth.
            last = zone if weight == old else last
        self._zones[0][key] = weight
        self._zone_of[key] = 0
        self._used[0] += weight
        self._sink(last)

    def decay(self, share: float) -> None:
        """Keep a share of what was counted, so that what is new weighs more."""
        self.found = [value * share for value in self.found]

    def set_marks(self, marks: Sequence[int]) -> None:
        """Put the marks elsewhere and count from 0 again; the order stays. O(n)."""
        wanted = tuple(marks)
        if not wanted or wanted[0] < 0 or any(a >= b for a, b in pairwise(wanted)):
            raise InputError("marks must ascend from 0 on", field="marks", value=wanted)
        entries = [entry for zone in self._zones for entry in reversed(zone.items())]
        self.marks, self.found = wanted, [0.0] * len(wanted)
        self._zones = [OrderedDict() for _ in wanted]
        self._used = [0] * len(wanted)
        self._zone_of = {}
        zone = depth = 0
        for key, weight in entries:  # from the top
            depth += weight
            while zone < len(wanted) and depth > wanted[zone]:
                zone += 1
            if zone == len(wanted):
                break
            self._zones[zone][key] = weight
            self._zones[zone].move_to_end(key, last=False)
            self._zone_of[key] = zone
            self._used[zone] += weight

    def found_within(self, capacity: int) -> float:
        """Return the value found at depths up to `capacity`, which is a mark or 0."""
        if capacity == 0:
            return 0.0
        return sum(self.found[: self.marks.index(capacity) + 1])

    def check(self) -> None:
        """Verify zones and sums; O(n). Raises: InvariantError."""
        for zone, held in enumerate(self._zones):
            if self._used[zone] != sum(held.values()):
                raise InvariantError(f"stack: the weight of zone {zone} is wrong")
            if any(self._zone_of.get(key) != zone for key in held):
                raise InvariantError(f"stack: a key does not know its zone {zone}")
            if sum(self._used[: zone + 1]) > self.marks[zone]:
                raise InvariantError(f"stack: zone {zone} reaches beyond its mark")
        if sum(map(len, self._zones)) != len(self._zone_of):
            raise InvariantError("stack: a key is lost")

    def _sink(self, last: int) -> None:
        """Let what is too deep for its zone sink to the next, from the top to zone `last`."""
        depth = 0
        for zone, limit in enumerate(self.marks[:last]):
            depth += self._used[zone]
            while depth > limit:
                key, weight = self._zones[zone].popitem(last=False)
                self._used[zone] -= weight
                depth -= weight
                if zone + 1 == len(self.marks):
                    del self._zone_of[key]
                else:
                    self._put_first(zone + 1, key, weight)

    def _put_first(self, zone: int, key: Hashable, weight: int) -> None:
        self._zones[zone][key] = weight
        self._zone_of[key] = zone
        self._used[zone] += weight
