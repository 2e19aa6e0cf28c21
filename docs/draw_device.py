"""Draw the page of `kvatlas device report` as a PNG picture: `python docs/draw_device.py OUT`.

Of a made trace, at the moment at which most bytes are stuck. Needs a Chromium and the tests' helper
for it.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "report"))

from benchmarks.device_trace import device_trace
from browser import chromium

from kvatlas.device import DeviceTwin, read_snapshot
from kvatlas.report import DeviceReporter

WIDTH, HEIGHT = 1180, 1010


def main() -> None:
    """Make the page, open it, keep the part with the timeline and the map."""
    (target,) = sys.argv[1:]
    with TemporaryDirectory() as folder, chromium() as browser:
        path = Path(folder) / "snapshot.pickle"
        path.write_bytes(pickle.dumps(device_trace(40_000, live=900, seed=5, depth=12)))
        page = Path(folder) / "page.html"
        page.write_bytes(
            DeviceReporter(DeviceTwin(read_snapshot(path)), path.name, at="stuck").html()
        )
        shown = browser.open(page, WIDTH, HEIGHT)
        shown.wait("window.kvatlasDevice !== undefined")
        # The map is in sight, or it would not be drawn before the picture is taken.
        shown.run("document.getElementById('time-legend').scrollIntoView({block: 'start'})")
        shown.run("new Promise((done) => setTimeout(done, 500))")
        shown.screenshot(Path(target))


if __name__ == "__main__":
    main()
