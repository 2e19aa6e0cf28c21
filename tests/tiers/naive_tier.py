"""A tier from its definition, slow and obvious: a dict and full scans."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

__all__ = ["BY_LEAF", "MODELLED", "NaiveTier", "own_code"]

BY_LEAF = ("lfu", "one-hit-first", "compute-aware")
MODELLED = ("lru", "fifo", *BY_LEAF)


def own_code(policies: Iterable[str]) -> list[Any]:
    """Return them as parameters; a tier that evicts by a policy is machine code of its own."""
    return [
        name if name == "lru" else pytest.param(name, marks=pytest.mark.variants)
        for name in policies
    ]


@dataclass
class Held:
    """A content in the tier."""

    above: int | None
    depth: int
    pins: int = 1
    stamp: int = 0
    queued: int = 0
    clock: float = 0.0


@dataclass
class NaiveTier:
    """Contents by key; who goes first is found by looking at all of them."""

    capacity: int
    policy: str
    slope: float = 0.0
    held: dict[int, Held] = field(default_factory=dict)
    uses: dict[int, int] = field(default_factory=dict)
    now: int = 0
    clock: float = 0.0
    inserts: int = 0
    evictions: int = 0
    refusals: int = 0

    def lookup(self, keys: list[int]) -> int:
        count = 0
        while count < len(keys) and keys[count] in self.held:
            count += 1
        return count

    def reserve(self, keys: list[int], parent: int | None, depth: int) -> list[bool]:
        """Return which of the first keys are new; the others found no room."""
        there = [key in self.held for key in keys]
        for key, is_there in zip(keys, there, strict=True):
            if is_there:
                self.held[key].pins += 1
        for i in range(len(keys)):
            if there[i]:
                continue
            if not self.insert(keys[i], keys[i - 1] if i else parent, depth + i):
                for k in reversed(range(i + 1, len(keys))):
                    if there[k]:
                        self.release(keys[k])
                return [not is_there for is_there in there[:i]]
        return [not is_there for is_there in there]

    def insert(self, key: int, above: int | None, depth: int) -> bool:
        while len(self.held) >= self.capacity:
            if not self.evict():
                self.refusals += 1
                return False
        self.held[key] = Held(above, depth)
        self.uses[key] = self.uses.get(key, 0) + 1
        self.inserts += 1
        return True

    def acquire(self, keys: list[int]) -> list[int]:
        found = keys[: self.lookup(keys)]
        for key in found:
            self.uses[key] += 1
            self.held[key].pins += 1
        return found

    def release(self, key: int) -> None:
        held = self.held[key]
        held.pins -= 1
        if held.pins == 0:
            self.now += 1
            held.stamp, held.clock = self.now, self.clock
            held.queued = held.queued or self.now

    def evict(self) -> bool:
        loose = {key: held for key, held in self.held.items() if held.pins == 0}
        if self.policy in BY_LEAF:
            parents = {held.above for held in loose.values()}
            loose = {key: held for key, held in loose.items() if key not in parents}
        if not loose:
            return False
        victim = min(loose, key=self.order)
        self.clock = max(self.clock, self.order(victim)[0])
        del self.held[victim]
        self.evictions += 1
        return True

    def order(self, key: int) -> tuple[float, int]:
        held = self.held[key]
        first = {
            "lru": 0.0,
            "fifo": 0.0,
            "lfu": float(self.uses[key]),
            "one-hit-first": float(self.uses[key] > 1),
            "compute-aware": held.clock + 1.0 + self.slope * held.depth,
        }[self.policy]
        return first, held.queued if self.policy == "fifo" else held.stamp
