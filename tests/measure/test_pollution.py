"""Pollution: by hand, and against a model that keeps every loss."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import Stream, record, streams
from toy_streams import RandomPool, Story, happenings, toy_header

from kvatlas.engine import EngineConfig
from kvatlas.events import Chunk, Header
from kvatlas.jit import COMPILED
from kvatlas.measure import Figures
from kvatlas.measure.pollution import Pollution, PollutionResult
from kvatlas.workload.generators import generate

LARGE = pytest.mark.skipif(not COMPILED, reason="minutes in plain Python")


def figures_of(header: Header, chunks: Iterable[Chunk]) -> Figures:
    sheet, analyser = Figures(), Pollution(header)
    for chunk in chunks:
        analyser.feed(chunk)
    analyser.figures(sheet)
    return sheet


class Model:
    """Every loss, kept for ever."""

    def __init__(self, header: Header, chunks: list[Chunk]) -> None:
        size = header.groups[0].block_size
        content: dict[int, tuple[int, int]] = {}
        self.losses: dict[int, list[tuple[int, int, bool]]] = {}  # key: lookups, filler, asked
        self.copies = self.unsure = number = 0
        latest: dict[int, tuple[int, int]] = {}
        for what in happenings(chunks):
            if what.name == "looked_up":
                number += 1
                latest[what.request] = (number, (int(what.row["tokens"]) - 1) // size)
            elif what.name == "reset":
                content.clear()
            elif what.name == "moved":
                for block, _, _ in what.blocks:
                    if block in content:
                        content[int(what.row["to_block"])] = content.pop(block)
            elif what.blocks and what.row["group"] == 0:
                for block, position, key in what.blocks:
                    if what.name == "touched":
                        self._ask(content[block][0], latest[what.request][0])
                    elif what.name == "cached":
                        if position < latest[what.request][1]:
                            self._ask(key, latest[what.request][0])
                        content[block] = (key, what.request)
                    elif what.name == "evicted":
                        key, filler = content.pop(block)
                        if any(other == key for other, _ in content.values()):
                            self.copies += 1
                        else:
                            self.losses.setdefault(key, []).append((number, filler, False))

    def _ask(self, key: int, lookup: int) -> None:
        younger = sum(at >= lookup for at, _, asked in self.losses.get(key, []) if not asked)
        self.unsure += max(0, younger - 1)  # see PollutionResult
        self.losses[key] = [
            (at, filler, asked or at < lookup) for at, filler, asked in self.losses.get(key, [])
        ]

    def premature(self) -> int:
        return sum(asked for losses in self.losses.values() for _, _, asked in losses)

    def polluted(self, requests: int) -> list[int]:
        blocks = [0] * requests
        for losses in self.losses.values():
            if losses and not losses[-1][2]:
                blocks[losses[-1][1]] += 1
        return blocks


def pollution_of(header: Header, chunks: Iterable[Chunk]) -> PollutionResult:
    analyser = Pollution(header)
    for chunk in chunks:
        analyser.feed(chunk)
    return analyser.result()


def agree(header: Header, chunks: list[Chunk]) -> None:
    model, seen = Model(header, chunks), pollution_of(header, chunks)
    assert abs(seen.premature_blocks - model.premature()) <= model.unsure
    lost = sum(len(losses) for losses in model.losses.values())
    assert seen.premature_blocks + seen.never_asked_blocks == lost
    assert seen.copies_blocks == model.copies
    assert seen.polluted_blocks.tolist() == model.polluted(header.num_requests)


@settings(max_examples=25, deadline=None)
@given(streams())
def test_pollution_of_replays_equals_the_model(stream: Stream) -> None:
    if stream.header.caching:
        agree(stream.header, list(stream.resolved()))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1_000_000), st.integers(0, 400), st.sampled_from([1, 7919 << 20]))
def test_pollution_in_any_pool_equals_the_model(seed: int, steps: int, spread: int) -> None:
    pool = RandomPool(seed, steps=steps, spread=spread)
    agree(pool.header(), [pool.story.chunk()])


def test_pollution_by_hand() -> None:
    story = Story()
    for request, session in enumerate((5, 6, 6)):
        story.arrive(request, session)
    story.look_up(0, tokens=13, hit=0)
    story.cache(0, [0, 1, 2], key=10)
    story.look_up(1, tokens=9, hit=0)
    story.cache(1, [3, 4], key=20)
    story.evict([2, 1], key=12, stride=-1)  # of request 0
    story.evict([3, 4], key=20)  # of request 1
    story.look_up(2, tokens=9, hit=4)
    story.touch(2, [0])
    story.cache(2, [1], key=11, position=1)  # asked for again: that eviction was premature
    result = pollution_of(toy_header(num_requests=3), [story.chunk()])
    assert (result.premature_blocks, result.premature_tokens) == (1, 4)
    assert (result.never_asked_blocks, result.share) == (3, 0.75)
    assert result.top_requests() == [(1, 2), (0, 1)]
    assert result.top_sessions() == [(6, 2), (5, 1)]
    assert result.top_sessions(most=1) == [(6, 2)]


def test_a_comb_pollutes_and_nobody_comes_back() -> None:
    stream = record(
        generate("comb", num_requests=40, long_output_tokens=48),
        EngineConfig(num_blocks=400, max_num_seqs=8),
    )
    result = pollution_of(stream.header, stream.resolved())
    assert stream.replay.result().decisions["preemptions"] == 0
    assert (result.premature_blocks, result.copies_blocks, result.share) == (0, 0, 1.0)
    # 32 full blocks of prompt each, and none or two of output; what is cached is not evicted yet.
    assert result.polluted_blocks[:10].tolist() == [32, 34] * 5


@LARGE
def test_figures_of_pollution() -> None:
    stream = record(
        generate("conversation", seed=2, num_requests=60), EngineConfig(num_blocks=1_200)
    )
    sheet = figures_of(stream.header, stream.resolved())
    premature = sheet["prefix.evicted_premature_blocks"]
    never = sheet["prefix.evicted_never_asked_blocks"]
    copies = sheet["prefix.evicted_copies_blocks"]
    assert premature is not None and never is not None and copies is not None
    assert premature + never + copies == stream.replay.result().sums["evictions"] > 0
    lacking = figures_of(toy_header(caching=False), [])
    assert set(lacking.values) == set(sheet.values) == set(lacking.unavailable)
    empty = figures_of(toy_header(), [])
    assert empty["prefix.evicted_premature_blocks"] == 0
    assert empty.unavailable == {
        "prefix.pollution_share": "no content was evicted",
        "prefix.pollution_top_session_share": "the sessions of requests are not known",
    }
