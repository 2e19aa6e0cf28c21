"""Who gets an answer: hosts, other sites, tokens; and what every answer carries."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from web_server import Engines, Served, played, record, served

from kvatlas.watch.web.gate import CONTENT_POLICY
from kvatlas.watch.web.page import ASSETS
from kvatlas.watch.web.server import is_loopback

TOKEN = "a-token-that-is-long-enough"
PATHS = (
    "/", "/metrics", "/report", "/api/moment", "/api/stream", "/assets/live.js", "/assets/page.css",
)  # fmt: skip


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("gate") / "run.arrows")


@pytest.fixture(scope="module")
def site(recording: Path) -> Iterator[Served]:
    with served(Engines(played(recording))) as running:
        yield running


@pytest.fixture(scope="module")
def locked(recording: Path) -> Iterator[Served]:
    with served(Engines(played(recording)), token=TOKEN) as running:
        yield running


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8480", "127.0.0.1", "127.0.0.1:1",
                                  "[::1]:8480", "192.168.0.7:8480"])  # fmt: skip
def test_names_that_cannot_be_pointed_elsewhere_are_answered(site: Served, host: str) -> None:
    assert site.ask("/assets/icon.svg", host=host).status == 200


@pytest.mark.parametrize("host", [
    "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example:127", "",
    "[::1", "[::1]x", "[evil]", "0x7f.1",
])  # fmt: skip
def test_a_foreign_name_for_this_machine_is_refused(site: Served, host: str) -> None:
    """GIVEN a page whose own name points here WHEN it asks THEN it learns nothing."""
    for path in ("/", "/metrics", "/report", "/api/moment"):
        answer = site.ask(path, host=host)
        assert answer.status in (400, 421)
        assert b"kvatlas_" not in answer.body


def test_two_hosts_are_refused(site: Served) -> None:
    assert site.ask("/", {"Host": "evil.example"}).status == 400


@pytest.mark.parametrize("site_header", ["cross-site", "same-site"])
def test_other_sites_may_link_here_and_no_more(site: Served, site_header: str) -> None:
    visit = {"sec-fetch-site": site_header, "sec-fetch-mode": "navigate"}
    assert site.ask("/", visit).status == 200
    assert site.ask("/api/stream", {"sec-fetch-site": site_header}).status == 403
    assert site.ask("/metrics", {**visit, "sec-fetch-mode": "no-cors"}).status == 403
    assert site.ask("/api/control", visit, method="POST", body=b"{}").status == 403


def test_a_post_from_another_origin_is_refused(site: Served) -> None:
    kind = {"content-type": "application/json"}
    body = b'{"engine": "e0", "do": "pause"}'
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{site.port + 1}"):
        headers = {**kind, "origin": origin}
        assert site.ask("/api/control", headers, method="POST", body=body).status == 403
    own = {**kind, "origin": f"http://127.0.0.1:{site.port}"}
    assert site.ask("/api/control", own, method="POST", body=body).status == 204


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_other_methods_are_refused(site: Served, method: str) -> None:
    assert site.ask("/", method=method).status == 405


@pytest.mark.parametrize("path", [*PATHS, "/no/such/thing", "/login"])
def test_nothing_without_the_token(locked: Served, path: str) -> None:
    """GIVEN a server with a token WHEN asked without THEN it gives the form or nothing."""
    wrong = {"authorization": f"Bearer {TOKEN}x"}
    guessed = {"cookie": f"kvatlas_{locked.port}={TOKEN}"}
    for headers in ({}, wrong, guessed, {"authorization": "Bearer "}, {"authorization": TOKEN}):
        answer = locked.ask(path, headers)
        if path == "/assets/page.css":
            assert answer.status == 200
            continue
        assert answer.status == 401
        assert b"kvatlas_" not in answer.body and b"engine" not in answer.body


def test_the_token_opens_everything(locked: Served) -> None:
    for path in ("/", "/metrics", "/api/moment", "/assets/live.js"):
        assert locked.ask(path, {"authorization": f"Bearer {TOKEN}"}).status == 200
        assert locked.ask(path, {"authorization": f"bearer  {TOKEN} "}).status == 200


def test_a_token_in_the_address_becomes_a_cookie(locked: Served) -> None:
    """GIVEN the printed address WHEN opened THEN a cookie opens the rest, and is not the token."""
    answer = locked.ask(f"/?token={TOKEN}")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and TOKEN not in cookie
    assert locked.ask("/metrics", {"cookie": cookie.partition(";")[0]}).status == 200
    assert "set-cookie" not in locked.ask("/?token=wrong").headers
    assert locked.ask(f"/metrics?token={TOKEN}").status == 401


@pytest.mark.parametrize(("body", "status"), [
    (f"token={TOKEN}", 303), ("token=no", 401), ("", 401), ("token=" + "x" * 5000, 401),
    ("%ff%fe=1&token", 401),
])  # fmt: skip
def test_the_form(locked: Served, body: str, status: int) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    answer = locked.ask("/login", kind, method="POST", body=body.encode())
    assert answer.status == status
    assert ("set-cookie" in answer.headers) == (status == 303)


def test_a_name_is_fine_with_a_token(locked: Served) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert locked.ask("/metrics", headers, host="gpu-7.example:8480").status == 200


@pytest.mark.parametrize("path", ["/", "/metrics", "/nothing", "/assets/live.css"])
def test_every_answer_is_dressed(site: Served, locked: Served, path: str) -> None:
    for answer in (site.ask(path), locked.ask(path), site.ask(path, host="evil.example")):
        assert answer.headers["content-security-policy"] == CONTENT_POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
    assert "unsafe" not in CONTENT_POLICY and "http:" not in CONTENT_POLICY


def test_a_websocket_is_closed(site: Served) -> None:
    with socket.create_connection(("127.0.0.1", site.port), 10) as raw:
        raw.sendall(
            f"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert b"101" not in raw.recv(64)


@pytest.mark.parametrize("path", [
    "/assets/../page.py", "/assets/..%2fpage.py", "/assets/%2e%2e%2f%2e%2e%2fgate.py",
    "/assets/....//page.css", "/assets//etc/passwd", "/assets/%2fetc%2fpasswd", "/assets/",
    "/assets/page.css%00.js", "/assets/run.css/..", "/../../etc/passwd", "//etc/passwd",
    "/assets/..\\page.py", "/assets/PAGE.CSS", "/assets/block_map.js", "/page.css",
])  # fmt: skip
def test_only_files_of_the_table_are_served(site: Served, path: str) -> None:
    """GIVEN a path that means another file WHEN asked for THEN there is none."""
    answer = site.ask(path)
    assert (answer.status, len(answer.body) < 20) == (404, True)


def test_files_of_the_table_are_served(site: Served) -> None:
    for name, (_, kind) in ASSETS.items():
        answer = site.ask(f"/assets/{name}")
        assert (answer.status, answer.headers["content-type"]) == (200, kind)
        again = site.ask(f"/assets/{name}", {"if-none-match": answer.headers["etag"]})
        assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(("host", "only_here"), [
    ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("[::1]", True), ("localhost", True),
    ("0.0.0.0", False), ("::", False), ("192.168.0.1", False), ("gpu-7", False), ("", False),
    ("localhost.example", False),
])  # fmt: skip
def test_what_only_this_machine_reaches(host: str, only_here: bool) -> None:
    assert is_loopback(host) is only_here
