"""A real `vllm serve` on loopback: start, wait, kill, stop.

Owns: the server's processes and its log. Leaves to others: what it is asked (`load`) and its
environment (`process_site`).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
from process_site import flags

START_TIMEOUT_S = 180.0
_ENGINE = re.compile(r"\(EngineCore\S* pid=(\d+)\)")


class Server:
    """One `vllm serve` in a process group of its own, so that all of it can be ended."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, model: str, log: Path) -> None:
        self.process, self.url, self.model, self.log = process, url, model, log

    def wait_until_ready(self) -> None:
        """Wait for the first healthy answer; fail with the log's end where none comes."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", timeout=5).status_code == httpx.codes.OK:
                    return
            time.sleep(0.25)
        raise AssertionError(f"vllm serve did not start:\n{self.log.read_text()[-4000:]}")

    def engine_pids(self) -> list[int]:
        """Return the processes that hold a pool, as the server's log names them."""
        return sorted({int(pid) for pid in _ENGINE.findall(self.log.read_text())})

    def metric(self, name: str) -> float:
        """Return a figure of the server's own /metrics, added up over its engines."""
        lines = httpx.get(f"{self.url}/metrics", timeout=30).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{"))

    def kill_engine(self) -> None:
        """End the engine's process as a crash would: without a word."""
        for pid in self.engine_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Ask the server to end, and end what is left of its group."""
        for number, seconds in ((signal.SIGINT, 20), (signal.SIGKILL, 10)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)


@contextlib.contextmanager
def serving(
    model: Path,
    log: Path,
    environment: Mapping[str, str],
    engine: Mapping[str, object],
    *,
    under: Sequence[str] = (),
) -> Iterator[Server]:
    """Serve a model until the block ends; `under` is a command that starts the server's command."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*under, sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), *flags(engine)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, f"http://127.0.0.1:{port}", str(model), log)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()
