"""What a collector is sent: the same numbers as a scrape, and nothing that can stop the server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from web_server import Engines, played, record, wait_for

from kvatlas.errors import InputError
from kvatlas.watch.board import Board
from kvatlas.watch.moment import Moment
from kvatlas.watch.otlp import otlp_endpoint, otlp_headers, otlp_message, send_otlp
from kvatlas.watch.prometheus import exposition
from kvatlas.watch.web.exporter import Exporter
from kvatlas.watch.web.hub import Hub

NOW_NS, SINCE_NS = 2_000_000_000_000_000_000, 1_900_000_000_000_000_000


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("otlp") / "run.arrows")


@pytest.fixture(scope="module")
def moment(recording: Path) -> Moment:
    board = Board(played(recording))
    while board.advance():
        pass
    return board.moment()


def metrics_of(message: bytes) -> list[dict[str, Any]]:
    """Return the metrics of a message with one resource and one scope."""
    (resource,) = json.loads(message)["resourceMetrics"]
    (scope,) = resource["scopeMetrics"]
    found: list[dict[str, Any]] = scope["metrics"]
    return found


def test_the_numbers_are_those_of_a_scrape(moment: Moment) -> None:
    """GIVEN engines WHEN scraped and sent THEN names, labels and values are the same."""
    moments = [moment, msgspec.structs.replace(moment, engine="other")]
    content, _ = exposition(moments)
    scraped = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
    }
    sent = {}
    for metric in metrics_of(otlp_message(moments, NOW_NS, SINCE_NS)):
        for point in (metric.get("sum") or metric["gauge"])["dataPoints"]:
            labels = {each["key"]: each["value"]["stringValue"] for each in point["attributes"]}
            sent[metric["name"], frozenset(labels.items())] = point["asDouble"]
    assert sent == scraped


def test_counters_are_cumulative_sums(moment: Moment) -> None:
    for metric in metrics_of(otlp_message([moment], NOW_NS, SINCE_NS)):
        if not metric["name"].endswith("_total"):
            assert "sum" not in metric
            continue
        assert metric["sum"]["isMonotonic"] is True
        assert metric["sum"]["aggregationTemporality"] == 2
        for point in metric["sum"]["dataPoints"]:
            assert (point["startTimeUnixNano"], point["timeUnixNano"]) == (
                str(SINCE_NS),
                str(NOW_NS),
            )


def test_counters_of_a_live_engine_start_with_it(moment: Moment) -> None:
    live = msgspec.structs.replace(moment, wall_unix_s=1.95e9, time_s=50.0)
    (metric,) = (
        each
        for each in metrics_of(otlp_message([live], NOW_NS, SINCE_NS))
        if each["name"] == "kvatlas_preemptions_total"
    )
    (point,) = metric["sum"]["dataPoints"]
    assert int(point["startTimeUnixNano"]) == pytest.approx((1.95e9 - 50.0) * 1e9, rel=1e-12)


def test_any_name_can_be_sent(moment: Moment) -> None:
    odd = msgspec.structs.replace(moment, engine='\udcff\n"')
    assert metrics_of(otlp_message([odd], NOW_NS, SINCE_NS))


@pytest.mark.parametrize(("url", "endpoint"), [
    ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/metrics"),
    ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/metrics"),
    ("https://otel.example/in", "https://otel.example/in/v1/metrics"),
    ("https://otel.example/v1/metrics", "https://otel.example/v1/metrics"),
])  # fmt: skip
def test_endpoints(url: str, endpoint: str) -> None:
    assert otlp_endpoint(url) == endpoint


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:4318", "ftp://x", "file:///etc/passwd", "http://", "http://[", "http://a b"],
)
def test_what_is_no_endpoint(url: str) -> None:
    with pytest.raises(InputError, match="not an address"):
        otlp_endpoint(url)


def test_headers_come_from_the_environment() -> None:
    given = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20abc, x-tenant=7,broken"}
    assert otlp_headers(given) == {"authorization": "Bearer abc", "x-tenant": "7"}
    assert otlp_headers({}) == {}


class Collector(BaseHTTPRequestHandler):
    """Takes messages, or refuses them."""

    status = 200
    taken: ClassVar[list[tuple[str, str | None, bytes]]] = []

    def do_POST(self) -> None:
        """Take one."""
        body = self.rfile.read(int(self.headers["content-length"]))
        self.taken.append((self.path, self.headers["content-type"], body))
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def collector(status: int = 200) -> Iterator[str]:
    """Run a collector; yield its address."""
    Collector.status = status
    Collector.taken.clear()
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def exported(recording: Path, url: str) -> Exporter:
    """Send every 20 ms until three messages went, one way or the other."""

    async def run() -> Exporter:
        hub = Hub(Engines(played(recording)), interval_s=0.02)
        exporter = Exporter(hub, otlp_endpoint(url), interval_s=0.02)
        await hub.start()
        task = asyncio.create_task(exporter.run())
        while exporter.sent + exporter.failed < 3:
            assert not task.done()
            await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await hub.stop()
        return exporter

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_a_collector_gets_messages(recording: Path) -> None:
    with collector() as url:
        exporter = exported(recording, url)
        assert (exporter.sent, exporter.failed) == (3, 0)
        wait_for(lambda: len(Collector.taken) >= 3)
        path, kind, body = Collector.taken[-1]
    assert (path, kind) == ("/v1/metrics", "application/json")
    assert any(metric["name"] == "kvatlas_pool_blocks" for metric in metrics_of(body))


def test_a_collector_that_fails_stops_nothing(
    recording: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """GIVEN a collector that refuses, or is not there WHEN sent to THEN it is said once."""
    with collector(status=503) as url:
        assert exported(recording, url).failed == 3
    assert exported(recording, url).failed == 3
    said = [line.getMessage() for line in caplog.records]
    assert len(said) == 2 and "answered 503" in said[0]
    assert send_otlp(otlp_endpoint(url), {}, b"{}") != ""
