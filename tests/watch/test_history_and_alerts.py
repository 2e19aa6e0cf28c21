"""The last minute, the course, and what is worth an alert."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from played import busy_stream, played
from streams import Stream, streams

from kvatlas.measure.course import Course
from kvatlas.watch._tally_state_kernel import SUMS
from kvatlas.watch.alerts import AlertBook, Evidence
from kvatlas.watch.board import Board
from kvatlas.watch.history import Window, history_of, window_of
from kvatlas.watch.moment import Health
from kvatlas.watch.tally import LiveTally


def sums(*rows: dict[str, float]) -> np.ndarray:
    """Return samples with these columns, others 0."""
    samples = np.zeros(len(rows), SUMS)
    for at, row in enumerate(rows):
        for name, value in row.items():
            samples[name][at] = value
    return samples


def test_a_window_is_what_grew_in_it() -> None:
    samples = sums(
        {"time_ms": 1000}, {"time_ms": 61_000, "tokens": 600}, {"time_ms": 81_000, "tokens": 2600}
    )
    window = window_of(samples, 81_000, 30)
    assert window.span_s == 30
    assert window["tokens"] == pytest.approx(100 + 2000)
    assert window.per_s(window["tokens"]) == pytest.approx(70)
    # Nothing happened since: the window goes on, what grew in it does not.
    later = window_of(samples, 91_000, 30)
    assert later["tokens"] == pytest.approx(2000)
    # A recording that is shorter than the window.
    assert window_of(samples, 81_000, 300).span_s == 80
    assert window_of(samples[:1], 1000, 60).per_s(0) is None
    assert window_of(samples, 81_000, 30).ratio("hits", "queries") is None


@given(streams(), st.sampled_from([9, 50, 600]))
@settings(max_examples=30)
def test_the_course_adds_up(stream: Stream, most: int) -> None:
    tally, course = LiveTally(stream.header, most_samples=most), Course(stream.header)
    for chunk in stream.resolved():
        tally.feed(chunk)
        course.feed(chunk)
    history = history_of(tally.samples(), stream.header.usable_blocks)
    assert history.start_s[1:] == history.end_s[:-1]
    spans = np.array(history.end_s) - np.array(history.start_s)
    assert (spans > 0).all()
    counts = course.result().sums
    for name in ("preemptions", "failures", "evictions"):
        assert sum(getattr(history, name)) == counts[name][-1]
    tokens = sum(
        rate * span for rate, span in zip(history.tokens_per_s, spans, strict=True) if rate
    )
    assert tokens == pytest.approx(counts["tokens"][-1], rel=1e-5)
    for column in (history.usage, history.evictable, history.waste, history.hit_rate):
        assert all(value is None or 0 <= value <= 1 for value in column)


def evidence(**fields: object) -> Evidence:
    """Return a quiet minute with something in it."""
    quiet = Window(sums({"time_ms": 0}, {"time_ms": 60_000}), 0, 60_000)
    seen = Evidence(
        now_s=60.0,
        minute=quiet,
        recent=quiet,
        before=quiet,
        usage=0.5,
        total_blocks=100,
        running=1,
        waiting=0,
        health=Health(state="live", age_s=0.1),
    )
    return seen._replace(**fields)  # type: ignore[arg-type]


def minute(**grown: float) -> Window:
    """Return a minute in which these sums grew."""
    return Window(sums({"time_ms": 0}, {"time_ms": 60_000, **grown}), 0, 60_000)


def full(share: float) -> Window:
    """Return a minute with so much of 100 blocks in use."""
    return minute(used_ms=share * 100 * 60_000)


BAD_MOMENTS = {
    "preemption storm": evidence(minute=minute(preemptions=6, admitted=20)),
    "pool full": evidence(usage=0.99, recent=full(0.985), waiting=3),
    "waste high": evidence(minute=minute(wasted_ms=30, held_ms=100)),
    "hit rate fell": evidence(
        minute=minute(hits=2_000, queries=20_000), before=minute(hits=60_000, queries=100_000)
    ),
    "recording incomplete": evidence(health=Health(state="live", lost_events=5)),
    "recorder errors": evidence(health=Health(state="live", errors=1, last_error="boom")),
    "stalled": evidence(health=Health(state="quiet", age_s=30.0)),
    "cut off": evidence(health=Health(state="cut off")),
    "unreadable": evidence(health=Health(fault="event 3 has an unknown event")),
    "behind": evidence(health=Health(state="live", lag_events=10**6)),
}

STARVED = evidence(usage=0.7, waiting=9, recent=minute(failed_admission=50, steps=90))

GOOD_MOMENTS = (
    evidence(),
    # Four preemptions, or six of a hundred, are no storm.
    evidence(minute=minute(preemptions=4, admitted=4)),
    evidence(minute=minute(preemptions=6, admitted=100)),
    # A pool that is full for a moment; one that was, and is not any more.
    evidence(usage=0.99, recent=full(0.9)),
    evidence(usage=0.5, recent=full(0.99)),
    # Waste in a pool that is nearly empty.
    evidence(minute=minute(wasted_ms=90, held_ms=100), usage=0.05),
    # A fall that few tokens vouch for; a small one; a cache that is not off its usual rate.
    evidence(minute=minute(queries=900), before=minute(hits=9e4, queries=1e5)),
    evidence(minute=minute(hits=8_000, queries=2e4), before=minute(hits=5e4, queries=1e5)),
    # More than 15 points, but not to below 60% of what it was.
    evidence(minute=minute(hits=15_000, queries=2e4), before=minute(hits=95_000, queries=1e5)),
    # Nobody is there to be stalled; an engine that ended waits for nothing.
    evidence(running=0, health=Health(state="quiet", age_s=900.0)),
    evidence(health=Health(state="ended")),
)


@pytest.mark.parametrize("name", BAD_MOMENTS)
def test_what_is_worth_an_alert(name: str) -> None:
    alerts = AlertBook().judge(BAD_MOMENTS[name])
    assert [alert.name for alert in alerts] == [name]
    assert alerts[0].text
    assert "\n" not in alerts[0].text


@pytest.mark.parametrize("seen", GOOD_MOMENTS)
def test_what_is_not(seen: Evidence) -> None:
    assert AlertBook().judge(seen) == []


def test_requests_that_do_not_fit_make_a_pool_full_too() -> None:
    assert [(a.level, a.name) for a in AlertBook().judge(STARVED)] == [("bad", "pool full")]
    assert AlertBook().judge(STARVED._replace(waiting=0)) == []
    only_full = evidence(usage=0.99, recent=full(0.985))
    assert [(a.level, a.name) for a in AlertBook().judge(only_full)] == [("warn", "pool full")]


def test_worst_first_and_since_when() -> None:
    book = AlertBook()
    behind = Health(state="live", lag_events=10**6)
    assert [a.since_s for a in book.judge(evidence(health=behind))] == [60.0]
    both = evidence(now_s=70.0, health=behind, minute=minute(preemptions=9))
    alerts = book.judge(both)
    assert [(a.level, a.since_s) for a in alerts] == [("bad", 70.0), ("info", 60.0)]
    # Over and back again counts from the new beginning.
    assert book.judge(evidence(now_s=80.0)) == []
    assert [a.since_s for a in book.judge(evidence(now_s=90.0, health=behind))] == [90.0]


def test_a_busy_replay_raises_what_it_should() -> None:
    """Conversations on far too small a pool: a storm, and a pool that stays full."""
    feed, clock = played(busy_stream(60, 200))
    board = Board(feed)
    board.advance()
    seen: set[str] = set()
    for _ in range(60):
        clock.now_s += 0.5
        board.advance()
        seen |= {alert.name for alert in board.moment().alerts}
    assert {"preemption storm", "pool full"} <= seen
    assert not seen & {"stalled", "recorder errors", "unreadable", "cut off"}


def test_rates_fall_while_an_engine_is_quiet() -> None:
    stream = busy_stream(10)
    board = Board(played(stream, 0.0)[0])
    while board.advance():
        pass
    busy = board.moment()
    assert busy.rates.tokens_per_s and busy.rates.window_s <= 10

    class Quiet:
        """The same feed, whose last event is a minute old."""

        def __getattr__(self, name: str) -> object:
            return getattr(board_feed, name)

        def health(self) -> Health:
            return Health(state="quiet", age_s=60.0)

    board_feed = board.feed
    board.feed = Quiet()  # type: ignore[assignment]
    quiet = board.moment()
    assert quiet.rates.tokens_per_s == 0
    assert quiet.prefix.queries_60s <= busy.prefix.queries_60s
    assert quiet.time_s == pytest.approx(busy.time_s + 60)
    assert msgspec.json.encode(quiet)
