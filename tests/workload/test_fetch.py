"""Fetching public traces, against a small server on this machine that misbehaves on request."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from workload_builders import mooncake_row

from kvatlas.errors import InputError
from kvatlas.workload import fetch as fetching
from kvatlas.workload import format_names, resolve
from kvatlas.workload.download import ResumingDownloader
from kvatlas.workload.fetch import TRACES, PublicTrace, RemoteFile, cached, fetch

pytest.importorskip("pooch")

CONTENT = bytes(range(256)) * 4096  # 1 MiB, every byte in its place tells where it belongs
PIECE = 1 << 16  # what is written at a time
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What the server does, and what it was asked."""

    content: bytes = CONTENT
    ranges: bool = True
    drop_after: list[int] = field(default_factory=list)
    """For each coming response, cut the connection after this many bytes."""
    statuses: list[int] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    port: int = 0

    def url(self, name: str = "trace.jsonl") -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def trace(self, **changes: object) -> PublicTrace:
        file = RemoteFile(self.url(), SHA256, len(CONTENT))
        return PublicTrace(
            "t",
            "w",
            "mooncake",
            "MIT",
            "s",
            (replace(file, **changes),),  # type: ignore[arg-type]
        )


@pytest.fixture
def server() -> Iterator[Server]:
    behaviour = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            behaviour.asked.append(asked)
            if behaviour.statuses:
                self.send_error(behaviour.statuses.pop(0))
                return
            start = 0
            if asked and behaviour.ranges:
                found = re.fullmatch(r"bytes=(\d+)-", asked)
                assert found is not None
                start = int(found.group(1))
                if start >= len(behaviour.content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(behaviour.content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                end, size = len(behaviour.content) - 1, len(behaviour.content)
                self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(behaviour.content) - start))
            self.end_headers()
            body = behaviour.content[start:]
            if behaviour.drop_after:
                body = body[: behaviour.drop_after.pop(0)]
                self.close_connection = True
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    behaviour.port = httpd.server_address[1]
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield behaviour
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def bring(trace: PublicTrace, directory: Path, attempts: int = 2) -> Path:
    return fetch(trace, directory=directory, attempts=attempts, wait_s=0)


def left(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "t").iterdir())


def test_a_whole_file_gets_its_name_and_is_not_fetched_twice(
    server: Server, tmp_path: Path
) -> None:
    assert cached(server.trace(), directory=tmp_path) is None
    path = bring(server.trace(), tmp_path)
    assert path == tmp_path / "t" / "trace.jsonl"
    assert path.read_bytes() == CONTENT
    assert left(tmp_path) == ["trace.jsonl"]
    assert bring(server.trace(), tmp_path) == path
    assert len(server.asked) == 1
    assert cached(server.trace(), directory=tmp_path) == path


