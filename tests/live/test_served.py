"""`vllm serve`, recorded under load: same tokens, figures as its own /metrics, identical in verify.

One story, told by one server after the other, because a server takes its time to start: nobody
records; recorded and watched by two viewers, one of which is killed; the engine is killed; the
server starts again while the other viewer stays.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
from load import draw_requests, send, send_and_leave
from process_site import TINY_ENGINE, environment
from seen import Viewer, kvatlas, seen
from server import serving

from kvatlas.events.live.folders import engine_folders, read_facts
from kvatlas.watch.moment import Moment

NUM_REQUESTS = 2000
FEW = 60


@dataclass
class Story:
    """What happened.

    Attributes:
        plain, recorded: answers by request, without and with the recorder.
        own: figures of vLLM's /metrics when the load was over, by name.
        moment: what the viewer saw then; `scraped`: what the other viewer's /metrics said.
        after_kill: answers after a viewer was killed; of `FEW` requests.
        cut_off: what the viewer saw of the engine that was killed under load.
        before_kill: what it had seen just before.
        restarted: what it saw of both engines after the restart.
        answered_again: answers of the restarted server.
        folder: the recordings.
    """

    folder: Path
    plain: dict[str, tuple[int, ...]] = field(default_factory=dict)
    recorded: dict[str, tuple[int, ...]] = field(default_factory=dict)
    own: dict[str, float] = field(default_factory=dict)
    moment: Moment | None = None
    scraped: str = ""
    after_kill: dict[str, tuple[int, ...]] = field(default_factory=dict)
    before_kill: Moment | None = None
    cut_off: Moment | None = None
    restarted: list[Moment] = field(default_factory=list)
    answered_again: dict[str, tuple[int, ...]] = field(default_factory=dict)


REQUESTS = draw_requests(NUM_REQUESTS)
# They keep the engine busy for a minute and more, 32 at a time: it is killed as they begin.
LONG = [replace(asked, max_tokens=280) for asked in draw_requests(160, seed=7)]
OWN_FIGURES = (
    "vllm:num_preemptions_total",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
)


@pytest.fixture(scope="module")
def story(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Let it happen."""
    folder = tmp_path_factory.mktemp("served")
    story = Story(folder / "recordings")
    site, model = folder / "site", models["llama"]
    plain = environment(site, record=None, stand_in="fork")
    with serving(model, folder / "plain.log", plain, TINY_ENGINE) as server:
        story.plain = send(server.url, server.model, REQUESTS)

    viewer = Viewer(story.folder)
    page = _serve_page(story.folder, folder / "page.log")
    try:
        # As a user starts it: the real command, its processes spawned.
        under = kvatlas("record", str(story.folder), "--")
        spawned = environment(site, record=None)
        log = folder / "recorded.log"
        with serving(model, log, spawned, TINY_ENGINE, under=under) as server:
            story.recorded = send(server.url, server.model, REQUESTS)
            send_and_leave(server.url, server.model, REQUESTS[:32])
            story.own = {name: server.metric(name) for name in OWN_FIGURES}
            (story.moment,) = viewer.wait_for(_idle_after(NUM_REQUESTS + 32))
            story.scraped = page.scrape()
            page.process.send_signal(signal.SIGKILL)
            page.process.wait(10)
            story.after_kill = send(server.url, server.model, REQUESTS[:FEW])

            loaded = threading.Thread(target=send, args=(server.url, server.model, LONG))
            loaded.start()
            arrived = NUM_REQUESTS + 32 + FEW + 32
            (story.before_kill,) = viewer.wait_for(
                lambda moments: (
                    moments[0].requests.arrived >= arrived and moments[0].requests.running > 0
                )
            )
            server.kill_engine()
            loaded.join(60)
        (story.cut_off,) = viewer.wait_for(lambda moments: moments[0].health.state == "cut off")

        forked = environment(site, record=story.folder, stand_in="fork")
        with serving(model, folder / "restarted.log", forked, TINY_ENGINE) as server:
            story.answered_again = send(server.url, server.model, REQUESTS[:FEW])
            story.restarted = viewer.wait_for(
                lambda moments: len(moments) == 2 and moments[1].requests.finished == FEW
            )
        yield story
    finally:
        viewer.close()
        page.process.kill()
        page.process.wait()


def test_the_tokens_are_the_same_with_and_without_the_recorder(story: Story) -> None:
    assert len(story.plain) == NUM_REQUESTS
    assert story.recorded == story.plain
    few = {one.name: story.plain[one.name] for one in REQUESTS[:FEW]}
    assert story.after_kill == few
    assert story.answered_again == few


def test_the_recording_counts_what_vllm_counts(story: Story) -> None:
    moment = story.moment
    assert moment is not None
    assert moment.health.lost_events == moment.health.lost_segments == moment.health.errors == 0
    assert moment.requests.arrived == moment.requests.finished == NUM_REQUESTS + 32
    assert moment.requests.preemptions == story.own["vllm:num_preemptions_total"] > 100
    assert moment.prefix.queries == story.own["vllm:prefix_cache_queries_total"]
    assert moment.prefix.hits == story.own["vllm:prefix_cache_hits_total"]
    assert moment.prefix.hits > moment.prefix.queries / 2


def test_both_viewers_saw_the_same(story: Story) -> None:
    assert story.moment is not None
    values = [
        float(line.split()[-1])
        for line in story.scraped.splitlines()
        if line.startswith("kvatlas_preemptions_total{")
    ]
    assert values == [story.moment.requests.preemptions]


def test_nothing_is_lost_when_the_engine_is_killed(story: Story) -> None:
    assert story.cut_off is not None and story.before_kill is not None
    assert story.cut_off.events >= story.before_kill.events
    assert story.cut_off.requests.running > 0
    engine = engine_folders(story.folder)[0]
    again = seen(engine)
    assert again.events == story.cut_off.events
    assert again.health.fault == again.health.partial == ""


def test_a_viewer_stays_open_when_the_server_starts_again(story: Story) -> None:
    first, second = story.restarted
    assert first.health.state == "cut off"
    assert second.health.state in ("live", "quiet")
    assert second.requests.arrived == FEW
    pids = {read_facts(folder).live["pid"] for folder in engine_folders(story.folder)}
    assert len(pids) == 2


def test_verify_says_identical(story: Story) -> None:
    done = subprocess.run(
        kvatlas("verify", str(story.folder), "--json", "-"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["identical"] is True
    assert len(said["engines"]) == 2
    assert said["calls"] > 10 * NUM_REQUESTS


class _Page:
    """`kvatlas serve` on a folder, as a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process, self.url, self.log = process, url, log

    def scrape(self) -> str:
        """Return what /metrics says, once the page has caught up and nothing is under way."""
        before = ""
        for _ in range(60):
            assert self.process.poll() is None, self.log.read_text()
            text = httpx.get(f"{self.url}/metrics", timeout=30).text
            lines = [line for line in text.splitlines() if "preemptions_total{" in line]
            if lines and "\n".join(lines) == before:
                return text
            before = "\n".join(lines)
            time.sleep(0.5)
        raise AssertionError(f"nothing to scrape:\n{self.log.read_text()}")


def _serve_page(folder: Path, log: Path) -> _Page:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("wb") as output:
        process = subprocess.Popen(
            kvatlas("serve", str(folder), "--port", str(port), "--no-open"),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return _Page(process, f"http://127.0.0.1:{port}", log)


def _idle_after(requests: int) -> Callable[[list[Moment]], bool]:
    def idle(moments: list[Moment]) -> bool:
        return bool(moments) and moments[0].requests.finished == requests

    return idle
