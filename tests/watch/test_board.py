"""The board: its moments agree with the analysers, and survive what a stream can do to them."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from played import InMemory, busy_stream, played
from streams import Stream, streams

from kvatlas.errors import InputError
from kvatlas.events import Chunk, FragmentationSnapshot, schema, snapshot_of
from kvatlas.events.state import PoolState
from kvatlas.measure import RunMeasurement
from kvatlas.watch.board import Board
from kvatlas.watch.moment import Moment
from kvatlas.watch.playing import FileFeed


@pytest.fixture(scope="module")
def busy() -> Stream:
    return busy_stream()


def at_the_end(stream: Stream) -> Board:
    board = Board(played(stream, 0.0)[0])
    while board.advance():
        pass
    return board


def snapshot(stream: Stream) -> FragmentationSnapshot:
    state = PoolState(stream.header)
    for chunk in stream.raw:
        state.advance(chunk.copy())
    return snapshot_of(state)


@given(streams() | streams(hybrid=True))
@settings(max_examples=12)
def test_a_moment_has_the_figures_of_the_analysers(stream: Stream) -> None:
    moment = at_the_end(stream).moment(figures=True)
    measured = RunMeasurement(stream.header)
    for chunk in stream.resolved():
        measured.feed(chunk)
    sheet = measured.figures()
    assert moment.figures == sheet.values
    assert sheet.unavailable.keys() <= moment.unavailable.keys()
    expected = {
        "prefix.token_hit_rate": moment.prefix.token_hit_rate,
        "preemption.count": moment.requests.preemptions,
        "prefix.evicted_blocks": moment.evictions.total,
        "prefix.evicted_premature_blocks": moment.evictions.premature,
        "prefix.evicted_never_asked_blocks": moment.evictions.never_asked,
        "allocation.failed_admission": moment.failures.admission,
        "allocation.failed_prefill": moment.failures.prefill,
        "allocation.failed_decode": moment.failures.decode,
        "allocation.blocks": sum(group.allocated_blocks for group in moment.groups),
    }
    if stream.header.slot_groups == 1:
        expected["waste.internal_time_weighted"] = moment.waste.internal_time_weighted
    for name, value in expected.items():
        if not stream.header.caching and name == "prefix.evicted_blocks":
            assert value == 0
        elif sheet.values[name] is None:
            assert value is None
        else:
            assert value == pytest.approx(sheet.values[name])


def test_every_none_has_a_reason(busy: Stream) -> None:
    """A moment at the beginning lacks much; the end of a run whose pool is empty lacks less."""
    board = Board(played(busy, 0.0)[0])
    for moment in (board.moment(), at_the_end(busy).moment()):
        for part in ("pool", "waste", "prefix", "evictions"):
            for name, value in msgspec.to_builtins(getattr(moment, part)).items():
                if value is None:
                    assert moment.unavailable[f"{part}.{name}"]


def test_a_moment_is_json(busy: Stream) -> None:
    moment = at_the_end(busy).moment(50, figures=True)
    assert msgspec.json.decode(msgspec.json.encode(moment), type=Moment) == moment


def test_the_map_is_the_pool(busy: Stream) -> None:
    feed, _ = played(busy)
    feed.pause()
    feed.seek(2.0)
    board = Board(feed)
    while board.advance():
        pass
    moment = board.moment(busy.header.num_blocks)
    cells = moment.cells
    assert cells is not None
    assert (cells.first, cells.stop, cells.per_cell) == (0, busy.header.num_blocks, 1)
    assert cells.codes[0] == "x"
    assert cells.codes.count("#") == moment.pool.used_blocks > 0
    assert cells.codes.count("=") == moment.pool.evictable_blocks
    assert cells.codes.count(".") == moment.pool.empty_blocks
    owners = np.array(cells.owners)
    assert ((owners >= 0) == (np.array(list(cells.codes)) == "#")).all()
    # Shared blocks belong to one of their owners: nobody has more cells than blocks.
    for request in moment.top:
        assert (owners == request.row).sum() <= request.blocks
    coarse = board.moment(20, blocks=(100, 200)).cells
    assert coarse is not None
    assert (coarse.first, coarse.stop, coarse.per_cell) == (100, 200, 5)
    assert len(coarse.codes) == len(coarse.owners) == 20
    for at, code in enumerate(coarse.codes):
        part = cells.codes[100 + 5 * at : 105 + 5 * at]
        if code in "#=.":
            assert set(part) == {code}
        elif code == ":":
            assert set(part) == {"=", "."}
        else:
            assert "#" in part
            assert int(code) == part.count("#") * 2


def test_top_requests_are_those_that_hold_most(busy: Stream) -> None:
    feed, _ = played(busy)
    feed.pause()
    feed.seek(2.0)
    board = Board(feed)
    while board.advance():
        pass
    moment = board.moment()
    assert 1 < len(moment.top) <= 20
    running = [request for request in moment.top if request.state == "running"]
    assert [request.blocks for request in running] == sorted(
        (request.blocks for request in running), reverse=True
    )
    assert len(running) == moment.requests.running
    for request in running:
        assert request.name == f"chat-{request.row}"
        assert request.tokens == busy.replay.workload.prompt_tokens[request.row]
        assert 0 < request.runs <= request.blocks
        assert request.computed_tokens <= request.blocks * 16
        rows = busy.rows()
        mine = (rows["event"] == schema.ADMITTED) & (rows["request"] == request.row)
        before = mine & (rows["time_ms"] <= 1e3 * moment.time_s)
        admitted_s = rows["time_ms"][before].max() / 1e3
        assert request.since_s == pytest.approx(moment.time_s - admitted_s)
    others = moment.top[len(running) :]
    assert all(request.blocks == 0 for request in others)


def test_slots_that_hold_a_token() -> None:
    """With one request everything computed so far is in its blocks, and nothing else."""
    feed, _ = played(busy_stream(1))
    feed.pause()
    board = Board(feed)
    for step in range(1, 30):
        feed.step()
        while board.advance():
            pass
        moment = board.moment()
        pool, waste = moment.pool, moment.waste
        computed = sum(
            round(rate * (end - start))
            for rate, start, end in zip(
                moment.history.tokens_per_s,
                moment.history.start_s,
                moment.history.end_s,
                strict=True,
            )
            if rate
        )
        assert moment.step == step
        assert pool.live_slots == computed > 0
        assert pool.held_slots == 16 * pool.used_blocks
        assert pool.total_slots == 16 * 259
        assert waste.wasted_slots == pool.held_slots - computed
        assert waste.internal == pytest.approx(waste.wasted_slots / pool.held_slots)
        assert pool.slot_usage == pytest.approx(computed / pool.total_slots)


def test_free_runs_now(busy: Stream) -> None:
    moment = at_the_end(busy).moment()
    last = snapshot(busy)
    free = int((last.ref_count[1:] == 0).sum())
    assert moment.free_runs.blocks == moment.pool.free_blocks == free == 259
    assert moment.free_runs.largest == 259
    assert moment.free_runs.efi == 0
    empty = int(((last.ref_count == 0) & (last.key < 0))[1:].sum())
    assert moment.empty_runs.blocks == moment.pool.empty_blocks == empty


def test_a_damaged_stream_stops_and_says_why(busy: Stream) -> None:
    chunks = [chunk.copy() for chunk in busy.raw]
    rows = np.concatenate([chunk.rows for chunk in chunks])
    assert len(chunks) == 1 and len(rows) > 2000
    chunks[0].rows["request"][2000] = 1 << 20
    feed = FileFeed(InMemory(Stream(busy.header, tuple(chunks), busy.replay)), 0.0)
    board = Board(feed)
    while board.advance(100):
        pass
    moment = board.moment(100)
    assert "2000" in moment.health.fault
    assert moment.alerts[0].name == "unreadable"
    assert 1000 < moment.events <= 2000
    assert board.advance() == 0
    # Going back begins anew, up to the same place.
    feed.seek(0.5)
    assert board.advance() > 0
    assert board.moment().health.fault == ""


class Growing(FileFeed):
    """A feed that finds that it needs more room, as one of a live recording does."""

    polls = 0

    def poll(self, budget_events: int) -> list[Chunk]:
        self.polls += 1
        if self.polls == 3:
            self.seek(0)
            self.pause(False)
            self.set_speed(0)
            return []
        return super().poll(budget_events)


def test_more_room_begins_anew_and_loses_nothing(busy: Stream) -> None:
    feed = Growing(InMemory(busy), 0.0)
    board = Board(feed)
    assert board.advance(100) and board.advance(100)
    assert board.moment().events >= 200
    assert board.advance(100) == 0
    assert board.moment().events == 0
    assert board.moment().generation == 1
    while board.advance():
        pass
    expected = at_the_end(busy).moment(99)
    assert msgspec.structs.replace(board.moment(99), generation=0) == msgspec.structs.replace(
        expected, playback=board.moment().playback, alerts=board.moment().alerts
    )


def test_a_header_that_is_wrong_is_an_input_error(busy: Stream) -> None:
    with pytest.raises(InputError, match="no such recording"):
        from kvatlas.watch.watches import open_watch

        open_watch("/nowhere/run.parquet")
