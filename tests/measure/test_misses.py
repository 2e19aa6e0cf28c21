"""Miss attribution: by hand, and against a model that remembers everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import Stream, record, small_workload, streams
from toy_streams import RandomPool, Story, happenings, toy_header

from kvatlas.engine import EngineConfig
from kvatlas.events import Chunk, Group, Header, schema
from kvatlas.measure import Figures
from kvatlas.measure.misses import MissAttribution, MissAttributionResult
from kvatlas.workload.generators import generate
from kvatlas.workload.sharing import reused_prompt_tokens

HYBRID = (Group("FullAttentionSpec", 4), Group("SlidingWindowSpec", 4, window=7))


@dataclass
class Asked:
    """A first admission as it was: what the cache held, what it had ever held."""

    tokens: int
    hit: int
    number: int
    cached: set[int]
    ever: set[int]
    in_hybrid: bool
    keys: dict[int, int] = field(default_factory=dict)
    in_flight: dict[int, bool] = field(default_factory=dict)
    unsure: dict[int, bool] = field(default_factory=dict)
    finished: bool = False


class Model:
    """Attribution by definition, from full copies of the cache at every lookup.

    Keys are noted as the request's blocks turn out to have them; verdicts come at the end.
    """

    def __init__(self, header: Header, chunks: list[Chunk]) -> None:
        self.size = header.groups[0].block_size
        self.asked: dict[int, Asked] = {}
        self.content: dict[int, int] = {}
        self.ever: set[int] = set()
        self.changes: list[tuple[int, int]] = []
        latest: dict[int, int] = {}
        first_by: dict[int, int] = {}
        self.off = 0
        number = 0
        for what in happenings(chunks):
            row = what.row
            if what.name == "looked_up":
                number += 1
                latest[what.request] = number
                if row["cause"] != schema.BY_NEW:
                    continue
                if row["computed_tokens"] == -1:
                    self.off += int(row["tokens"])
                else:
                    self.asked[what.request] = Asked(
                        int(row["tokens"]), int(row["computed_tokens"]), number,
                        set(self.content.values()), set(self.ever), len(header.groups) > 1,
                    )  # fmt: skip
            elif what.name == "finished" and what.request in self.asked:
                self.asked[what.request].finished = True
            elif what.name == "reset":
                self._lose(number, list(self.content))
            elif what.name == "moved":
                for block, _, _ in what.blocks:
                    if block in self.content:
                        self.content[int(row["to_block"])] = self.content.pop(block)
            elif what.blocks and row["group"] == 0:
                asked = self.asked.get(what.request)
                for block, position, key in what.blocks:
                    if what.name == "evicted":
                        self._lose(number, [block])
                    elif what.name == "touched" and asked and block in self.content:
                        key = self.content[block]
                    elif what.name != "cached":
                        continue
                    if asked and what.name != "evicted" and not asked.finished:
                        self._note(asked, position, key, first_by.get(key))
                    if what.name == "cached":
                        if key not in self.ever:
                            first_by[key] = latest.get(what.request, 0)
                        self.ever.add(key)
                        if key not in self.content.values():
                            self.changes.append((key, number))
                        self.content[block] = key

    def _note(self, asked: Asked, position: int, key: int, first_by: int | None) -> None:
        if position not in asked.keys and position >= asked.hit // self.size:
            asked.keys[position] = key
            asked.in_flight[position] = first_by is not None and first_by < asked.number
            since = [at for changed, at in self.changes if changed == key]
            asked.unsure[position] = sum(at >= asked.number for at in since) > 1

    def _lose(self, number: int, blocks: list[int]) -> None:
        for block in blocks:
            key = self.content.pop(block)
            if key not in self.content.values():
                self.changes.append((key, number))

    def verdicts(self) -> tuple[Counter[str], int]:
        """Return tokens by cause, and how many of the stranded ones cannot be told exactly."""
        count: Counter[str] = Counter(configuration=self.off, missed=self.off)
        unsure = 0
        for asked in self.asked.values():
            count["missed"] += asked.tokens - asked.hit
            can_ask = (asked.tokens - 1) // self.size
            whole = asked.tokens // self.size
            position = asked.hit // self.size
            cold = False
            reached = asked.in_hybrid
            while position < whole and position in asked.keys:
                key = asked.keys[position]
                cold = key not in asked.ever
                if cold:
                    count["cold"] += self.size
                    count["in_flight"] += self.size * asked.in_flight[position]
                    reached = False
                elif position >= can_ask:
                    count["granularity"] += self.size
                elif key in asked.cached and reached:
                    count["configuration"] += self.size
                    unsure += self.size * asked.unsure[position]
                else:
                    count["capacity"] += self.size
                    reached = False
                    count["stranded"] += self.size * (key in asked.cached)
                    unsure += self.size * asked.unsure[position]
                position += 1
            rest = asked.tokens - position * self.size
            if position >= whole or (asked.finished and position >= can_ask):
                count["cold" if cold else "granularity"] += rest
            else:
                count["unknown"] += rest
        return count, unsure


def misses_of(header: Header, chunks: Iterable[Chunk]) -> MissAttributionResult:
    analyser = MissAttribution(header)
    for chunk in chunks:
        analyser.feed(chunk)
    return analyser.result()


def agree(header: Header, chunks: list[Chunk]) -> None:
    seen = misses_of(header, chunks)
    model, unsure = Model(header, chunks).verdicts()
    for name in ("missed", "cold", "granularity", "unknown"):
        assert getattr(seen, name) == model[name], name
    assert seen.cold_in_flight == model["in_flight"]
    assert seen.capacity + seen.configuration == model["capacity"] + model["configuration"]
    assert abs(seen.capacity - model["capacity"]) <= unsure
    assert abs(seen.capacity_stranded - model["stranded"]) <= unsure
    parts = seen.cold + seen.capacity + seen.granularity + seen.configuration
    assert parts == seen.attributed
    if parts:
        assert sum(seen.shares().values()) == pytest.approx(1.0, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(streams())
def test_attribution_of_replays_equals_the_model(stream: Stream) -> None:
    agree(stream.header, list(stream.resolved()))


@settings(max_examples=15, deadline=None)
@given(streams(hybrid=True))
def test_attribution_with_two_groups_equals_the_model(stream: Stream) -> None:
    agree(stream.header, list(stream.resolved()))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1_000_000), st.integers(0, 400), st.sampled_from([1, 7919 << 20]))
def test_attribution_in_any_pool_equals_the_model(seed: int, steps: int, spread: int) -> None:
    pool = RandomPool(seed, steps=steps, spread=spread)
    agree(pool.header(), [pool.story.chunk()])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([2, 4]))
def test_nothing_is_for_want_of_room_where_there_is_room(seed: int, block_size: int) -> None:
    workload = small_workload(seed)
    stream = record(workload, EngineConfig(num_blocks=2_000, block_size=block_size))
    misses = misses_of(stream.header, stream.resolved())
    assert misses.capacity == misses.configuration == misses.unknown == 0
    queried = int(workload.prompt_tokens.sum())
    # Everything that an unbounded cache serves was found; cold prompts and rounding are the rest.
    found = int(reused_prompt_tokens(workload, block_size).sum())
    assert queried - misses.missed == found


@pytest.mark.parametrize("name", ["comb", "sawtooth"])
def test_where_nothing_is_shared_everything_is_cold(name: str) -> None:
    workload = generate(name, num_requests=30)
    stream = record(workload, EngineConfig(num_blocks=1_500))
    misses = misses_of(stream.header, stream.resolved())
    prompts = int(workload.prompt_tokens.sum())
    assert (misses.missed, misses.cold, misses.cold_in_flight) == (prompts, prompts, 0)


def test_two_turns_by_hand() -> None:
    story = Story()
    story.look_up(0, tokens=10, hit=0)
    story.allocate(0, [0, 1, 2])
    story.cache(0, [0, 1], key=10)
    story.finish(0)
    story.look_up(1, tokens=14, hit=8)  # hits both; block 2 and the rest are new
    story.touch(1, [0, 1])
    story.allocate(1, [3, 4], position=2)
    story.cache(1, [3], key=20, position=2)
    story.finish(1)
    story.look_up(2, tokens=12, hit=8)  # ends with block 2: never asked for, though it is there
    story.touch(2, [0, 1])
    story.allocate(2, [5], position=2)
    story.cache(2, [5], key=20, position=2)
    story.finish(2)
    story.look_up(3, tokens=9, hit=8)  # all it could ask for: the last token is computed
    story.touch(3, [0, 1])
    misses = misses_of(toy_header(), [story.chunk()])
    assert misses.missed == 10 + 6 + 4 + 1
    assert misses.cold == 10 + 6
    assert misses.granularity == 4 + 1
    assert (misses.capacity, misses.configuration, misses.unknown) == (0, 0, 0)


def test_evicted_and_stranded_by_hand() -> None:
    story = Story()
    story.look_up(0, tokens=17, hit=0)
    story.allocate(0, [0, 1, 2, 3, 4])
    story.cache(0, [0, 1, 2, 3], key=10)
    story.free(0, [4, 3, 2, 1, 0])
    story.finish(0)
    story.evict([1, 2], key=11)
    story.look_up(1, tokens=17, hit=4)
    story.touch(1, [0])
    story.allocate(1, [1, 2, 4, 5], position=1)
    story.cache(1, [1, 2, 4], key=11, position=1)
    story.finish(1)
    misses = misses_of(toy_header(), [story.chunk()])
    assert misses.cold == 17
    assert misses.capacity == 12
    assert misses.capacity_stranded == 4  # the fourth block
    assert misses.granularity == 1


def test_a_prefix_that_another_request_was_computing() -> None:
    story = Story()
    story.look_up(0, tokens=9, hit=0)
    story.allocate(0, [0, 1, 2])
    story.look_up(1, tokens=9, hit=0)
    story.allocate(1, [3, 4, 5])
    story.cache(0, [0, 1], key=10)
    story.cache(1, [3, 4], key=10)
    misses = misses_of(toy_header(), [story.chunk()])
    assert (misses.cold, misses.cold_in_flight) == (18, 8)


def test_a_preempted_request_finds_blocks_that_it_missed_at_first() -> None:
    story = Story()
    story.look_up(0, tokens=17, hit=0)
    story.allocate(0, [0, 1])
    story.cache(0, [0], key=10)
    story.tell(schema.PREEMPTED, request=0)
    story.look_up(1, tokens=17, hit=4)
    story.touch(1, [0])
    story.allocate(1, [5, 6, 7, 8], position=1)
    story.cache(1, [5, 6, 7], key=11, position=1)
    story.look_up(0, tokens=17, hit=16, resumed=True)
    story.touch(0, [0, 5, 6, 7])
    misses = misses_of(toy_header(), [story.chunk()])
    assert (misses.requests, misses.missed) == (2, 17 + 13)
    assert misses.cold == 17 + 13
    assert (misses.unknown, misses.cold_in_flight) == (0, 0)


def test_a_recording_that_breaks_off_leaves_the_rest_unknown() -> None:
    story = Story()
    story.look_up(0, tokens=17, hit=0)
    story.allocate(0, [0, 1])
    story.cache(0, [0, 1], key=10)
    misses = misses_of(toy_header(), [story.chunk()])
    assert (misses.missed, misses.cold, misses.unknown) == (17, 8, 9)
    assert misses.shares()["cold"] == 1.0


def test_another_group_ends_the_hit() -> None:
    story = Story()
    story.look_up(0, tokens=13, hit=0)
    story.allocate(0, [0, 1, 2, 3])
    story.cache(0, [0, 1, 2], key=10)
    story.finish(0)
    story.look_up(1, tokens=13, hit=4)  # the window group has no more
    story.touch(1, [0])
    story.allocate(1, [4, 5, 6], position=1)
    story.cache(1, [4, 5], key=11, position=1)
    story.finish(1)
    misses = misses_of(toy_header(groups=HYBRID), [story.chunk()])
    assert (misses.configuration, misses.granularity) == (8, 1)
    assert misses.capacity == 0


def test_a_prompt_shorter_than_a_block_is_lost_to_rounding() -> None:
    story = Story()
    story.look_up(0, tokens=3, hit=0)
    misses = misses_of(toy_header(), [story.chunk()])
    assert (misses.missed, misses.granularity) == (3, 3)


def test_caching_off_is_configuration_whatever_the_groups() -> None:
    story = Story()
    story.look_up(0, tokens=30, hit=-1)
    for groups in (None, (Group("SlidingWindowSpec", 4, window=7),)):
        header = toy_header(caching=False, groups=groups)
        misses = misses_of(header, [story.chunk()])
        assert (misses.missed, misses.configuration) == (30, 30)


def figures_of(header: Header, chunks: Iterable[Chunk]) -> Figures:
    sheet, analyser = Figures(), MissAttribution(header)
    for chunk in chunks:
        analyser.feed(chunk)
    analyser.figures(sheet)
    return sheet


def test_figures_of_misses() -> None:
    stream = record(small_workload(3), EngineConfig(num_blocks=40, block_size=2))
    sheet = figures_of(stream.header, stream.resolved())
    causes = ("cold", "capacity", "granularity", "configuration")
    assert sum(sheet[f"attribution.{name}"] or 0 for name in causes) == pytest.approx(1.0)
    assert sheet["attribution.missed_tokens"] == (
        stream.replay.result().decisions["prefix_queries"]  # type: ignore[operator]
        - stream.replay.result().decisions["prefix_hits"]
    )
    windows = toy_header(groups=(Group("SlidingWindowSpec", 4, window=7),))
    none = figures_of(windows, [])
    assert set(none.values) == set(sheet.values)
    assert all("full attention" in reason for reason in none.unavailable.values())
    assert none["attribution.cold"] is None


def test_more_keys_than_there_was_room_for() -> None:
    header = toy_header(num_blocks=5_000, num_requests=2, num_keys=0)
    analyser = MissAttribution(header)
    for turn in range(2):
        story = Story()
        story.look_up(turn, tokens=16_001, hit=0)
        for start in range(0, 4_000, 50):
            blocks = list(range(start, start + 50))
            if turn == 1:
                story.evict(blocks, key=10**12 + start)
            story.cache(turn, blocks, key=10**12 + start, position=start)
        analyser.feed(story.chunk())
    misses = analyser.result()
    assert (misses.cold, misses.capacity, misses.granularity) == (16_001, 16_000, 1)
    assert np.array_equal(analyser._keys.keys(), 10**12 + np.arange(4_000))
