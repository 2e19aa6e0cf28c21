"""Playing a recording: what is handed out when, and that nothing is lost however it is steered."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from played import InMemory, busy_stream, played
from streams import Stream, streams

from kvatlas.events import Chunk, Header, PoolState, schema
from kvatlas.watch._tally_state_kernel import SUMS
from kvatlas.watch.cutting import end_of
from kvatlas.watch.playing import FileFeed
from kvatlas.watch.tally import LiveTally


class Follower:
    """Feeds what a feed hands out to the pool and the counts, as a board does."""

    def __init__(self, feed: FileFeed) -> None:
        self.feed, self.generation = feed, feed.generation
        self._begin()

    def poll(self, budget_events: int = 1 << 20) -> int:
        chunks = self.feed.poll(budget_events)
        if self.feed.generation != self.generation:
            self.generation = self.feed.generation
            self._begin()
        for chunk in chunks:
            for part in self.state.resolver.pieces(chunk):
                self.state.apply(part)
                self.tally.feed(part)
        return sum(len(chunk.rows) for chunk in chunks)

    def _begin(self) -> None:
        header: Header = self.feed.header()
        self.state, self.tally = PoolState(header), LiveTally(header)


def whole(stream: Stream) -> Follower:
    """Return what the whole recording leads to."""
    follower = Follower(played(stream, 0.0)[0])
    while follower.poll():
        pass
    return follower


def assert_same_end(follower: Follower, stream: Stream) -> None:
    expected = whole(stream)
    for name in SUMS.names or ():
        assert follower.tally.sums[name] == pytest.approx(expected.tally.sums[name], abs=1e-6)
    assert (follower.state.blocks.key == expected.state.blocks.key).all()
    assert (follower.state.blocks.ref_count == expected.state.blocks.ref_count).all()


@pytest.fixture(scope="module")
def busy() -> Stream:
    """Return a replay with preemptions, evictions and rows of many steps."""
    stream = busy_stream()
    rows = stream.rows()
    assert (rows["event"] == schema.PREEMPTED).any()
    assert (rows["event"] == schema.EVICTED).any()
    assert rows["count"][rows["event"] == schema.STEP].max() > 5
    return stream


def test_as_fast_as_it_goes_all_rows_come_as_they_are(busy: Stream) -> None:
    feed, _ = played(busy, 0.0)
    rows = np.concatenate([chunk.rows for chunk in feed.poll(1 << 30)])
    assert len(rows) == len(busy.rows())
    assert (rows["time_ms"] == busy.rows()["time_ms"]).all()
    assert feed.poll(1) == []
    assert feed.health().state == "ended"
    assert feed.playback().position_s == pytest.approx(end_of(busy.rows()) / 1e3)
    assert feed.names[3] == "chat-3"


def test_events_come_at_their_time(busy: Stream) -> None:
    feed, clock = played(busy, 2.0)
    follower = Follower(feed)
    assert follower.poll() > 0  # what happens at 0
    start_s = clock.now_s
    while feed.health().state == "playing":
        clock.now_s += 0.31
        follower.poll()
        position_ms = 2e3 * (clock.now_s - start_s)
        if feed.health().state == "playing":
            # A step that has begun is shown, no later one.
            assert follower.tally.sums.time_ms <= position_ms + 200
            assert feed.playback().position_s == pytest.approx(position_ms / 1e3)
    assert_same_end(follower, busy)


def test_a_budget_bounds_what_comes_and_the_clock_waits(busy: Stream) -> None:
    feed, clock = played(busy)
    feed.poll(1)
    clock.now_s += 1e6
    given = feed.poll(50)
    assert 50 <= sum(len(chunk.rows) for chunk in given) < 100
    assert feed.playback().position_s < feed.playback().last_s
    last_ms = float(given[-1].rows["time_ms"][-1])
    assert feed.playback().position_s == pytest.approx(last_ms / 1e3)


def test_pause_and_go_on(busy: Stream) -> None:
    feed, clock = played(busy)
    feed.poll(1 << 20)
    clock.now_s += 2
    feed.poll(1 << 20)
    feed.pause()
    at_s = feed.playback().position_s
    clock.now_s += 50
    assert feed.poll(1 << 20) == []
    assert feed.playback().position_s == pytest.approx(at_s)
    assert feed.playback().paused
    feed.pause(False)
    clock.now_s += 1
    assert feed.poll(1 << 20)
    assert feed.playback().position_s == pytest.approx(at_s + 1)


def test_one_step_at_a_time(busy: Stream) -> None:
    feed, _ = played(busy)
    feed.pause()
    follower = Follower(feed)
    rows = busy.rows()
    all_steps = int(rows["count"][rows["event"] == schema.STEP].sum())
    for number in range(1, all_steps + 1):
        feed.step()
        follower.poll()
        assert follower.tally.now.step == follower.tally.sums.steps == number
    feed.pause(False)
    feed.set_speed(0)
    follower.poll()
    assert_same_end(follower, busy)


def test_several_steps_at_once(busy: Stream) -> None:
    feed, _ = played(busy)
    follower = Follower(feed)
    for _ in range(7):
        feed.step()
    follower.poll()
    assert follower.tally.now.step == 7
    assert follower.poll() == 0


@pytest.mark.parametrize("share", [0.0, 0.3, 0.77, 1.0, 9.0, -1.0])
def test_seeking_leads_to_the_moment(busy: Stream, share: float) -> None:
    feed, _ = played(busy)
    feed.pause()
    follower = Follower(feed)
    follower.poll()
    last_s = feed.playback().last_s
    feed.seek(share * last_s)
    follower.poll(100)
    while follower.poll(100):
        pass
    target_s = min(max(share, 0.0), 1.0) * last_s
    assert feed.playback().position_s == pytest.approx(target_s)
    slow = PoolState(busy.header)
    for chunk in busy.raw:
        late = chunk.rows["time_ms"] > target_s * 1e3
        stop = int(late.argmax()) if late.any() else len(chunk.rows)
        slow.advance(chunk.copy(), stop)
        if late.any():
            break
    assert (follower.state.blocks.key == slow.blocks.key).all()
    assert (follower.state.blocks.ref_count == slow.blocks.ref_count).all()
    assert follower.poll() == 0


def test_seeking_back_begins_anew(busy: Stream) -> None:
    feed, _ = played(busy, 0.0)
    follower = Follower(feed)
    follower.poll()
    assert follower.generation == 0
    feed.seek(1.0)
    follower.poll()
    assert follower.generation == 1
    assert follower.tally.sums.time_ms <= 1000 + 200
    # As fast as it goes, it would be at the end again: so it stands still.
    assert feed.playback().paused
    assert feed.playback().position_s == pytest.approx(1.0)


def test_seeking_before_the_first_look(busy: Stream) -> None:
    feed, _ = played(busy)
    feed.seek(1e9)
    follower = Follower(feed)
    while follower.poll():
        pass
    assert feed.health().state == "ended"
    assert_same_end(follower, busy)


ACTIONS = st.one_of(
    st.tuples(st.just("wait"), st.floats(0, 0.2)),
    st.tuples(st.just("pause"), st.booleans()),
    st.tuples(st.just("step"), st.none()),
    st.tuples(st.just("seek"), st.floats(-0.1, 0.8)),
    st.tuples(st.just("speed"), st.sampled_from([0.0, 0.25, 1.0, 8.0])),
    st.tuples(st.just("poll"), st.sampled_from([1, 5, 1000])),
)


@given(streams(), st.lists(ACTIONS, max_size=25))
@settings(max_examples=60)
def test_nothing_is_lost_however_it_is_steered(
    stream: Stream, actions: list[tuple[str, float | bool | None]]
) -> None:
    feed, clock = played(stream)
    follower = Follower(feed)
    for name, value in actions:
        if name == "wait":
            clock.now_s += float(value or 0)
        elif name == "pause":
            feed.pause(bool(value))
        elif name == "step":
            feed.step()
        elif name == "seek":
            feed.seek(float(value or 0))
        elif name == "speed":
            feed.set_speed(float(value or 0))
        else:
            follower.poll(int(value or 1))
        playback = feed.playback()
        assert playback.first_s <= playback.position_s <= playback.last_s
        follower.state.check()
    feed.pause(False)
    feed.set_speed(0)
    while feed.health().state == "playing":
        feed.pause(False)
        follower.poll()
    assert_same_end(follower, stream)


def test_an_empty_recording_is_over_at_once() -> None:
    stream = busy_stream(2)
    nothing = Stream(stream.header, (), stream.replay)
    feed, _ = played(nothing)
    assert feed.poll(10) == []
    assert feed.health().state == "ended"
    feed.seek(5)
    feed.step()
    assert feed.poll(10) == []
    assert feed.playback().last_s == 0


def test_a_part_of_a_recording_says_so() -> None:
    feed = FileFeed(InMemory(busy_stream(3), "the recording is cut off"), 0.0)
    feed.poll(1 << 20)
    assert feed.health().state == "cut off"
    assert feed.health().partial == "the recording is cut off"


@pytest.mark.parametrize("speed", [-1.0, math.inf, math.nan])
def test_no_such_speed(speed: float) -> None:
    feed, _ = played(busy_stream(2))
    with pytest.raises(ValueError, match="speed"):
        feed.set_speed(speed)


def test_parts_stand_on_their_own(busy: Stream) -> None:
    """Pieces hold the ids that their rows list and no others."""
    feed, _ = played(busy)
    feed.pause()
    pieces: list[Chunk] = []
    for _ in range(60):
        feed.step()
        pieces += feed.poll(1 << 20)
    for piece in pieces:
        listed = piece.rows["count"][piece.rows["blocks_at"] >= 0].sum()
        assert len(piece.ids) == listed
