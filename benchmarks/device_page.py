"""How smooth the page of a long snapshot is: python -m benchmarks.device_page [SNAPSHOT]

Writes the page, opens it in a headless Chromium, drags the slider with the mouse, and prints how
long a new moment takes and how long one frame stands. Without a snapshot it makes one.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "report"))

from browser import Page, chromium

from benchmarks.device_trace import device_trace
from kvatlas.device import DeviceTwin, read_snapshot
from kvatlas.report import DeviceReporter

_STEPS = 150
_MOMENTS = """(() => {
  const k = kvatlasDevice, n = k.device.events, costs = [];
  for (let i = 0; i < 150; i++) {
    const event = Math.floor(n * (0.5 + 0.49 * Math.sin(i / 9)));
    const from = performance.now();
    k.show(event);
    costs.push(performance.now() - from);
  }
  return costs;
})()"""
_WATCH = """(() => {
  window.stands = [];
  let before = 0;
  const frame = (now) => {
    if (before) stands.push(now - before);
    before = now;
    if (!window.enough) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
})()"""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; returns the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device_page", description=__doc__)
    parser.add_argument("snapshot", nargs="?", type=Path)
    parser.add_argument("--events", type=int, default=1_000_000, help="of the snapshot it makes")
    parser.add_argument("--live", type=int, default=4000, help="blocks alive in it, or so")
    settings = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        path = settings.snapshot
        if path is None:
            path = Path(folder) / "snapshot.pickle"
            path.write_bytes(pickle.dumps(device_trace(settings.events, live=settings.live)))
        started = time.process_time()
        twin = DeviceTwin(read_snapshot(path))
        shown = range(max(0, len(twin.trace) - 1_000_000), len(twin.trace))
        reporter = DeviceReporter(twin, path.name, shown=shown)
        page = Path(folder) / "page.html"
        page.write_bytes(reporter.html())
        figures = {
            "events": len(twin.trace),
            "identical": reporter.document.found.recorded.identical,
            "write_cpu_s": time.process_time() - started,
            "page_mb": page.stat().st_size / 1e6,
            **_look(page),
        }
    print(json.dumps(figures, indent=1))
    return figures


def _look(file: Path) -> dict[str, Any]:
    with chromium() as browser:
        started = time.perf_counter()
        page = browser.open(file, width=1280, height=900)
        page.wait("window.kvatlasDevice !== undefined")
        open_s = time.perf_counter() - started
        moments = page.run(_MOMENTS)
        stands = _drag(page)
        alive = page.run("kvatlasDevice.device.numAlive")
        assert page.complaints() == []
    return {
        "open_s": open_s,
        "blocks_alive": alive,
        "moment_ms": _spread(moments),
        "frame_ms": _spread(stands),
    }


def _drag(page: Page) -> list[float]:
    """Drag the slider's thumb over most of the trace; how long each frame stood."""
    x, y = page.middle("#event")
    wide = page.run("document.getElementById('event').getBoundingClientRect().width")
    page.run(_WATCH)
    page.mouse("mousePressed", x - 0.3 * wide, y, button="left", clickCount=1)
    for step in range(_STEPS):
        at = x + (0.6 * step / _STEPS - 0.3) * wide
        page.mouse("mouseMoved", at, y, button="left", buttons=1)
    page.mouse("mouseReleased", x + 0.3 * wide, y, button="left", clickCount=1)
    stands: list[float] = page.run("(() => { window.enough = true; return stands; })()")
    return stands


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": round(ordered[len(ordered) // 2], 2),
        "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 2),
        "longest": round(ordered[-1], 2),
    }


if __name__ == "__main__":
    main()
