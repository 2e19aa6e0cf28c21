"""`kvatlas top` as an app: keys, sizes, engines that come and go."""

from __future__ import annotations

import asyncio
import html
import re
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from live_folder import RecordingEngine
from played import InMemory, busy_stream
from test_following import gone_pid

from kvatlas.watch.playing import FileFeed
from kvatlas.watch.source import EngineFeed, Watch
from kvatlas.watch.top.pump import Pump, Shown
from kvatlas.watch.watches import open_watch

pytest.importorskip("textual")
from textual.pilot import Pilot

from kvatlas.watch.top.app import TopApp

PATIENCE_S = 240.0  # kernels may have to be compiled, on a busy machine
Drive = Callable[[TopApp, Pilot[None]], Coroutine[Any, Any, None]]


class Engines:
    """A watch whose engines a test chooses."""

    def __init__(self, *feeds: EngineFeed) -> None:
        self.feeds, self.closed = list(feeds), False

    def engines(self) -> list[EngineFeed]:
        return list(self.feeds)

    def waiting_for(self) -> str:
        return "an engine"

    def close(self) -> None:
        self.closed = True


def screen(app: TopApp) -> str:
    """Return what is on the screen, line by line."""
    svg = app.export_screenshot()
    rows: dict[str, list[str]] = {}
    for row, text in re.findall(r'<text [^>]*?y="([\d.]+)"[^>]*>(.*?)</text>', svg):
        rows.setdefault(row, []).append(html.unescape(text).replace("\xa0", " "))
    return "\n".join("".join(parts) for _, parts in sorted(rows.items(), key=lambda r: float(r[0])))


async def until(pilot: Pilot[None], app: TopApp, wanted: str | Callable[[str], bool]) -> str:
    """Wait until the screen says something."""
    end_s = time.monotonic() + PATIENCE_S
    says = wanted if callable(wanted) else lambda text: wanted in text
    while not says(text := screen(app)):
        assert time.monotonic() < end_s, f"{wanted} never came:\n{text}"
        assert app.failed is None, app.failed
        await pilot.pause(0.02)
    return text


def run(watch: Watch, drive: Drive, size: tuple[int, int] = (80, 24), **options: Any) -> TopApp:
    """Run the app without a terminal."""

    async def go() -> TopApp:
        app = TopApp(watch, 0.05, **options)
        async with app.run_test(size=size) as pilot:
            await drive(app, pilot)
        return app

    return asyncio.run(go())


def recording(speed: float = 1.0) -> FileFeed:
    return FileFeed(InMemory(busy_stream()), speed)


def test_views_and_help() -> None:
    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        await until(pilot, app, "Block map")
        await pilot.press("m")
        text = await until(pilot, app, lambda text: "Requests  " not in text)
        assert "Block map" in text
        await pilot.press("r")
        text = await until(pilot, app, lambda text: "Block map" not in text)
        assert "computed" in text
        await pilot.press("d")
        await until(pilot, app, "Free runs")
        await pilot.press("question_mark")
        await until(pilot, app, "the true occupancy")
        await pilot.press("x")
        await until(pilot, app, "Free runs")
        await pilot.press("escape")
        await until(pilot, app, lambda text: "Block map" in text and "computed" in text)
        await pilot.press("b")
        await until(pilot, app, "A-P owners")

    watch = Engines(recording())
    app = run(watch, drive)
    assert watch.closed
    assert app.failed is None


