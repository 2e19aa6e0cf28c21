"""A moment in characters: it fits, it can be read without colour, and names cannot break it."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import msgspec
import pytest
from live_folder import RecordingEngine
from played import busy_stream, played
from rich.text import Text

from kvatlas.watch.board import Board
from kvatlas.watch.following import LiveFeed
from kvatlas.watch.moment import Alert, Health, Moment, State
from kvatlas.watch.top.areas import By, Look, View, areas_of
from kvatlas.watch.top.drawing import cells_wanted, draw, draw_waiting

SIZES = ((80, 24), (120, 40), (60, 16), (40, 12), (20, 6), (8, 3), (1, 1), (300, 90))
EVIL = "\x1b[2J\r\n\u202eevil\x00" + "長" * 30
change: Any = msgspec.structs.replace


@pytest.fixture(scope="module")
def board() -> Board:
    """Return a board in the middle of a busy run."""
    feed, _ = played(busy_stream())
    feed.pause()
    feed.seek(2.0)
    board = Board(feed)
    while board.advance():
        pass
    return board


def shown(board: Board, look: Look, width: int = 80, height: int = 24) -> list[str]:
    moment = board.moment(cells_wanted(look, width, height))
    return [line.plain for line in draw(moment, look, width, height)]


def of(moment: Moment, look: Look | None = None, width: int = 80, height: int = 24) -> str:
    return "\n".join(line.plain for line in draw(moment, look or Look(), width, height))


def assert_fits(lines: list[Text], width: int, height: int) -> None:
    assert len(lines) == height
    for line in lines:
        assert "\n" not in line.plain
        assert line.cell_len <= width


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_it_fits_whatever_is_shown(board: Board, width: int, height: int) -> None:
    for view, playable, tabs, (by, ascii_only) in product(
        get_args(View),
        (False, True),
        ((), ("a", EVIL, "b" * 200)),
        zip(get_args(By), (False, True), strict=True),
    ):
        look = Look(view, by, ascii_only, tabs, min(1, len(tabs)), playable)
        moment = board.moment(cells_wanted(look, width, height))
        lines = draw(moment, look, width, height)
        assert_fits(lines, width, height)
        if ascii_only:
            assert all(line.plain.isascii() for line in lines)
        assert_fits(draw_waiting(look, width, height, server=playable), width, height)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_areas_are_used_up(width: int, height: int) -> None:
    for view, playable in product(get_args(View), (False, True)):
        areas = areas_of(Look(view, playable=playable), width, height)
        numbers = (areas.meters, areas.alerts, areas.map_rows, areas.requests, areas.body)
        assert min(numbers) >= 0
        assert 1 + playable + areas.meters + areas.alerts + areas.body + 1 <= max(height, 3)
        assert areas.map_rows + areas.requests <= areas.body


def test_at_80_by_24_all_that_matters_is_there(board: Board) -> None:
    look = Look(playable=True)
    storm = Alert("bad", "preemption storm", "9 preemptions in 60 s", 0.0)
    moment = change(board.moment(cells_wanted(look, 80, 24)), alerts=[storm])
    lines = of(moment, look).splitlines()
    assert "kvatlas top" in lines[0] and "vLLM 0.32" in lines[0]
    assert f"step {moment.step:,}" in lines[0]
    assert lines[1].startswith("‖ 1x")
    labels = [line.split()[0] for line in lines[2:8]]
    assert labels == ["Pool", "Slots", "Hit", "Tokens/s", "Preempted", "Evicted"]
    assert f"{moment.requests.running:,} running" in lines[8]
    assert any("!! preemption storm" in line for line in lines[9:11])
    assert any("Block map" in line for line in lines)
    assert sum("running" in line for line in lines) >= 4
    assert "quit" in lines[-1] and "help" in lines[-1]


def test_nothing_is_said_by_colour_alone(board: Board) -> None:
    """Bars, cells, states, the selected tab and alerts differ as characters."""
    text = "\n".join(shown(board, Look(tabs=("first", "second"), selected=1, playable=True)))
    assert "[2 second]" in text and " 1 first " in text
    assert "█" in text and "▒" in text
    plain = "\n".join(shown(board, Look(ascii_only=True, playable=True)))
    assert "||1x" in plain and "#" in plain and "=" in plain


def test_the_map_of_owners_has_their_letters(board: Board) -> None:
    lines = shown(board, Look(view="map", by="owner"), 120, 60)
    moment = board.moment()
    cells = board.moment(1 << 20).cells
    assert cells is not None
    start = next(at for at, line in enumerate(lines) if line.startswith("Block map")) + 1
    shown_cells = "".join(line[10:] for line in lines[start:-1])
    for letter, request in zip("ABCDEFGH", moment.top, strict=False):
        if request.blocks:
            assert shown_cells.count(letter) == cells.owners.count(request.row)


def test_names_cannot_move_the_cursor(board: Board) -> None:
    moment = board.moment(100)
    evil = change(
        moment,
        engine=EVIL,
        version=EVIL,
        top=[change(request, name=EVIL) for request in moment.top],
        alerts=[Alert("bad", "unreadable", EVIL, 0.0)],
        health=Health(state="live", fault=EVIL, last_error=EVIL, partial=EVIL, age_s=0.1),
        memory=[{"t_ms": 1.0, "torch_reason": EVIL, "nvml": [{"used_bytes": 5, EVIL: 3}]}],
    )
    for view in get_args(View):
        look = Look(view, tabs=(EVIL, "x"), note=EVIL)
        for lines in (draw(evil, look, 100, 40), draw_waiting(look, 100, 40, server=True)):
            assert_fits(lines, 100, 40)
            assert all(line.plain.isprintable() for line in lines)


def test_of_a_long_name_both_ends_are_shown(board: Board) -> None:
    moment = board.moment()
    longer = [change(moment.top[0], name="cmpl-0123456789abcdef0123-7-8e38f18c")]
    rows = [line for line in of(change(moment, top=longer)).splitlines() if "running  " in line]
    assert rows[-1].startswith("A cmp…") and "38f18c running" in rows[-1]
    assert "cmpl-0123456789abcdef0123-7-8e38f18c" in of(change(moment, top=longer), width=120)


def test_before_the_first_event() -> None:
    feed, _ = played(busy_stream(3))
    moment = Board(feed).moment(100)
    text = of(moment)
    assert "? so far; ? in 60 s" in text
    assert "nobody holds blocks or waits" in text
    for view in get_args(View):
        assert_fits(draw(moment, Look(view), 80, 24), 80, 24)


@pytest.mark.parametrize("state", get_args(State))
def test_the_state_is_in_the_title_whatever_the_name(board: Board, state: State) -> None:
    moment = change(board.moment(), health=Health(state=state), engine="e" * 300)
    title = draw(moment, Look(), 80, 24)[0].plain
    assert (state.upper() if state == "cut off" else state) in title
    assert "step" in title


def test_details_have_all_groups_causes_and_alerts(board: Board) -> None:
    moment = board.moment()
    many = change(
        moment,
        groups=[change(moment.groups[0], group=at, window=1024) for at in range(3)],
        alerts=[Alert("warn", f"alert {at}", "text", 0.0) for at in range(5)],
        health=Health(state="live", lost_events=7, bytes_on_disk=3 << 20, bytes_bound=64 << 20),
        memory=[
            {"rss_bytes": 2 << 30, "gc": {"pauses": 3, "pause_ms_max": 1.25}, "nvml_reason": "none"}
        ],
    )
    text = of(many, Look("details"), 120, 50)
    for said in (
        "Group 2", "window 1,024", "alert 4", "for prefill", "at admission", "EFI",
        "7 lost", "3.0 MiB of 64", "2,048 MiB resident", "3 collections", "longest pause 1.2",
        "NVML      none",
    ):  # fmt: skip
        assert said in text
    overview = of(many)
    assert "alert 0" in overview and "+3 more (d)" in overview


def test_what_is_not_known_is_not_zero(board: Board) -> None:
    moment = board.moment()
    pool = change(moment.pool, total_slots=None, live_slots=None, slot_usage=None)
    lacking = change(moment, pool=pool, waste=change(moment.waste, internal=None))
    assert "Slots     ?" in of(lacking)
    assert "blocks of several sizes" in of(lacking)
    assert "prefix caching is off" in of(change(moment, caching=False))


def test_a_live_engine_has_the_time_of_day(tmp_path: Any) -> None:
    engine = RecordingEngine(tmp_path)
    engine.commit(1.0)
    board = Board(LiveFeed(engine.folder))
    while board.advance():
        pass
    title = of(board.moment()).splitlines()[0]
    assert f"engine 0, pid {engine.pid}" in title
    assert title.split("step")[0].rstrip()[-8:].count(":") == 2
