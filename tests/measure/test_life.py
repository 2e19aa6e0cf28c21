"""Block lives: by hand, against a model in plain Python, and vLLM's sampling."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import Stream, record, streams
from toy_streams import RandomPool, Story, happenings, toy_header

from kvatlas.engine import EngineConfig
from kvatlas.errors import InputError
from kvatlas.events import Chunk, Header, schema
from kvatlas.jit import COMPILED
from kvatlas.measure import Figures
from kvatlas.measure._histogram_kernel import make_histograms
from kvatlas.measure._life_kernel import follow_lives, make_lives
from kvatlas.measure.distribution import RELATIVE_ERROR, Distribution, distribution_of
from kvatlas.measure.life import BlockLife, BlockLifeResult
from kvatlas.workload.generators import generate

LARGE = pytest.mark.skipif(not COMPILED, reason="minutes in plain Python")


class Model:
    """Lives by definition: dictionaries and lists, everything looked at every time."""

    def __init__(self, header: Header, chunks: list[Chunk]) -> None:
        self.lifetime: list[float] = []
        self.idle: list[float] = []
        self.let_go: list[float] = []
        self.gaps: list[float] = []
        self.gap_blocks: list[float] = []
        self.seen_lifetime: list[float] = []
        self.seen_idle: list[float] = []
        self.seen_gaps: list[float] = []
        self.cut = 0
        self.born: dict[int, float] = {}
        self.used: dict[int, float] = {}
        self.left: dict[int, float] = {}
        self.cached: set[int] = set()
        self.order: list[int] = []  # blocks by last use
        self.watched: dict[int, tuple[float, deque[float]]] = {}
        self.now = 0.0
        for what in happenings(chunks):
            self.now = max(self.now, what.time_ms)
            blocks = [block for block, _, _ in what.blocks]
            match what.name:
                case "allocated":
                    for block in blocks:
                        if header.caching:
                            self._report(block)
                        self.born[block] = self.now
                        self._use(block)
                        self.watched[block] = (self.now, deque(maxlen=4))
                case "touched":
                    for block in blocks:
                        if block in self.cached:
                            self.gaps.append(self.now - self.used[block])
                            self.gap_blocks.append(len(self.order) - 1 - self.order.index(block))
                        self._use(block)
                        if block in self.watched:
                            self.watched[block][1].append(self.now)
                case "cached":
                    self.cached |= set(blocks)
                case "evicted":
                    for block in blocks:
                        self.cached.remove(block)
                        self.lifetime.append(self.now - self.born[block])
                        self.idle.append(self.now - self.used[block])
                        if what.row["cause"] == schema.BY_ALLOCATION:
                            self.let_go.append(self.now - self.left[block])
                        else:
                            self._report(block)
                case "freed":
                    if what.row["ref_count"] == 0:
                        self.left |= dict.fromkeys(blocks, self.now)
                case "reset":
                    self.cut += len(self.cached)
                    self.cached.clear()
                    self.watched.clear()
                case "moved":
                    for source, _, _ in what.blocks:
                        self._move(source, int(what.row["to_block"]))

    def _use(self, block: int) -> None:
        self.used[block] = self.now
        if block in self.order:
            self.order.remove(block)
        self.order.append(block)

    def _report(self, block: int) -> None:
        if block in self.watched:
            born, hits = self.watched.pop(block)
            self.seen_lifetime.append(self.now - born)
            self.seen_idle.append(self.now - (hits[-1] if hits else born))
            times = list(hits)
            self.seen_gaps += [later - hit for hit, later in pairwise(times)]

    def _move(self, source: int, target: int) -> None:
        # They change places: an empty block has a past, too.
        for known in (self.born, self.used, self.left, self.watched):
            ends = {block: known.pop(block) for block in (source, target) if block in known}
            if source in ends:
                known[target] = ends[source]  # type: ignore[assignment]
            if target in ends:
                known[source] = ends[target]  # type: ignore[assignment]
        places = {source: target, target: source}
        self.order = [places.get(block, block) for block in self.order]
        self.cached = {places.get(block, block) for block in self.cached}


def lives_of(header: Header, chunks: Iterable[Chunk], rate: float = 1.0) -> BlockLifeResult:
    analyser = BlockLife(header, sample_rate=rate)
    for chunk in chunks:
        analyser.feed(chunk)
    return analyser.result()


def agree(values: list[float], seen: Distribution, unit: float = 1e-3) -> None:
    """Hold a distribution against the values themselves."""
    assert seen.count == len(values) == seen.counts.sum()
    if not values:
        assert seen.mean is seen.least is seen.percentile(0.5) is None
        return
    exact = np.sort(values) * unit
    assert seen.total == pytest.approx(exact.sum())
    assert seen.least == pytest.approx(exact[0])
    assert seen.most == pytest.approx(exact[-1])
    for share in (0.01, 0.5, 0.9, 0.99, 1.0):
        at = max(0, int(np.ceil(share * exact.size - 1e-9)) - 1)
        got = seen.percentile(share)
        assert got is not None
        assert got == pytest.approx(exact[at], rel=RELATIVE_ERROR * 1.01, abs=2**-10 * unit)


def agree_all(header: Header, chunks: list[Chunk]) -> None:
    model, seen = Model(header, chunks), lives_of(header, chunks)
    agree(model.lifetime, seen.lifetime_s)
    agree(model.idle, seen.idle_s)
    agree(model.let_go, seen.let_go_s)
    agree(model.gaps, seen.reuse_gap_s)
    agree(model.gap_blocks, seen.reuse_gap_blocks, 1.0)
    agree(model.seen_lifetime, seen.sampled.lifetime_s)
    agree(model.seen_idle, seen.sampled.idle_s)
    agree(model.seen_gaps, seen.sampled.reuse_gap_s)
    assert seen.ended == len(model.lifetime)
    assert seen.censored == model.cut + len(model.cached)
    ages = [model.now - model.born[block] for block in model.cached]
    assert seen.censored_age_s == (pytest.approx(np.mean(ages) / 1e3) if ages else None)


@settings(max_examples=25, deadline=None)
@given(streams())
def test_lives_of_replays_equal_the_model(stream: Stream) -> None:
    agree_all(stream.header, list(stream.resolved()))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1_000_000), st.integers(0, 300))
def test_lives_of_any_pool_equal_the_model(seed: int, steps: int) -> None:
    pool = RandomPool(seed, steps=steps)
    agree_all(pool.header(), [pool.story.chunk()])


def test_a_life_by_hand() -> None:
    story = Story()
    story.allocate(0, [1, 2, 3])
    story.cache(0, [1, 2], key=10)
    story.at(1_000)
    story.free(0, [3, 2, 1])
    story.at(4_000)
    story.touch(1, [1])  # block 2 and 3 were used since block 1
    story.at(5_000)
    story.free(1, [1])
    story.at(9_000)
    story.evict([1], key=10)  # block 3 was never cached: no life ends
    story.allocate(2, [1, 3])
    life = lives_of(toy_header(), [story.chunk()])
    assert (life.lifetime_s.count, life.lifetime_s.total) == (1, 9.0)
    assert (life.idle_s.count, life.idle_s.total) == (1, 5.0)
    assert (life.let_go_s.count, life.let_go_s.total) == (1, 4.0)
    assert (life.reuse_gap_s.count, life.reuse_gap_s.total) == (1, 4.0)
    assert (life.reuse_gap_blocks.count, life.reuse_gap_blocks.total) == (1, 2.0)
    assert (life.ended, life.censored, life.censored_age_s) == (1, 1, 9.0)
    # vLLM's collector reports block 3 too, and knows no gap before a second hit.
    assert (life.sampled.lifetime_s.count, life.sampled.lifetime_s.total) == (2, 18.0)
    assert (life.sampled.idle_s.total, life.sampled.reuse_gap_s.count) == (14.0, 0)


def test_vllm_remembers_four_hits() -> None:
    story = Story()
    story.allocate(0, [5])
    story.cache(0, [5], key=1)
    for second in (1, 3, 6, 10, 15, 21):
        story.at(second * 1e3)
        story.touch(1, [5])
    story.at(30_000)
    story.evict([5], key=1)
    story.allocate(2, [5])
    life = lives_of(toy_header(), [story.chunk()])
    assert (life.reuse_gap_s.count, life.reuse_gap_s.total) == (6, 21.0)
    assert (life.sampled.reuse_gap_s.count, life.sampled.reuse_gap_s.total) == (3, 4.0 + 5.0 + 6.0)


def test_lives_that_began_before_the_recording_have_no_lifetime() -> None:
    story = Story()
    story.at(1_000)
    story.cache(0, [1, 2], key=10)
    story.touch(1, [1])
    story.at(3_000)
    story.evict([1, 2], key=10)
    life = lives_of(toy_header(), [story.chunk()])
    assert (life.ended, life.unknown, life.lifetime_s.count) == (2, 2, 0)
    assert (life.idle_s.count, life.idle_s.total) == (1, 2.0)
    assert life.reuse_gap_s.count == 0


@LARGE
def test_sampling_sees_about_what_there_is() -> None:
    workload = generate("conversation", seed=1, num_requests=400)
    stream = record(workload, EngineConfig(num_blocks=2_000))
    whole = list(stream.resolved())
    life = lives_of(stream.header, whole, rate=0.1)
    allocated = sum(
        int(chunk.rows["count"][chunk.rows["event"] == schema.ALLOCATED].sum()) for chunk in whole
    )
    assert life.sampled.watched == pytest.approx(0.1 * allocated, rel=0.1)
    assert life.ended > 1000
    for exact, sampled in (
        (life.lifetime_s.mean, life.sampled.lifetime_s.mean),
        (life.idle_s.mean, life.sampled.idle_s.mean),
    ):
        assert exact is not None and sampled == pytest.approx(exact, rel=0.25)


def test_many_uses_number_the_stamps_afresh() -> None:
    rng = np.random.default_rng(7)
    story = Story()
    story.allocate(0, list(range(6)))
    story.cache(0, list(range(6)), key=0)
    for second in range(300):
        story.at(second * 10.0)
        first = int(rng.integers(0, 6))
        story.touch(1, list(range(first, int(rng.integers(first, 6)) + 1)))
    agree_all(toy_header(num_blocks=6), [story.chunk()])


def test_figures_have_names_units_and_reasons() -> None:
    story = Story()
    story.allocate(0, [1])
    story.cache(0, [1], key=10)
    story.at(2_000)
    story.evict([1], key=10)
    sheet = Figures()
    analyser = BlockLife(toy_header())
    analyser.feed(story.chunk())
    analyser.figures(sheet)
    assert sheet["life.lifetime_p50_s"] == sheet["life.idle_mean_s"] == 2.0
    assert sheet["life.censored_share"] == 0.0
    assert sheet["life.reuse_gap_blocks_p50"] is None
    assert sheet.unavailable["life.reuse_gap_p90_s"] == "no cached block was used again"
    off = Figures()
    BlockLife(toy_header(caching=False)).figures(off)
    assert set(off.values) == set(sheet.values)
    assert set(off.unavailable.values()) == {"prefix caching is off: no block is cached"}


@pytest.mark.parametrize("rate", [0.0, -1.0, 1.5])
def test_a_rate_out_of_range_is_one_line(rate: float) -> None:
    with pytest.raises(InputError, match="sample_rate"):
        BlockLife(toy_header(), sample_rate=rate)


@given(st.lists(st.floats(0, 1e9), max_size=40))
@settings(max_examples=40, deadline=None)
def test_a_distribution_is_exact_but_for_its_bins(times: list[float]) -> None:
    times = sorted(times)
    story = Story()
    for at in range(len(times)):
        story.allocate(0, [at])
        story.cache(0, [at], key=at)
    for at, time in enumerate(times):
        story.at(time)
        story.evict([at], key=at)
    lifetime = lives_of(toy_header(), [story.chunk()]).lifetime_s
    agree(times, lifetime)
    for most in (1, 3, 1000):
        edges, counts = lifetime.merged(most)
        assert len(edges) == len(counts) + 1 <= most + 1
        assert counts.sum() == len(times)
        assert (edges[0], edges[-1]) == (lifetime.edges[0], lifetime.edges[-1])


def test_a_chunk_that_must_not_be_written_to() -> None:
    story = Story()
    story.allocate(0, [1])
    chunk = story.chunk()
    chunk.rows.setflags(write=False)
    chunk.ids.setflags(write=False)
    assert lives_of(toy_header(), [chunk]).sampled.watched == 1


def test_nothing_happened() -> None:
    assert distribution_of(make_histograms(1), 0).count == 0
    lives = make_lives(3, True, 1.0, 0)
    chunk = Story().chunk()
    follow_lives(lives, chunk.rows.view(np.recarray), chunk.ids)
    assert lives.info.ended == 0