def test_time_moves_as_the_keys_say() -> None:
    feed = recording()

    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        await until(pilot, app, "▶ 1x")
        await pilot.press("space")
        await until(pilot, app, "‖ 1x")
        step = int(re.findall(r"step ([\d,]+)", screen(app))[0].replace(",", ""))
        await pilot.press("full_stop")
        await until(pilot, app, f"step {step + 1:,}")
        await pilot.press("end")
        text = await until(pilot, app, "ended")
        assert "40 finished" in text
        await pilot.press("left")
        await until(pilot, app, "playing")
        last_s = feed.playback().last_s
        assert feed.playback().position_s == pytest.approx(last_s - 10)
        await pilot.press("home", "plus", "plus")
        await until(pilot, app, "‖ 4x")
        await pilot.press("minus")
        await until(pilot, app, "‖ 2x")
        # From the end, the space bar plays it again.
        await pilot.press("end")
        await until(pilot, app, "ended")
        await pilot.press("space")
        await until(pilot, app, "▶ 2x")
        assert feed.playback().position_s < last_s

    run(Engines(feed), drive)


@pytest.mark.parametrize("size", [(120, 40), (40, 10), (20, 5)])
def test_sizes(size: tuple[int, int]) -> None:
    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        await until(pilot, app, "kvatlas")
        await pilot.resize_terminal(81, 25)
        text = await until(pilot, app, "Block map")
        assert max(len(line) for line in text.splitlines()) <= 81

    run(Engines(recording()), drive, size)


def test_a_server_that_comes_dies_and_comes_again(tmp_path: Path) -> None:
    folder = tmp_path / "recorded"

    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        text = await until(pilot, app, "no such folder yet")
        assert "kvatlas record" in text
        first = RecordingEngine(folder, pid=gone_pid())
        await until(pilot, app, f"pid {first.pid}")
        first.commit(0.7)
        await until(pilot, app, lambda text: "step 0" not in text and "step" in text)
        second = RecordingEngine(folder, number=1)
        # The first one is called gone when nothing has come of it for a while.
        app_feed = app._pump._feeds[0]
        app_feed._seen_s -= 60  # type: ignore[attr-defined]
        await until(pilot, app, f"[2 engine 0, pid {second.pid}]")
        second.close()
        await until(pilot, app, "ended")
        await pilot.press("p")
        text = await until(pilot, app, f"[1 engine 0, pid {first.pid}]")
        assert "CUT OFF" in text
        await pilot.press("2")
        await until(pilot, app, f"[2 engine 0, pid {second.pid}]")
        await pilot.press("n")
        await until(pilot, app, f"[1 engine 0, pid {first.pid}]")

    run(open_watch(str(folder)), drive)


def test_what_goes_wrong_inside_ends_the_app_with_it() -> None:
    class Broken(Engines):
        def engines(self) -> list[EngineFeed]:
            raise RuntimeError("boom")

    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while app.failed is None:
            assert time.monotonic() < end_s
            await pilot.pause(0.02)

    app = run(Broken(), drive)
    assert str(app.failed) == "boom"


def test_ascii_only() -> None:
    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        text = await until(pilot, app, "Block map")
        assert text.isascii()

    run(Engines(recording()), drive, ascii_only=True)


def test_the_pump_stays_with_what_was_chosen(tmp_path: Path) -> None:
    """A new engine takes the screen only when the one on it is over."""
    shown: list[Shown] = []
    first, second = RecordingEngine(tmp_path), RecordingEngine(tmp_path, number=1)
    pump = Pump(open_watch(str(tmp_path)), 1.0, shown.append, lambda error: None)
    assert pump.look().selected == 1  # the newest
    pump.select(-1)
    assert pump.look().selected == 0
    third = RecordingEngine(tmp_path, number=2)
    looked = pump.look()
    assert (looked.selected, len(looked.tabs)) == (0, 3)
    first.close()
    for _ in range(100):
        moment = pump.look().moment
        assert moment is not None and moment.health.fault == ""
        if moment.health.state == "ended":
            break
    assert moment is not None and moment.health.state == "ended"
    assert pump.look().selected == 0  # there is nothing newer than before
    fourth = RecordingEngine(tmp_path, number=3)
    assert pump.look().selected == 3
    pump.select(1)
    assert pump.look().selected == 0
    assert {second.folder, third.folder, fourth.folder} < set(tmp_path.iterdir())
    pump.close()
