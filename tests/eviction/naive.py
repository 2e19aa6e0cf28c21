"""Every policy from its definition, slow and obvious: lists, dicts and full scans."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from math import log2

from naive_return_rate import ReturnRate

__all__ = ["naive_hits"]

Content = Hashable
Path = Sequence[Content]
NEVER = 10**9


@dataclass
class Node:
    """A cached content."""

    parent: Content | None
    depth: int
    last: int = 0
    clock: float = 0.0
    next_use: int = NEVER
    turn: int = 1


@dataclass
class ByLeaf:
    """Policies that evict the leaf with the smallest key."""

    name: str
    capacity: int
    slope: float = 0.0
    tails: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    cached: dict[Content, Node] = field(default_factory=dict)
    uses: dict[Content, int] = field(default_factory=dict)
    clock: float = 0.0
    now: int = 0

    def __post_init__(self) -> None:
        self.sessions = Sessions()
        self.rates = ReturnRate(self.capacity) if self.name == "return-rate" else None

    def serve(self, row: int, path: Path, future: Sequence[int], capacity: int, room: str) -> int:
        self.now += 1
        self.sessions.refresh(self.now)
        if self.rates is not None:
            self.rates.begins(self.now, set(self.cached))
        hits = 0
        while hits < len(path) and path[hits] in self.cached:
            hits += 1
        turn = self.sessions.turn_of(path[max(0, hits - 1) :], hits, self.now)
        if room == "before":
            while len(self.cached) + len(path) - hits > capacity and self.evict(set(path[:hits])):
                pass
        for depth, content in enumerate(path):
            self.uses[content] = self.uses.get(content, 0) + 1
            if content not in self.cached:
                self.cached[content] = Node(path[depth - 1] if depth else None, depth)
            node = self.cached[content]
            node.last, node.clock, node.turn = self.now, self.clock, turn
            node.next_use = future[depth]
        if self.rates is not None:
            self.rates.uses(self.now, path, set(path[:hits]), self.answers[row])
        if path and self.tails[row]:
            self.sessions.ends(path[self.tails[row] - 1], turn, self.now)
        while len(self.cached) > capacity:
            self.evict(set())
        return hits

    def evict(self, kept: set[Content]) -> bool:
        parents = {node.parent for node in self.cached.values()}
        leaves = [one for one in self.cached if one not in parents and one not in kept]
        if not leaves:
            return False
        if self.rates is not None:
            victim = self.rates.victim({leaf: self.age(leaf) for leaf in leaves}, self.now)
        elif self.name == "session-aware":
            victim = self.least_likely(leaves)
        else:
            victim = min(leaves, key=self.key)
            if self.name == "compute-aware":
                self.clock = max(self.clock, self.key(victim)[0])
        del self.cached[victim]
        return True

    def age(self, content: Content) -> tuple[int, int]:
        node = self.cached[content]
        return node.last, -node.depth

    def key(self, content: Content) -> tuple[float, int, int]:
        node = self.cached[content]
        first = {
            "lru": 0.0,
            "lfu": float(self.uses[content]),
            "one-hit-first": float(self.uses[content] > 1),
            "compute-aware": node.clock + 1.0 + self.slope * node.depth,
            "optimum": -float(node.next_use),
        }[self.name]
        return first, *self.age(content)

    def least_likely(self, leaves: list[Content]) -> Content:
        oldest: dict[int, Content] = {}
        for leaf in sorted(leaves, key=self.age, reverse=True):
            oldest[min(self.cached[leaf].turn, 8)] = leaf

        def chance(leaf: Content) -> tuple[float, tuple[int, int]]:
            node = self.cached[leaf]
            return self.sessions.chance(node.turn, self.now - node.last), self.age(leaf)

        return min(oldest.values(), key=chance)


@dataclass
class End:
    """The end of a request, from which a conversation may go on."""

    at: int
    turn: int
    returned: int | None = None


class Sessions:
    """What session-aware knows, counted from scratch each time it is asked to learn."""

    def __init__(self) -> None:
        self.ends_: list[End] = []
        self.turns: dict[Content, int] = {}
        self.open: dict[Content, End] = {}
        self.next_refresh = 0
        self.table = [[0.0] * 20 for _ in range(8)]

    def ends(self, content: Content, turn: int, now: int) -> None:
        end = End(now, turn)
        self.ends_.append(end)
        self.turns[content], self.open[content] = turn, end

    def turn_of(self, contents: Path, hits: int, now: int) -> int:
        """Return the turn that a request with this deepest hit and these new blocks is."""
        turn = 1
        for content in contents:
            if content not in self.turns:
                continue
            turn = self.turns[content] + 1
            if content in self.open:
                self.open.pop(content).returned = now
        return turn

    def refresh(self, now: int) -> None:
        if now < self.next_refresh:
            return
        self.next_refresh = now + max(16, now // 64)
        exposed = [[0.0] * 20 for _ in range(8)]
        returned = [[0.0] * 20 for _ in range(8)]
        for end in self.ends_:
            kind = min(end.turn, 8) - 1
            for bucket in range(20):
                reached = end.at + 2**bucket
                if reached <= now and (end.returned is None or end.returned >= reached):
                    exposed[kind][bucket] += 1
            if end.returned is not None:
                returned[kind][int(log2(max(1, end.returned - end.at)))] += 1
        for kind in range(8):
            ends = 1.0
            for bucket in reversed(range(20)):
                all_returned = 0.02 * 8.0 + sum(row[bucket] for row in returned)
                rate = all_returned / (8.0 + sum(row[bucket] for row in exposed))
                mine = returned[kind][bucket] + 16.0 * rate
                ends *= 1.0 - min(1.0, mine / (exposed[kind][bucket] + 16.0))
                self.table[kind][bucket] = 1.0 - ends

    def chance(self, turn: int, idle: int) -> float:
        return self.table[min(turn, 8) - 1][int(log2(max(1, idle)))]


@dataclass
class Queued:
    """FIFO, SIEVE, 2Q and S3-FIFO on plain lists, the oldest first."""

    name: str
    capacity: int
    first: list[Content] = field(default_factory=list)
    main: list[Content] = field(default_factory=list)
    marks: dict[Content, int] = field(default_factory=dict)
    ghosts: list[Content] = field(default_factory=list)  # every eviction of the first queue
    hand: Content | None = None

    def serve(self, row: int, path: Path, future: Sequence[int], capacity: int, room: str) -> int:
        hits = 0
        while hits < len(path) and path[hits] in self.marks:
            hits += 1
        for content in reversed(path):
            if content in self.marks:
                self.marks[content] = min(3, self.marks[content] + 1)
                if self.name == "2q" and content in self.main:
                    self.main.remove(content)
                    self.main.append(content)
            else:
                self.marks[content] = 0
                (self.main if self.remembers(content) else self.first).append(content)
        while len(self.marks) > capacity:
            victim = self.victim()
            if self.name in ("2q", "s3-fifo") and victim in self.first:
                self.ghosts.append(victim)
            (self.first if victim in self.first else self.main).remove(victim)
            del self.marks[victim]
        return hits

    def remembers(self, content: Content) -> bool:
        size = {"2q": max(1, int(0.5 * self.capacity)), "s3-fifo": self.main_size()}.get(self.name)
        if size is None:
            return False
        found = content in self.ghosts[-size:]
        # A ghost that comes back is one no more, and the others age as before.
        self.ghosts = [None if ghost == content else ghost for ghost in self.ghosts]
        return found

    def main_size(self) -> int:
        return max(1, self.capacity - max(1, int(0.1 * self.capacity)))

    def victim(self) -> Content:
        if self.name == "2q":
            over = len(self.first) > int(0.25 * self.capacity)
            return self.first[0] if self.first and (over or not self.main) else self.main[0]
        if self.name == "s3-fifo":
            return self.s3_fifo()
        if self.name == "sieve":
            return self.sieve()
        return self.first[0]

    def s3_fifo(self) -> Content:
        while True:
            if self.first and (
                len(self.first) >= max(1, int(0.1 * self.capacity)) or not self.main
            ):
                if self.marks[self.first[0]] <= 1:
                    return self.first[0]
                moved = self.first.pop(0)
                self.marks[moved] = 0
            else:
                if self.marks[self.main[0]] == 0:
                    return self.main[0]
                moved = self.main.pop(0)
                self.marks[moved] -= 1
            self.main.append(moved)

    def sieve(self) -> Content:
        at = 0 if self.hand is None else self.first.index(self.hand)
        while self.marks[self.first[at]]:
            self.marks[self.first[at]] = 0
            at = (at + 1) % len(self.first)
        # The hand stays at what is next; past the newest it starts from the oldest again.
        self.hand = self.first[at + 1] if at + 1 < len(self.first) else None
        return self.first[at]


def naive_hits(
    name: str,
    paths: Sequence[Path],
    capacity: int,
    *,
    room: str = "after",
    slope: float = 0.0,
    tails: Sequence[int] = (),
    answers: Sequence[int] = (),
) -> list[int]:
    """Return the hit blocks of each request."""
    model: ByLeaf | Queued
    if name in ("fifo", "2q", "s3-fifo", "sieve"):
        model = Queued(name, capacity)
    else:
        none = [0] * len(paths)
        model = ByLeaf(name, capacity, slope, list(tails) or none, list(answers) or none)
    uses: dict[Content, list[int]] = {}
    for row, path in enumerate(paths):
        for content in path:
            uses.setdefault(content, []).append(row)
    hits = []
    for row, path in enumerate(paths):
        future = [next((use for use in uses[one] if use > row), NEVER) for one in path]
        hits.append(model.serve(row, path, future, capacity, room))
    return hits
