"""Draw the page of `kvatlas serve` as a PNG picture: `python docs/draw_serve.py OUT`.

Replays a chat workload on a pool that is too small for it, serves the recording paused at its
middle, and keeps what a headless Chromium shows. Needs a Chromium and the tests' helper for it.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "report"))

from browser import chromium

WIDTH, HEIGHT = 1180, 1010
KVATLAS = (sys.executable, "-m", "kvatlas.cli")
ARGUMENTS = ("--blocks", "3000", "--arrivals", "timed")
MIDDLE = 500  # of 1,000


def main() -> None:
    """Record, serve and draw."""
    (target,) = sys.argv[1:]
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run.parquet"
        replay = (*KVATLAS, "replay", *ARGUMENTS, "--events", str(run))
        subprocess.run(replay, check=True, stdout=subprocess.DEVNULL)
        served = subprocess.Popen(
            (*KVATLAS, "serve", str(run), "--port", "0", "--no-open"),
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _draw(_address(served), Path(target))
        finally:
            served.send_signal(signal.SIGINT)
            served.wait(30)


def _address(served: subprocess.Popen[str]) -> str:
    assert served.stderr is not None
    for line in served.stderr:
        if found := re.search(r"page +(\S+)", line):
            return found[1]
    raise SystemExit("kvatlas serve did not start")


def _draw(address: str, target: Path) -> None:
    with chromium() as browser:
        page = browser.open(address, WIDTH, HEIGHT)
        page.wait("!!window.kvatlasLive && kvatlasLive.moment !== null")
        page.run("document.getElementById('play').click()")
        page.run(
            f"(() => {{ const e = document.getElementById('seek'); e.value = {MIDDLE};"
            "e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change')); })()"
        )
        last_s = page.run("kvatlasLive.moment.playback.last_s")
        page.wait(f"kvatlasLive.moment.time_s > {0.45 * last_s}")
        page.run("document.activeElement.blur()")
        time.sleep(0.5)
        page.screenshot(target)


if __name__ == "__main__":
    main()
