"""The page of a snapshot in a real browser: every moment of it is the twin's, and it answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser, Page, chromium, find_chromium
from naive_allocator import write
from snapshot_files import with_stacks

from kvatlas.device import DeviceTwin, bytes_by_stack, read_snapshot
from kvatlas.report import DeviceReporter

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed")

_EXPANDABLE, _PRIVATE, _RELEASING = 13, 24, 29
_KEYS = (
    "+", "+", "ArrowRight", "ArrowDown", "Enter", "n", "p", ",", ".", "PageUp", "PageDown",
    "Home", "End", "ArrowUp", "ArrowLeft", "-", "0", "Escape",
)  # fmt: skip
_READY = "window.kvatlasDevice !== undefined || !document.getElementById('device-message').hidden"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def page_of(snapshot: dict[str, Any], folder: Path, events: range | None = None) -> Path:
    """Write a snapshot and its page; returns the page's path."""
    path = write(snapshot, folder / "snapshot.pickle")
    twin = DeviceTwin(read_snapshot(path))
    name = "<img src=x onerror=alert(1)>.pickle"
    page = folder / "page.html"
    page.write_bytes(DeviceReporter(twin, name, shown=events).html())
    return page


def opened(browser: Browser, page: Path, **look: Any) -> Page:
    shown = browser.open(page, **look)
    shown.wait(_READY)
    return shown


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_of(with_stacks(_PRIVATE, 120), tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    ("seed", "cut"), [(_EXPANDABLE, False), (_PRIVATE, True), (_RELEASING, True)]
)
def test_every_moment_is_the_twins(browser: Browser, tmp_path: Path, seed: int, cut: bool) -> None:
    """GIVEN a course WHEN the page goes through its events THEN all sums and stacks agree."""
    snapshot = with_stacks(seed, 120)
    twin = DeviceTwin(read_snapshot(write(snapshot, tmp_path / "same.pickle")))
    timeline = twin.replay_recorded().timeline
    count = len(twin.trace)
    events = range(count // 3, count - count // 5) if cut else range(count)
    page = opened(browser, page_of(snapshot, tmp_path, events if cut else None))
    asked = [*range(len(events)), *range(len(events) - 1, -1, -7)]
    found = page.run(
        "(() => { const k = window.kvatlasDevice, d = k.device;"
        f"return {json.dumps(asked)}.map((e) => {{ k.moment.go(e);"
        "const weights = (w) => [...w].map((units, s) => [d.nameOf(s), units * 512])"
        "  .filter(([, bytes]) => bytes > 0);"
        "return {series: ['reserved', 'allocated', 'active', 'releasable', 'idle']"
        "  .map((name) => 512 * d[name][e]), sums: k.moment.sums().map((units) => 512 * units),"
        "held: weights(k.moment.held), stuck: weights(k.moment.stuck)}; }); })()"
    )
    for at, said in zip(asked, found, strict=True):
        event = events.start + at
        now = [
            int(getattr(timeline, f"{name}_bytes")[event])
            for name in ("reserved", "allocated", "active", "releasable", "idle")
        ]
        assert said["series"] == now, event
        reserved, allocated, active, releasable, idle = now
        stuck = reserved - active - releasable - idle
        assert said["sums"] == [allocated, active - allocated, stuck, releasable, idle], event
        shares = bytes_by_stack(twin.moment(event), twin.settings.large_segment_bytes)
        assert sum(nbytes for _, nbytes in said["held"]) == active
        assert sorted(nbytes for _, nbytes in said["held"]) == sorted(
            shares.held_bytes[shares.held_bytes > 0].tolist()
        )
        mine = sorted(shares.stuck_bytes[shares.stuck_bytes > 0].tolist())
        # Whole bytes there, fractions here.
        assert np.allclose(sorted(nbytes for _, nbytes in said["stuck"]), mine, atol=1), event


@pytest.mark.parametrize(("width", "dark"), [(400, False), (1280, True)])
def test_opens_without_a_complaint(browser: Browser, plain: Path, width: int, dark: bool) -> None:
    page = opened(browser, plain, width=width, height=900, dark=dark)
    assert page.complaints() == []
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run("document.getElementById('device-message').hidden")
    for canvas in ("timeline", "stuck-line", "overview", "memory", "flame"):
        colors = page.run(
            f"(() => {{ const c = document.getElementById('{canvas}');"
            "const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            "const seen = new Set(); for (let i = 0; i < p.length; i += 4)"
            "seen.add(p[i] * 65536 + p[i + 1] * 256 + p[i + 2]); return seen.size; })()"
        )
        assert colors > 1, canvas
    assert page.run("document.querySelector('h1').textContent").startswith("<img")


def test_time_moves_by_pointer_slider_and_keys(browser: Browser, plain: Path) -> None:
    page = opened(browser, plain)
    shown = "window.kvatlasDevice.shown"
    last = int(page.run("window.kvatlasDevice.device.events")) - 1
    page.run("document.getElementById('event').focus()")
    for key, expected in (("Home", 0), ("ArrowRight", 1), ("End", last), ("ArrowLeft", last - 1)):
        page.key(key)
        page.wait(f"{shown} === {expected}")
    assert f"event {last - 1:,}" in page.run("document.getElementById('when').textContent")
    x, y = page.middle("#time-box")
    page.click(x, y)
    page.wait(f"Math.abs({shown} - {last / 2}) < 3")
    # Dragging zooms in, and the slider then moves within what is in view.
    page.mouse("mousePressed", x, y, button="left", clickCount=1)
    page.mouse("mouseMoved", x + 100, y, button="left", buttons=1)
    page.mouse("mouseReleased", x + 100, y, button="left", clickCount=1)
    view = page.run("[window.kvatlasDevice.time.view.from, window.kvatlasDevice.time.view.to]")
    assert 0 < view[0] < view[1] < last
    assert page.run("+document.getElementById('event').max") == view[1] - 1
    page.run("document.getElementById('whole-time').click()")
    assert page.run("window.kvatlasDevice.time.view.to") == last + 1


def test_the_map_tells_what_lies_where(browser: Browser, plain: Path) -> None:
    """GIVEN a live block WHEN it is pointed at THEN its address, size and stack are said."""
    page = opened(browser, plain)
    said = page.run(
        "(() => { const {device, moment, facts, map} = window.kvatlasDevice;"
        "const block = [...device.alive.slice(0, device.numAlive)]"
        "  .find((b) => device.calls(device.stack[b]).length > 1);"
        "const {pairs, calls} = facts(device.place[block]);"
        "const free = moment.at(device.place[block]).kind;"
        "map.reveal(device.place[block]);"
        "return [Object.fromEntries(pairs), calls, device.calls(device.stack[block]),"
        " map.spotOf(device.place[block] + device.units[block] / 2), free]; })()"
    )
    pairs, calls, expected, spot, kind = said
    assert "at 0x" in pairs["Block"]
    assert pairs["State"] == ["in use", "waits for another stream"][kind]
    assert calls == expected
    left, top = page.run(
        "(() => { const c = document.getElementById('memory'); c.scrollIntoView({block: 'center'});"
        "const b = c.getBoundingClientRect(); return [b.x, b.y]; })()"
    )
    page.mouse("mouseMoved", left + spot[0], top + spot[1])
    page.wait("!document.getElementById('memory-tip').hidden")
    tip = page.run("document.getElementById('memory-tip').textContent")
    assert pairs["Block"] in tip
    assert calls[0]["name"] in tip  # of these made-up calls every one tells something
    page.click(left + spot[0], top + spot[1])
    assert calls[-1]["name"] in page.run("document.getElementById('kept').textContent")
    page.run("document.getElementById('memory').focus()")
    for key in ("ArrowRight", "ArrowRight"):
        page.key(key)
    assert "Segment" in page.run("document.getElementById('said').textContent")


def test_a_call_chosen_in_the_flame_graph_stands_out(browser: Browser, plain: Path) -> None:
    page = opened(browser, plain)
    page.run("document.getElementById('flame-full').click()")
    node = page.run("window.kvatlasDevice.flame.order().find((n) => n >= 0)")
    under = page.run(
        f"(() => {{ const k = window.kvatlasDevice; k.choose({node});"
        "return k.map.view.under.reduce((a, b) => a + b, 0); })()"
    )
    assert under >= 1
    page.wait("!document.getElementById('only').hidden")
    rows = page.run("document.getElementById('ranks').tBodies[0].rows.length")
    assert 1 <= rows <= 8
    page.run("document.getElementById('only-none').click()")
    assert page.run("window.kvatlasDevice.map.view.under") is None
    page.run("document.getElementById('flame-stuck').click()")
    assert "stuck" in page.run("document.getElementById('ranks-title').textContent")


def test_no_control_complains(browser: Browser, plain: Path) -> None:
    """GIVEN the page WHEN every button, key and wheel is used THEN the console stays empty."""
    page = opened(browser, plain)
    for element in ("event", "time-box", "memory", "flame"):
        page.middle(f"#{element}")
        page.run(f"document.getElementById('{element}').focus()")
        for key in _KEYS:
            page.key(key, text=key if len(key) == 1 else "")
        x, y = page.middle(f"#{element}")
        page.mouse("mouseMoved", x, y)
        page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-120, modifiers=2)
        page.mouse("mouseWheel", x, y, deltaX=0, deltaY=60)
        page.click(x, y)
    page.run("document.querySelectorAll('button').forEach((button) => button.click())")
    page.run("document.querySelectorAll('#ranks button, #only-none').forEach((b) => b.click())")
    for dark in ("dark", "light"):
        page.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": dark}],
        )
    page.run("new Promise((done) => setTimeout(done, 250))")
    assert page.complaints() == []
    assert page.run("document.getElementById('device-message').hidden")
