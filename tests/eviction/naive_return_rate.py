"""Return rate from its definition: what is known of each block in dicts, LRU run beside it."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

__all__ = ["ReturnRate"]

Content = Hashable
_STARTS: list[int] = [
    0,
    *(start for octave in range(1, 15) for start in (2**octave, 3 * 2 ** (octave - 1))),
]
_STARTS = _STARTS[:28]
_SUPERSEDED, _DEEPEST = 32, 16


@dataclass
class Known:
    """What is remembered of a content."""

    above: Content | None
    last: int = 0
    before: int = 0  # the last use but one, 0 for none
    uses: int = 0
    forks: int = 0
    kind: int = 0
    private: bool = False


@dataclass
class ReturnRate:
    """Kinds, rates and the guard of one run."""

    capacity: int
    known: dict[Content, Known] = field(default_factory=dict)
    ends: dict[int, Content] = field(default_factory=dict)
    lru: OrderedDict[Content, None] = field(default_factory=OrderedDict)
    horizon: int = 0
    accesses: int = 0
    next_refresh: int = 0
    refreshed: int = 0
    lead: float = 0.0
    as_lru: bool = False

    def __post_init__(self) -> None:
        self.returned = [[0.0] * 28 for _ in range(33)]
        self.exposed = [[0.0] * 28 for _ in range(33)]
        self.index: list[list[float]] = [[0.0] * 28 for _ in range(33)]

    def begins(self, now: int, cached: set[Content]) -> None:
        while self._listed() > 8 * self.capacity and self.horizon < now:
            self.horizon += 1
        for content in [one for one in self.known if one not in cached]:
            if self.known[content].last < self.horizon:
                del self.known[content]
        behind = 0.003 * self.capacity
        self.as_lru = self.lead <= -0.5 * behind if self.as_lru else self.lead < -behind
        if self.accesses >= self.next_refresh:
            self.next_refresh = self.accesses + max(256, self.capacity // 4)
            self._refresh(now)

    def uses(self, now: int, path: Sequence[Content], cached: set[Content], answer: int) -> None:
        """A request uses its path: those of `cached` that lead it are hits."""
        parent: Content | None = None
        private, new, fork = False, False, None
        for content in path:
            found = self.known.get(content)
            self.accesses += 1
            self.lead *= 0.5 ** (2.0 / self.capacity)
            self.lead += content in cached
            self.lead -= content in self.lru
            if found is None:
                if not new and parent is not None:
                    above = self.known[parent]
                    private = above.forks <= 2
                    above.forks += 1
                    fork = parent if private else None
                elif parent is not None:
                    self.known[parent].forks = max(self.known[parent].forks, 1)
                new = True
                found = self.known[content] = Known(parent)
            elif found.last >= self.horizon:
                self.returned[found.kind][bisect_right(_STARTS, now - found.last) - 1] += 1
            found.before, found.last, found.uses = found.last, now, found.uses + 1
            found.private = new and private
            if new and fork is not None:
                self._supersede(fork, now)
                fork = None
            parent = content
        if path and not new and self.known[path[-1]].forks <= 2 and len(path) > 1:
            self._supersede(path[-1], now)
        for content in path:
            deepest = content == path[-1] and len(path) > 1
            self.known[content].kind = self._kind(self.known[content], answer, deepest)
        if path:
            self.ends[now] = path[-1]
        for content in reversed(path):
            self.lru.pop(content, None)
            self.lru[content] = None
        while len(self.lru) > self.capacity:
            self.lru.popitem(last=False)

    def victim(self, leaves: dict[Content, tuple[int, int]], now: int) -> Content:
        """Return the leaf to evict, given each one's age as (last use, - depth)."""
        oldest: dict[int, Content] = {}
        for leaf in sorted(leaves, key=lambda one: leaves[one], reverse=True):
            oldest[self.known[leaf].kind] = leaf
        rates = {leaf: self._rate(leaf, now) for leaf in oldest.values()}
        of_lru = min(rates, key=lambda one: leaves[one])
        best = min(rates, key=lambda one: (rates[one], leaves[one]))
        return of_lru if self.as_lru or rates[best] > 0.7 * rates[of_lru] else best

    def _listed(self) -> int:
        return sum(one.last >= self.horizon for one in self.known.values())

    def _supersede(self, fork: Content, now: int) -> None:
        request = self.known[fork].before
        content: Content | None = (
            self.ends.get(request) if request >= max(1, self.horizon) else None
        )
        while content is not None and content != fork and content in self.known:
            if self.known[content].last == request:
                self.known[content].kind = _SUPERSEDED
            content = self.known[content].above

    def _kind(self, known: Known, answer: int, deepest: bool) -> int:
        if known.uses == 1:
            kind = 0 if known.private else 1
        else:
            kind = known.uses if known.uses < 4 else min(known.uses.bit_length() + 1, 7)
        return kind + 8 * (answer >= 64) + _DEEPEST * deepest

    def _rate(self, content: Content, now: int) -> float:
        known = self.known[content]
        age = now - known.last
        bucket = bisect_right(_STARTS, age) - 1
        here = self.index[known.kind][bucket]
        if bucket == 27:
            return here
        share = (age - _STARTS[bucket]) / (_STARTS[bucket + 1] - _STARTS[bucket])
        return here * (1.0 - share) + self.index[known.kind][bucket + 1] * share

    def _refresh(self, now: int) -> None:
        span = float(now - self.refreshed)
        self.refreshed = now
        fade = 0.5 ** (span / 5000.0)
        for table in (self.returned, self.exposed):
            for row in table:
                row[:] = [count * fade for count in row]
        waiting = Counter((one.last, one.kind) for one in self.known.values())
        for (last, kind), count in sorted(waiting.items()):
            if last >= max(1, self.horizon):
                bucket = bisect_right(_STARTS, now - last) - 1
                self.exposed[kind][bucket] += span * count
        total = sum(map(sum, self.exposed))
        if total > 0:
            self._make_index(sum(map(sum, self.returned)) / total)

    def _make_index(self, rate: float) -> None:
        pooled = []
        for age in range(28):
            guess = max(rate * 0.7 if age > 2 else rate, 1e-12)
            returned = 5.0 + sum(row[age] for row in self.returned)
            rate = returned / (5.0 / guess + sum(row[age] for row in self.exposed))
            pooled.append(rate)
        for kind in range(33):
            waited = zip(self.exposed[kind], pooled, strict=True)
            prior = 10.0 * (50.0 + sum(self.returned[kind]))
            prior /= 50.0 + sum(count * rate for count, rate in waited)
            for age in range(28):
                returned = exposed = best = 0.0
                for later in range(age, 28):
                    returned += self.returned[kind][later] + prior
                    exposed += self.exposed[kind][later] + 10.0 / pooled[later]
                    best = max(best, returned / exposed)
                self.index[kind][age] = best
        for kind in range(_DEEPEST):
            pairs = zip(self.index[kind], self.index[kind + _DEEPEST], strict=True)
            self.index[kind + _DEEPEST] = [min(pair) for pair in pairs]
