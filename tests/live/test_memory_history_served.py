"""Memory history asked of a real vLLM: without CUDA a line, with it (stood in) a snapshot."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from load import Asked, draw_requests, send
from offline import Offline
from process_site import TINY_ENGINE, environment
from seen import kvatlas
from server import serving

from kvatlas.cli.__main__ import run
from kvatlas.device import read_snapshot
from kvatlas.live.history_folder import living

Answers = dict[str, dict[str, tuple[int, ...]]]


def test_without_cuda_a_line_and_nothing_else(
    offline: Offline,
    models: dict[str, Path],
    requests_150: list[Asked],
    plain_answers: Answers,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """GIVEN a PyTorch without CUDA WHEN a history is wanted THEN one line, the same answers."""
    folder = tmp_path / "history"
    offline.start(
        models["llama"], requests_150, record=None, in_process=False,
        KVATLAS_MEMORY_HISTORY=str(folder),
    )  # fmt: skip
    assert offline.finish() == plain_answers["llama"]
    said = [line for line in offline.log.read_text().splitlines() if "kvatlas" in line]
    assert len(said) == 1
    assert said[0].endswith("kvatlas records no memory history: this PyTorch is built without CUDA")
    assert not folder.exists()
    assert run(["device", "capture", str(folder)]) == 2
    assert "no process records into it now" in capsys.readouterr().err


def test_a_server_without_cuda_serves_as_ever(models: dict[str, Path], tmp_path: Path) -> None:
    """GIVEN `vllm serve` under the command WHEN there is no CUDA THEN one line of all processes."""
    folder, log = tmp_path / "history", tmp_path / "log"
    asked = draw_requests(20)
    with serving(
        models["llama"], log, environment(tmp_path / "site", record=None), TINY_ENGINE,
        under=kvatlas("device", "capture", str(folder), "--"),
    ) as server:  # fmt: skip
        answers = send(server.url, server.model, asked)
        assert {name: len(tokens) for name, tokens in answers.items()} == {
            each.name: each.max_tokens for each in asked
        }
    said = [line for line in log.read_text().splitlines() if "kvatlas" in line]
    assert said[0].startswith("kvatlas: snapshots go to")
    assert len([line for line in said if "built without CUDA" in line]) == 1
    assert not folder.exists()


def test_a_running_engine_writes_a_snapshot_when_asked(
    offline: Offline,
    models: dict[str, Path],
    requests_150: list[Asked],
    plain_answers: Answers,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """GIVEN a worker with its history on WHEN asked in mid-run THEN it writes, and serves on."""
    offline.start(
        models["llama"], requests_150, record=None, in_process=False, stand_in="cuda-history",
        KVATLAS_MEMORY_HISTORY=str(tmp_path / "history"), KVATLAS_MEMORY_HISTORY_EVENTS="5000",
    )  # fmt: skip
    folder = tmp_path / "history"
    deadline = time.monotonic() + 180
    while not (folder.is_dir() and living(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run(["device", "capture", str(folder)]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert offline.finish() == plain_answers["llama"]

    # The worker is the engine's process here: one that used the device, and not the one that asks.
    assert len(written) == 1
    snapshot = read_snapshot(written[0])
    pid = int(snapshot.blocks.requested_bytes[0]) // 512
    assert written[0].name.endswith(f"-{pid}.pickle")
    assert pid != offline.pid
    assert "'max_entries': 5000" in offline.log.read_text()
