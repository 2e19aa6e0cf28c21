"""What a live view counts, against the analysers, the pool's state, and plain loops over rows."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import Stream, streams
from toy_streams import RandomPool, Story, toy_header

from kvatlas.events import CAUSES, EVENTS, Chunk, Header, PoolState, schema
from kvatlas.measure.temporal import TemporalUse
from kvatlas.watch._tally_state_kernel import GONE, PREEMPTED, RUNNING, SUMS, WAITING
from kvatlas.watch.cutting import cut, whole_stop
from kvatlas.watch.tally import LiveTally

_EVENT = list(EVENTS)


def in_pieces(stream: Stream, rows: int) -> list[Chunk]:
    """Return raw chunks of at least so many rows."""
    pieces = []
    for chunk in stream.raw:
        start = 0
        while start < len(chunk.rows):
            stop = whole_stop(chunk.rows, min(start + rows, len(chunk.rows)))
            pieces.append(cut(chunk, start, stop))
            start = stop
    return pieces


def fed(header: Header, pieces: list[Chunk], **options: int) -> tuple[LiveTally, PoolState]:
    tally, state = LiveTally(header, **options), PoolState(header)
    for piece in pieces:
        for part in state.resolver.pieces(piece.copy()):
            state.apply(part)
            tally.feed(part)
    return tally, state


@given(streams() | streams(hybrid=True), st.sampled_from([1, 7, 1 << 20]))
@settings(max_examples=30)
def test_occupancy_is_the_pools_after_every_piece(stream: Stream, rows: int) -> None:
    tally, state = LiveTally(stream.header), PoolState(stream.header)
    for piece in in_pieces(stream, rows):
        for part in state.resolver.pieces(piece):
            state.apply(part)
            tally.feed(part)
        assert tally.now.used == state.blocks.counts.used
        assert tally.now.evictable == state.blocks.counts.evictable
        tables = state.resolver.tables
        for group, spec in enumerate(stream.header.groups):
            cells = [
                tables.cells[slot, group, : tables.lengths[slot, group]]
                for slot in np.flatnonzero(tables.request_of >= 0)
            ]
            held = np.unique(np.concatenate([*cells, np.empty(0, np.int32)]))
            assert tally.groups["used"][group] == (held >= 0).sum()
            assert tally.groups["slots"][group] == spec.block_size
    assert tally.groups["evictable"].sum() == tally.now.evictable
    assert tally.now.used == 0
    assert tally.now.running == tally.now.waiting == 0


@given(streams() | streams(hybrid=True))
@settings(max_examples=20)
def test_integrals_are_those_of_the_analyser(stream: Stream) -> None:
    tally, _ = fed(stream.header, in_pieces(stream, 50))
    use = TemporalUse(stream.header)
    for chunk in stream.resolved():
        use.feed(chunk)
    slow = use.result()
    assert tally.sums.used_ms == pytest.approx(slow.owned_block_ms)
    assert tally.sums.evictable_ms == pytest.approx(slow.evictable_block_ms)
    assert tally.sums.held_ms == pytest.approx(slow.owned_slot_ms)
    assert tally.sums.wasted_ms == pytest.approx(slow.internal_slot_ms, abs=1e-6)


@given(streams())
@settings(max_examples=20)
def test_counts_are_those_of_the_rows(stream: Stream) -> None:
    tally, _ = fed(stream.header, list(stream.raw))
    rows = stream.rows()
    happened: Counter[tuple[str, str]] = Counter()
    for row in rows:
        name, cause = _EVENT[row["event"]], CAUSES[row["cause"]] if row["cause"] >= 0 else ""
        counts = name in ("allocated", "evicted", "allocation_failed", "step", "cached", "touched")
        happened[name, cause] += int(row["count"]) if counts else 1
    sums, told = tally.sums, happened
    assert sums.arrived == told["arrived", ""] == stream.replay.workload.num_requests
    assert (sums.admitted, sums.resumed) == (told["admitted", "new"], told["admitted", "resumed"])
    assert sums.preemptions == told["preempted", ""]
    assert sums.finished == sum(n for (name, _), n in told.items() if name == "finished")
    assert sums.set_aside == told["finished", "set_aside"]
    assert sums.steps == told["step", ""]
    for cause in ("admission", "prefill", "decode"):
        assert sums[f"failed_{cause}"] == told["allocation_failed", cause]
    evicted = told["evicted", "allocation"]
    assert sums.evicted_prefill + sums.evicted_decode == evicted == tally.groups["evicted"].sum()
    steps = rows[rows["event"] == schema.STEP]
    assert sums.tokens == int((steps["tokens"] * steps["count"]).sum())
    new = rows[(rows["event"] == schema.LOOKED_UP) & (rows["cause"] == schema.BY_NEW)]
    known = new[new["computed_tokens"] >= 0]
    assert sums.queries == int(known["tokens"].sum())
    assert sums.hits == int(known["computed_tokens"].sum())
    assert (
        tally.groups["allocated"][0] == told["allocated", "prefill"] + told["allocated", "decode"]
    )


@given(streams(timed=True))
@settings(max_examples=20)
def test_the_roster_agrees_with_the_steps(stream: Stream) -> None:
    tally, state = LiveTally(stream.header), PoolState(stream.header)
    for piece in in_pieces(stream, 1):
        for part in state.resolver.pieces(piece):
            state.apply(part)
            tally.feed(part)
            states = tally.requests["state"]
            assert tally.now.running == (states == RUNNING).sum()
            waiting = (states == WAITING) | (states == PREEMPTED)
            assert tally.now.waiting == waiting.sum()
            tables = state.resolver.tables
            holding = set(tables.request_of[tables.request_of >= 0].tolist())
            assert holding >= set(np.flatnonzero(states == RUNNING).tolist())
            listed = tally.longest_waiting(1 << 20)
            assert sorted(listed) == np.flatnonzero(waiting).tolist()
            since = tally.requests["since_ms"][listed]
            assert (np.diff(since) >= 0).all()
    assert (tally.requests["state"] == GONE).all()


@given(st.integers(0, 10_000), st.integers(8, 40), st.integers(1, 80))
@settings(max_examples=60)
def test_moves_resets_and_evictions_at_any_moment(seed: int, blocks: int, steps: int) -> None:
    pool = RandomPool(seed, blocks=blocks, steps=steps)
    chunk = pool.story.chunk()
    tally = LiveTally(pool.header())
    tally.feed(chunk)
    states = list(zip(pool.refs, pool.key, strict=True))
    assert tally.now.used == sum(refs > 0 for refs, _ in states)
    assert tally.now.evictable == sum(refs == 0 and key is not None for refs, key in states)
    evicted = chunk.rows["count"][chunk.rows["event"] == schema.EVICTED].sum()
    # Those of an allocation that is not there yet are kept apart.
    assert evicted == tally.now.evicted + sum(
        int(tally.sums[f"evicted_{name}"]) for name in ("prefill", "decode", "explicit", "replaced")
    )
    assert tally.sums.resets == (chunk.rows["event"] == schema.RESET).sum()


@given(streams(), st.sampled_from([8, 9, 64]))
@settings(max_examples=20)
def test_samples_rise_whatever_is_thinned(stream: Stream, most: int) -> None:
    tally, _ = fed(stream.header, in_pieces(stream, 20), most_samples=most)
    samples = tally.samples()
    assert 1 <= len(samples) <= most + 1
    for before, after in pairwise(samples):
        for name in SUMS.names or ():
            assert after[name] >= before[name] - 1e-9
        assert after["time_ms"] > before["time_ms"]
    assert samples[-1]["tokens"] == tally.sums.tokens
    # A second between two of them, but for the last, which is now.
    assert (np.diff(samples["time_ms"])[:-1] >= 1000).all()


@pytest.mark.parametrize("most", [64, 600])
def test_older_samples_lie_farther_apart(most: int) -> None:
    story = Story()
    for second in range(5000):
        story.at(1000.0 * second)
        story.tell(schema.STEP, step=second + 1, count=1, tokens=7, running=1, waiting=0,
                   wasted_slots=0, span_ms=1000.0)  # fmt: skip
    tally = LiveTally(toy_header(), most_samples=most)
    tally.feed(story.chunk())
    samples = tally.samples()
    time_s = samples["time_ms"] / 1e3
    spacing_s, age_s = np.diff(time_s), 5000 - time_s[1:]
    assert (time_s[0], time_s[-1]) == (0, 5000)
    assert most / 2 < len(samples) <= most
    assert spacing_s[-most // 8 :].max() == 1
    assert (spacing_s <= 2 + 16 * age_s / most).all()
    assert spacing_s[0] > 1
    # Nothing is lost between them.
    assert (np.diff(samples["tokens"]) == 7 * spacing_s).all()


def wasted(tally: LiveTally) -> int | None:
    return tally.wasted_slots


def test_an_unknown_waste_is_none() -> None:
    story = Story()
    story.arrive(0)
    story.allocate(0, [3, 4])
    tally = LiveTally(toy_header())
    assert wasted(tally) == 0
    tally.feed(story.chunk())
    assert tally.now.used == 2
    assert wasted(tally) is None
    told = Story()
    told.at(10)
    told.tell(schema.STEP, step=1, count=1, tokens=5, running=1, waiting=0, wasted_slots=3,
              span_ms=2.0)  # fmt: skip
    tally.feed(told.chunk())
    assert wasted(tally) == 3
    told = Story()
    told.at(12)
    told.tell(schema.STEP, step=2, count=1, tokens=1, running=1, waiting=0, span_ms=2.0)
    tally.feed(told.chunk())
    assert wasted(tally) is None
