"""Reuse: by hand, and against a model that looks at the whole pool after every event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import Stream, record, streams
from toy_streams import RandomPool, Story, happenings, toy_header

from kvatlas.engine import EngineConfig
from kvatlas.events import Chunk, Group, Header, schema
from kvatlas.jit import COMPILED
from kvatlas.measure import Figures
from kvatlas.measure.prefixes import ServedPrefix
from kvatlas.measure.reuse import HeldInVain, LookupCounts, ReuseAnalyzer, ReuseResult
from kvatlas.workload.generators import generate

LARGE = pytest.mark.skipif(not COMPILED, reason="minutes in plain Python")


class Model:
    """Reuse by definition: every number is counted afresh whenever time goes on."""

    def __init__(self, header: Header, chunks: list[Chunk]) -> None:
        self.size = header.groups[0].block_size
        self.content: dict[int, int] = {}
        self.parent: dict[int, int | None] = {}
        self.depth: dict[int, int] = {}
        self.served: Counter[int] = Counter()
        self.owned: set[int] = set()
        self.sums = {name: Counter[str]() for name in ("new", "resumed")}
        self.hits: Counter[str] = Counter()
        self.held: dict[str, list[tuple[float, int]]] = {}
        session: dict[int, int] = {}
        user: dict[int, int] = {}
        table: dict[tuple[int, int], int] = {}
        resumed: dict[int, bool] = {}
        self.now: float | None = None
        for what in happenings(chunks):
            self._pass(what.time_ms)
            row, request = what.row, what.request
            if what.name == "arrived":
                session[request] = int(row["session"])
            elif what.name == "looked_up":
                resumed[request] = row["cause"] == schema.BY_RESUMED
                table = {at: key for at, key in table.items() if at[0] != request}
                if row["computed_tokens"] >= 0:
                    self._look_up(resumed[request], int(row["tokens"]), int(row["computed_tokens"]))
            elif what.name == "reset":
                self.content.clear()
            elif what.name == "moved":
                for block, _, _ in what.blocks:
                    for where in (self.content, user):
                        where.pop(int(row["to_block"]), None)
                        if block in where:
                            where[int(row["to_block"])] = where.pop(block)
                    if block in self.owned:
                        self.owned.remove(block)
                        self.owned.add(int(row["to_block"]))
            elif what.blocks and row["group"] == 0:
                for block, position, key in what.blocks:
                    match what.name:
                        case "allocated":
                            self.owned.add(block)
                            user[block] = request
                        case "touched":
                            self._hit(resumed[request], session, request, user.get(block))
                            if not resumed[request]:
                                self.served[self.content[block]] += 1
                            self.owned.add(block)
                            user[block] = request
                            table[request, position] = self.content[block]
                        case "cached":
                            self.parent.setdefault(key, table.get((request, position - 1)))
                            self.depth.setdefault(key, position)
                            table[request, position] = key
                            self.content[block] = key
                        case "evicted":
                            del self.content[block]
                        case "freed":
                            if row["ref_count"] == 0:
                                self.owned.remove(block)

    def _look_up(self, resumed: bool, tokens: int, hit: int) -> None:
        asked = (tokens - 1) // self.size
        self.sums["resumed" if resumed else "new"].update(
            requests=1, some=hit > 0, full=0 < asked == hit // self.size, asked_tokens=tokens,
            hit_tokens=hit, asked_blocks=asked, hit_blocks=hit // self.size,
        )  # fmt: skip

    def _hit(self, resumed: bool, session: dict[int, int], request: int, user: int | None) -> None:
        if resumed:
            self.hits["readmitted"] += 1
        elif user is None or session.get(user, -1) < 0 or session.get(request, -1) < 0:
            self.hits["unknown"] += 1
        else:
            self.hits["within" if session[user] == session[request] else "across"] += 1

    def _pass(self, time_ms: float) -> None:
        if self.now is not None and time_ms > self.now:
            for name, count in self.in_vain().items():
                self.held.setdefault(name, []).append((time_ms - self.now, count))
        self.now = time_ms if self.now is None else max(self.now, time_ms)

    def in_vain(self) -> dict[str, int]:
        holders = Counter(self.content.values())
        stranded = 0
        for key, count in holders.items():
            above = self.parent[key]
            while above is not None and above in holders:
                above = self.parent[above]
            stranded += count if above is not None else 0
        return {
            "duplicates": sum(holders.values()) - len(holders),
            "stranded": stranded,
            "unhashed_tails": len(self.owned - set(self.content)),
        }

    def prefixes(self) -> set[tuple[int, int, int, int]]:
        """Return runs of hit keys as (first key, depth, blocks, requests)."""
        runs = set()
        children: dict[int, list[int]] = {}
        for key, parent in self.parent.items():
            if parent is not None:
                children.setdefault(parent, []).append(key)
        for key, count in self.served.items():
            above = self.parent[key]
            if above is not None and self.served[above] == count:
                continue
            blocks, at = 1, key
            while True:
                same = [below for below in children.get(at, []) if self.served[below] == count]
                if not same:
                    break
                (at,) = same
                blocks += 1
            runs.add((key, self.depth[key], blocks, count))
        return runs


def reuse_of(header: Header, chunks: Iterable[Chunk], most: int = 1000) -> ReuseResult:
    analyser = ReuseAnalyzer(header, most_prefixes=most)
    for chunk in chunks:
        analyser.feed(chunk)
    return analyser.result()


def agree(header: Header, chunks: list[Chunk]) -> None:
    model, seen = Model(header, chunks), reuse_of(header, chunks)
    assert seen.first == LookupCounts(**{n: model.sums["new"][n] for n in LookupCounts.__slots__})
    assert seen.resumed == LookupCounts(
        **{name: model.sums["resumed"][name] for name in LookupCounts.__slots__}
    )
    assert Counter(
        within=seen.within_session,
        across=seen.across_sessions,
        unknown=seen.unknown_session,
        readmitted=seen.readmitted,
    ) == Counter(model.hits)
    for name, now in model.in_vain().items():
        held: HeldInVain = getattr(seen, name)
        spans = model.held.get(name, [])
        assert held.now == now, name
        assert held.peak == max((count for _, count in spans), default=0), name
        span = sum(length for length, _ in spans)
        mean = sum(length * count for length, count in spans) / span if span else None
        assert held.mean == (None if mean is None else pytest.approx(mean)), name
    assert {(run.key, run.depth_blocks, run.blocks, run.requests) for run in seen.prefixes} == (
        model.prefixes()
    )
    served = [run.tokens for run in seen.prefixes]
    assert served == sorted(served, reverse=True)
    assert sum(served) == model.size * sum(model.served.values())


@settings(max_examples=25, deadline=None)
@given(streams())
def test_reuse_in_replays_equals_the_model(stream: Stream) -> None:
    agree(stream.header, list(stream.resolved()))


@settings(max_examples=10, deadline=None)
@given(streams(hybrid=True))
def test_reuse_with_two_groups_equals_the_model(stream: Stream) -> None:
    agree(stream.header, list(stream.resolved()))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1_000_000), st.integers(0, 300), st.sampled_from([1, 7919 << 20]))
def test_reuse_in_any_pool_equals_the_model(seed: int, steps: int, spread: int) -> None:
    pool = RandomPool(seed, steps=steps, spread=spread)
    agree(pool.header(), [pool.story.chunk()])


def test_hit_rates_by_hand() -> None:
    story = Story()
    for request, (tokens, hit) in enumerate([(9, 0), (9, 8), (8, 4), (3, 0), (20, 4)]):
        story.look_up(request, tokens, hit)
    story.look_up(0, 12, 8, resumed=True)
    sheet = Figures()
    analyser = ReuseAnalyzer(toy_header())
    analyser.feed(story.chunk())
    analyser.figures(sheet)
    assert sheet["prefix.token_hit_rate"] == 16 / 49
    assert sheet["prefix.block_hit_rate"] == 4 / (2 + 2 + 1 + 0 + 4)
    assert sheet["prefix.request_any"] == 3 / 5
    assert sheet["prefix.request_full"] == 2 / 5  # the third could not ask for its last block
    assert sheet["prefix.readmission_token_hit_rate"] == 8 / 12
    assert sheet["prefix.readmission_block_hit_rate"] == 1.0
    assert sheet.unavailable["prefix.reuse_within_session"] == "no block was hit"


def test_sessions_by_hand() -> None:
    story = Story()
    for request, session in enumerate([0, 0, 1, -1]):
        story.arrive(request, session)
    story.look_up(0, 9, 0)
    story.allocate(0, [0, 1, 2])
    story.cache(0, [0, 1], key=10)
    for request, blocks in ((1, [0, 1]), (2, [0]), (3, [0]), (2, [1])):
        story.look_up(request, 9, 4 * len(blocks))
        story.touch(request, blocks)
    reuse = reuse_of(toy_header(), [story.chunk()])
    assert (reuse.within_session, reuse.across_sessions, reuse.unknown_session) == (2, 2, 1)
    assert reuse.prefixes[0] == ServedPrefix(10, 0, 1, 3, 12)


def test_stranded_duplicates_and_tails_by_hand() -> None:
    story = Story()
    story.look_up(0, 17, 0)
    story.allocate(0, [0, 1, 2, 3, 4])
    story.cache(0, [0, 1, 2, 3], key=10)  # a chain of four, and an unfinished block
    story.look_up(1, 9, 8)
    story.touch(1, [0, 1])
    story.allocate(1, [5], position=2)
    story.cache(1, [5], key=50, position=2)  # branches off behind the second
    story.at(10)
    story.free(0, [4, 3, 2])
    story.at(20)
    story.evict([1], key=11, cause=schema.BY_EXPLICIT)  # strands two blocks, and the branch
    story.at(50)
    story.cache(2, [6], key=11, position=1)
    story.cache(2, [7], key=11, position=1)  # now twice
    story.at(100)
    story.evict([0], key=10, cause=schema.BY_EXPLICIT)  # the root: all others are stranded
    reuse = reuse_of(toy_header(), [story.chunk()])
    assert reuse.stranded == HeldInVain(mean=30 * 3 / 100, peak=3, now=5)
    assert reuse.duplicates == HeldInVain(mean=50 / 100, peak=1, now=1)
    # Block 4 was unfinished for 10 ms; block 1 is used but no longer cached from 20 ms on.
    assert reuse.unhashed_tails == HeldInVain(mean=(10 + 80) / 100, peak=1, now=2)


def test_prefixes_that_belong_together_are_one_run() -> None:
    story = Story()
    story.look_up(0, 21, 0)
    story.cache(0, [0, 1, 2, 3, 4], key=100)
    for request, blocks in enumerate([5, 5, 2, 2, 3], start=1):
        story.look_up(request, 21, 4 * blocks)
        story.touch(request, list(range(blocks)))
    story.look_up(6, 21, 20, resumed=True)
    story.touch(6, [0, 1, 2, 3, 4])  # at a later admission: not counted
    header = toy_header()
    assert reuse_of(header, [story.chunk()]).prefixes == (
        ServedPrefix(key=100, depth_blocks=0, blocks=2, requests=5, tokens=40),
        ServedPrefix(key=103, depth_blocks=3, blocks=2, requests=2, tokens=16),
        ServedPrefix(key=102, depth_blocks=2, blocks=1, requests=3, tokens=12),
    )
    assert len(reuse_of(header, [story.chunk()], most=1).prefixes) == 1


@LARGE
def test_rates_equal_what_the_engine_counts() -> None:
    workload = generate("conversation", seed=4, num_requests=150)
    stream = record(workload, EngineConfig(num_blocks=1_000))
    sheet = Figures()
    analyser = ReuseAnalyzer(stream.header)
    for chunk in stream.resolved():
        analyser.feed(chunk)
    analyser.figures(sheet)
    counts = stream.replay.result().decisions
    assert analyser.result().first.hit_tokens == counts["prefix_hits"]
    assert analyser.result().resumed.asked_tokens == counts["preempted_queries"]
    within, across = sheet["prefix.reuse_within_session"], sheet["prefix.reuse_across_sessions"]
    assert within is not None and across is not None
    assert within + across == pytest.approx(1.0)
    assert within > 0


def test_what_cannot_be_had_says_why() -> None:
    reasons = {}
    for name, header in (
        ("off", toy_header(caching=False)),
        ("windows", toy_header(groups=(Group("SlidingWindowSpec", 4, window=7),))),
        ("empty", toy_header()),
    ):
        sheet = Figures()
        ReuseAnalyzer(header).figures(sheet)
        assert set(sheet.values) == set(sheet.unavailable)
        reasons[name] = sheet.unavailable
    assert set(reasons["off"].values()) == {"prefix caching is off: nothing is looked up"}
    assert "full attention" in reasons["windows"]["prefix.stranded_blocks_mean"]
    assert reasons["windows"]["prefix.request_any"] == "no request was admitted"
    assert reasons["empty"]["prefix.duplicate_blocks_mean"] == "the clock stood still"
    assert set(reasons["off"]) == set(reasons["windows"]) == set(reasons["empty"])
