"""The tracker against recounting everything after every event."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from fragmentation_model import ORDERS, SlowTracker, by_order, efi, lengths_of, table_runs, ufsi
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from streams import Stream, streams
from toy_streams import RandomPool, Story, happenings, toy_header

from kvatlas.errors import InputError
from kvatlas.events import Chunk, Header, schema
from kvatlas.jit import COMPILED
from kvatlas.measure import Figures
from kvatlas.measure.fragmentation import FragmentationResult, FragmentationTracker, RunShape

pytestmark = pytest.mark.slow

FEW, SOME = (15, 40) if COMPILED else (3, 6)


def in_single_events(chunks: Iterable[Chunk]) -> Iterable[Chunk]:
    for chunk in chunks:
        for at in range(len(chunk.rows)):
            yield Chunk(chunk.rows[at : at + 1], chunk.ids)


def agree_now(slow: SlowTracker, tracker: FragmentationTracker) -> None:
    """Compare what is known at this event."""
    result = tracker.result()
    assert (result.used, result.empty) == (len(slow.used), len(slow.empty))
    assert result.evictable == len(slow.free) - len(slow.empty)
    for members, shape in ((slow.free, result.free), (slow.empty, result.empty_only)):
        lengths = lengths_of(members)
        assert (shape.blocks, shape.runs) == (len(members), len(lengths))
        assert shape.largest == max(lengths, default=0)
        assert np.isnan(shape.efi) if not lengths else shape.efi == pytest.approx(efi(lengths))
    for request in range(tracker.header.num_requests):
        assert tracker.runs_of(request) == slow.runs(request)
        assert result.requests.runs[request] == slow.last_runs.get(request, 0)
        assert result.requests.peak_runs[request] == slow.peak_runs[request]


def agree_over_time(slow: SlowTracker, result: FragmentationResult) -> None:
    """Compare the integrals; those over lengths only where they are exact."""
    slow.pass_time(slow.end_ms)
    sums = slow.sums
    assert result.span_s * 1e3 == pytest.approx(sums["span"])
    if sums["span"] == 0:
        return
    assert result.used_mean * sums["span"] == pytest.approx(sums["used"])
    assert result.empty_mean * sums["span"] == pytest.approx(sums["empty"])
    if sums["holders"] > 0:
        assert result.runs_per_request_mean * sums["holders"] == pytest.approx(sums["table_runs"])
    for which, shape in enumerate((result.free, result.empty_only)):
        assert shape.runs_mean * sums["span"] == pytest.approx(sums[f"runs{which}"])
        if result.exact:
            agree_on_lengths(slow, which, shape)


def agree_on_lengths(slow: SlowTracker, which: int, shape: RunShape) -> None:
    members_ms = slow.sums[f"members{which}"]
    assert shape.by_order_mean * slow.sums["span"] == pytest.approx(slow.order_ms[which])
    if members_ms == 0:
        assert np.isnan(shape.efi_mean)
        return
    assert shape.largest_mean * members_ms == pytest.approx(slow.sums[f"largest{which}"])
    assert shape.efi_mean * members_ms == pytest.approx(slow.sums[f"efi{which}"], abs=1e-9)
    assert shape.ufsi_mean * members_ms == pytest.approx(slow.ufsi_ms[which], abs=1e-9)


def follow(header: Header, chunks: list[Chunk], mode: str, every: int) -> None:
    slow = SlowTracker(header)
    tracker = FragmentationTracker(header, mode="exact" if mode == "exact" else "sampled")
    for at, (chunk, event) in enumerate(
        zip(in_single_events(chunks), happenings(chunks), strict=True)
    ):
        tracker.feed(chunk)
        slow.happen(event)
        if at % every == 0:
            agree_now(slow, tracker)
    agree_now(slow, tracker)
    agree_over_time(slow, tracker.result())


@pytest.mark.parametrize("mode", ["sampled", "exact"])
@given(seed=st.integers(0, 10_000), blocks=st.sampled_from([3, 16, 70, 130]))
@settings(max_examples=SOME, deadline=None)
def test_random_pools(mode: str, seed: int, blocks: int) -> None:
    pool = RandomPool(seed, blocks=blocks)
    follow(pool.header(), [pool.story.chunk()], mode, every=1)


@pytest.mark.parametrize("mode", ["sampled", "exact"])
@given(stream=st.one_of(streams(), streams(hybrid=True)))
@settings(max_examples=FEW, deadline=None)
def test_replays(mode: str, stream: Stream) -> None:
    follow(stream.header, list(stream.resolved()), mode, every=7)


@given(stream=streams())
@settings(max_examples=FEW, deadline=None)
def test_chunks_may_end_anywhere(stream: Stream) -> None:
    """GIVEN the same events in one piece and one by one THEN all that is known is the same."""
    whole = FragmentationTracker(stream.header, mode="exact")
    single = FragmentationTracker(stream.header, mode="exact")
    for chunk in stream.resolved():
        whole.feed(chunk)
    for chunk in in_single_events(stream.resolved()):
        single.feed(chunk)
    one, other = Figures(), Figures()
    whole.figures(one)
    single.figures(other)
    assert one == other
    for mine, theirs in zip(whole.states(), single.states(), strict=True):
        assert mine.tolist() == theirs.tolist()


@given(
    seed=st.integers(0, 10_000),
    size=st.one_of(st.integers(1, 140), st.sampled_from([191, 192, 193, 1000])),
    share=st.sampled_from([0.02, 0.3, 0.5, 0.9]),
)
@settings(max_examples=SOME, deadline=None)
def test_one_look_measures_all_lengths(seed: int, size: int, share: float) -> None:
    """GIVEN any set of free blocks WHEN sampled at a step THEN lengths are those of the set."""
    rng = np.random.default_rng(seed)
    used = np.flatnonzero(rng.random(size) < share).tolist()
    header = toy_header(size, 1)
    story = Story()
    if used:
        story.tell(schema.TOUCHED, used, request=-1)
    story.tell(schema.STEP, count=3, span_ms=2.0)
    tracker = FragmentationTracker(header)
    tracker.feed(story.chunk())
    result = tracker.result()
    lengths = lengths_of(set(range(size)) - set(used))
    assert result.span_s == pytest.approx(0.006)
    for shape in (result.free, result.empty_only):
        assert shape.runs == len(lengths)
        assert shape.by_order_mean == pytest.approx(
            [by_order(lengths, order) for order in range(ORDERS)]
        )
        if lengths:
            assert (shape.largest, shape.largest_mean) == (max(lengths), max(lengths))
            assert shape.efi_mean == pytest.approx(efi(lengths), abs=1e-9)
            assert shape.ufsi_mean == pytest.approx(
                [ufsi(lengths, order) for order in range(ORDERS)], abs=1e-9
            )


def ragged_story(steps: int) -> tuple[Header, Story]:
    """Blocks come and go for `steps` steps of 1 to 3 ms."""
    rng = np.random.default_rng(3)
    story, header = Story(), toy_header(100, steps)
    for step in range(steps):
        blocks = sorted(set(rng.integers(0, 100, 8).tolist()))
        story.allocate(step, blocks)
        span_ms = float(rng.integers(1, 4))
        story.tell(schema.STEP, count=1, span_ms=span_ms)
        story.at(story.now_ms + span_ms)
        story.free(step, blocks, position=len(blocks) - 1, cause=schema.BY_FINISHED)
        story.finish(step)
    return header, story


@pytest.mark.parametrize("mode", ["sampled", "exact"])
@pytest.mark.parametrize("most", [2, 5, 16, 1024])
def test_thinned_samples_lose_nothing(mode: str, most: int) -> None:
    """GIVEN few samples WHEN many steps pass THEN the intervals still add up to the run."""
    header, story = ragged_story(60)
    tracker = FragmentationTracker(
        header, mode="exact" if mode == "exact" else "sampled", most_samples=most
    )
    for chunk in in_single_events([story.chunk()]):
        tracker.feed(chunk)
    result = tracker.result()
    series, span_s = result.series, result.series.end_s - result.series.start_s
    assert 0 < series.end_s.size <= most + 1
    assert series.start_s[0] == 0
    assert series.start_s[1:].tolist() == series.end_s[:-1].tolist()
    assert (span_s > 0).all()
    assert float(span_s.sum()) == pytest.approx(result.span_s)
    for column, mean in (
        (series.used, result.used_mean),
        (series.evictable, result.evictable_mean),
        (series.empty, result.empty_mean),
    ):
        assert float((column * span_s).sum()) == pytest.approx(mean * result.span_s)
    assert tracker.result().series.end_s.tolist() == series.end_s.tolist()


@pytest.mark.skipif(not COMPILED, reason="a large pool")
def test_looking_is_paid_for() -> None:
    """GIVEN a large pool in which little happens WHEN sampled THEN looks are few."""
    steps = 1500
    _, story = ragged_story(steps)
    looks = {}
    for blocks in (100, 200_000):
        tracker = FragmentationTracker(toy_header(blocks, steps))
        tracker.feed(story.chunk())
        looks[blocks] = tracker.result().looks
        assert tracker.result().looks == looks[blocks]
    # The first ones are for nothing; then the small pool is looked at, the large one at the end.
    assert looks[200_000] == 33
    assert 100 < looks[100] < steps


def test_runs_of_a_table_in_hand() -> None:
    """GIVEN a table [4 5 6 | 9 | 8 | 7 8'] WHEN a window drops 5 THEN runs are recounted."""
    story = Story()
    story.allocate(0, [4, 5, 6, 9, 8])
    story.touch(0, [7], position=5)
    tracker = FragmentationTracker(toy_header(20, 2))
    tracker.feed(story.chunk())
    assert tracker.runs_of(0) == table_runs([4, 5, 6, 9, 8, 7]) == 4
    story = Story()
    story.free(0, [5], position=1, cause=schema.BY_SKIPPED)
    story.allocate(0, [10, 11], position=8)  # positions 6 and 7 are null
    tracker.feed(story.chunk())
    assert tracker.runs_of(0) == table_runs([4, None, 6, 9, 8, 7, None, None, 10, 11]) == 6
    story = Story()
    story.tell(schema.MOVED, [9, 8], to_block=7 + 6)  # 9 -> 13, 8 -> 14
    tracker.feed(story.chunk())
    assert tracker.runs_of(0) == table_runs([4, None, 6, 13, 14, 7, None, None, 10, 11]) == 5
    assert tracker.result().copied_blocks == 2
    story = Story()
    story.free(0, [11], position=9, cause=schema.BY_FINISHED)
    story.finish(0)
    tracker.feed(story.chunk())
    requests = tracker.result().requests
    assert (requests.runs[0], requests.blocks[0], requests.peak_runs[0]) == (5, 7, 6)
    edges, counts = requests.histogram()
    assert edges.tolist() == [1, 2, 4, 8]
    assert counts.tolist() == [0, 0, 1]
    sheet = Figures()
    tracker.figures(sheet)
    assert sheet["fragmentation.runs_per_request_mean"] == 5
    assert sheet["fragmentation.blocks_per_run_mean"] == 7 / 5


def test_figures_that_cannot_be_had() -> None:
    sheet = Figures()
    FragmentationTracker(toy_header(4, 1)).figures(sheet)
    assert set(sheet.values.values()) == {None}
    story = Story()
    story.tell(schema.STEP, count=1, span_ms=1.0)
    tracker = FragmentationTracker(toy_header(4, 1))
    tracker.feed(story.chunk())
    tracker.figures(sheet)
    assert sheet["fragmentation.efi"] == 0
    assert sheet["fragmentation.free_runs"] == 1
    assert sheet.unavailable["fragmentation.ufsi_order_3"] == "the pool has less than 8 blocks"


def test_a_live_recording_begins_with_its_first_event() -> None:
    story = Story()
    story.at(5000.0)
    story.allocate(0, [1, 2])
    story.tell(schema.STEP, count=2, span_ms=3.0)
    for producer, span_s in (("live", 0.006), ("replay", 5.006)):
        tracker = FragmentationTracker(replace(toy_header(10, 1), producer=producer))
        tracker.feed(story.chunk())
        result = tracker.result()
        assert result.span_s == pytest.approx(span_s)
        assert result.used_mean == pytest.approx(2 * 0.006 / span_s)
        assert result.series.start_s[0] == (5.0 if producer == "live" else 0.0)


def test_bad_settings_and_tables_are_refused() -> None:
    for settings_ in ({"mode": "often"}, {"most_samples": 1}):
        with pytest.raises(InputError):
            FragmentationTracker(toy_header(), **settings_)
    story = Story()
    story.allocate(0, [1, 2], position=49)
    with pytest.raises(InputError, match="max_num_seqs"):
        FragmentationTracker(toy_header()).feed(story.chunk())