def test_progress_ends_at_the_size(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    fetch(server.trace(), directory=tmp_path, progress=lambda *told: seen.append(told))
    assert seen[-1] == ("trace.jsonl", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_a_dropped_connection_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.drop_after = [5 * PIECE, 6 * PIECE + 1]
    assert bring(server.trace(), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={5 * PIECE}-", f"bytes={11 * PIECE}-"]


def test_the_next_run_goes_on_after_giving_up(server: Server, tmp_path: Path) -> None:
    # GIVEN a connection that breaks, and then brings nothing
    server.drop_after = [5 * PIECE, 0, 0]
    with pytest.raises(InputError, match=r"327,680 bytes are kept, run the command again"):
        bring(server.trace(), tmp_path)
    assert left(tmp_path) == ["trace.jsonl.part"]
    # WHEN it is run again THEN only the rest is asked for
    assert bring(server.trace(), tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == f"bytes={5 * PIECE}-"


def test_an_interrupt_keeps_the_part(server: Server, tmp_path: Path) -> None:
    def interrupt(name: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server.trace(), directory=tmp_path, progress=interrupt)
    assert left(tmp_path) == ["trace.jsonl.part"]
    assert bring(server.trace(), tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] is not None


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.drop_after = [5 * PIECE]
    assert bring(server.trace(), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={5 * PIECE}-"]


def test_a_part_that_is_whole_already_is_taken(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "t" / "trace.jsonl.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT)
    assert bring(server.trace(), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("kept", [CONTENT[::-1][:5000], CONTENT[::-1] + b"more"])
def test_a_part_of_another_file_is_fetched_from_zero(
    server: Server, tmp_path: Path, kept: bytes
) -> None:
    part = tmp_path / "t" / "trace.jsonl.part"
    part.parent.mkdir()
    part.write_bytes(kept)
    assert bring(server.trace(), tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] is None


def test_a_damaged_file_in_the_cache_is_replaced(server: Server, tmp_path: Path) -> None:
    path = bring(server.trace(), tmp_path)
    path.write_bytes(CONTENT[:-1] + b"?")
    assert bring(server.trace(), tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its SHA-256 differs") as raised:
        bring(server.trace(sha256="0" * 64), tmp_path)
    assert "\n" not in str(raised.value)
    assert left(tmp_path) == []


def test_another_size_is_refused_before_it_is_fetched(server: Server, tmp_path: Path) -> None:
    server.content = b"version https://git-lfs.github.com/spec/v1\n"
    with pytest.raises(InputError, match="the server has another file: 43 bytes"):
        bring(server.trace(), tmp_path)


def test_a_missing_file_is_not_tried_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [404, 404]
    with pytest.raises(InputError, match="cannot be downloaded: HTTP 404 Not Found"):
        bring(server.trace(), tmp_path)
    assert len(server.asked) == 1


def test_a_busy_server_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [503]
    assert bring(server.trace(), tmp_path).read_bytes() == CONTENT


def test_no_server_is_one_line(server: Server, tmp_path: Path) -> None:
    trace = server.trace(url="http://127.0.0.1:9/trace.jsonl")
    with pytest.raises(InputError, match="Connection refused") as raised:
        bring(trace, tmp_path)
    assert str(raised.value).endswith("check the network and the address")


def test_a_second_process_is_turned_away(server: Server, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    part = ResumingDownloader(tmp_path / "t" / "trace.jsonl").part
    part.parent.mkdir()
    with part.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is fetching it"):
            bring(server.trace(), tmp_path)


def test_a_directory_that_cannot_be_made_is_one_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "t").write_text("in the way")
    with pytest.raises(InputError, match="set KVATLAS_CACHE to a directory"):
        bring(server.trace(), tmp_path)


def test_several_files_make_a_directory(server: Server, tmp_path: Path) -> None:
    one = server.trace().files[0]
    trace = replace(server.trace(), files=(one, replace(one, url=server.url("b.jsonl"))))
    assert bring(trace, tmp_path) == tmp_path / "t"
    assert left(tmp_path) == ["b.jsonl", "trace.jsonl"]
    assert cached(trace, directory=tmp_path) == tmp_path / "t"
    (tmp_path / "t" / "b.jsonl").unlink()
    assert cached(trace, directory=tmp_path) is None


def test_the_cache_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KVATLAS_CACHE", str(tmp_path))
    assert fetching.trace_cache_dir() == tmp_path / "traces"
    assert cached("mooncake-conversation") is None
    monkeypatch.delenv("KVATLAS_CACHE")
    assert fetching.trace_cache_dir().parts[-2:] == ("kvatlas", "traces")


def test_a_fetched_trace_is_found_by_name(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = json.dumps(mooncake_row(0, 600, [1, 2])).encode() + b"\n"
    sha256 = hashlib.sha256(server.content).hexdigest()
    monkeypatch.setitem(TRACES, "t", server.trace(sha256=sha256, size_bytes=None))
    monkeypatch.setenv("KVATLAS_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"not fetched yet .*; run kvatlas traces fetch t first"):
        resolve("t")
    assert fetch("t", wait_s=0) == tmp_path / "traces" / "t" / "trace.jsonl"
    assert resolve("t").prompt_tokens.tolist() == [600]


def test_an_unknown_name_lists_the_traces() -> None:
    with pytest.raises(InputError, match="use one of mooncake-conversation, mooncake-toolagent"):
        fetch("mooncake")


def test_every_listed_trace_can_be_checked_and_read() -> None:
    for trace in TRACES.values():
        assert trace.format in format_names()
        assert trace.what and trace.licence and trace.source.startswith("https://")
        assert len({file.name for file in trace.files}) == len(trace.files)
        for file in trace.files:
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert file.url.startswith("https://")
            assert not {"main", "master", "HEAD"} & set(file.url.split("/"))
            assert file.size_bytes is None or file.size_bytes > 0
