"""Offline runs of the real vLLM (`LLM.generate`), each in a process of its own.

Owns: telling `warm_process` what to run, and reading its answers. Leaves to others: requests
(`load`) and environment (`process_site`).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from load import Asked
from process_site import HERE, TINY_ENGINE, environment


class Offline:
    """Runs, one after another; all of them fork from one process that has vLLM imported."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder = process, folder
        self._runs = 0
        self.log = folder / "log"
        self.pid = 0
        self._running = False

    def start(
        self,
        model: Path,
        requests: Sequence[Asked],
        *,
        record: Path | None,
        stand_in: str = "",
        in_process: bool = True,
        engine: Mapping[str, object] | None = None,
        parts: int = 1,
        **variables: str,
    ) -> None:
        """Start a run and set `pid` and `log`.

        With `in_process` False the engine is a process of its own: spawned, or forked where
        `stand_in` holds `fork`. `engine` are settings in place of `TINY_ENGINE`'s. The
        requests come in so many `parts`; after each the prefix cache is reset.
        """
        if self._running:  # a test failed in the middle of its run
            self.kill()
        self._runs += 1
        self.log = self._folder / f"offline-{self._runs}.log"
        told = [(one.name, one.prompt, one.max_tokens) for one in requests]
        variables["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0" if in_process else "1"
        self._tell(
            {
                "model": str(model),
                "engine": TINY_ENGINE | dict(engine or {}),
                "parts": [told[at::parts] for at in range(parts)],
                "environment": environment(
                    self._folder / "site", record=record, stand_in=stand_in, **variables
                ),
                "log": str(self.log),
                "answers": str(self._answers),
            }
        )
        self.pid = self._hear()["pid"]
        self._running = True

    def finish(self) -> dict[str, tuple[int, ...]]:
        """Wait for the run's end and return its answers by name; fail where it failed."""
        status = self._hear()["status"]
        self._running = False
        if status != 0:
            raise AssertionError(f"the run ended with {status}:\n{self.log.read_text()[-4000:]}")
        answers = json.loads(self._answers.read_text())
        return {name: tuple(tokens) for name, tokens in answers.items()}

    def kill(self) -> None:
        """End the run as a crash would, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._hear()
        self._running = False

    @property
    def _answers(self) -> Path:
        return self._folder / f"answers-{self._runs}.json"

    def _tell(self, run: dict[str, object]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(run) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> dict[str, int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError("the process with vLLM imported has ended")
        heard: dict[str, int] = json.loads(line)
        return heard


@contextlib.contextmanager
def offline_runs(folder: Path) -> Iterator[Offline]:
    """Import vLLM in a process beside this one and hold it until the block ends."""
    folder.mkdir()
    with (folder / "warm.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "warm_process.py")],
            env=environment(folder / "site", record=None),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    offline = Offline(process, folder)
    try:
        offline._hear()  # that it is ready
        yield offline
    finally:
        if offline._running:
            offline.kill()
        process.kill()
        process.communicate()
