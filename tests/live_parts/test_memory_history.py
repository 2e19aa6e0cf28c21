"""Memory history in a process whose device is stood in: requests, failures, what goes wrong."""

from __future__ import annotations

import errno
import json
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kvatlas.errors import InputError
from kvatlas.live import memory_history
from kvatlas.live.history_folder import HistoryFolder, ask, living, write_whole
from kvatlas.live.memory_history import HistorySettings, MemoryHistory, stand_by
from kvatlas.live.plugin import read_history_settings, register

SNAPSHOT: dict[str, Any] = {"segments": [], "device_traces": [[]], "allocator_settings": {}}


class Device:
    """What PyTorch with CUDA shows of itself to a history, and what was asked of it."""

    def __init__(self, cuda: str | None = "13.0") -> None:
        self.queued: list[Callable[[], None]] = []
        self.observers: list[Callable[[int, int, int, int], None]] = []
        self.asked: list[dict[str, Any]] = []
        self.fail: Exception | None = None
        self.torch = SimpleNamespace(
            __version__="2.13.0",
            version=SimpleNamespace(cuda=cuda),
            cuda=SimpleNamespace(
                _lazy_call=self.queued.append,
                memory=SimpleNamespace(
                    _record_memory_history=lambda **asked: self.asked.append(asked),
                    _snapshot=self.snapshot,
                ),
            ),
            _C=SimpleNamespace(_cuda_attach_out_of_memory_observer=self.observers.append),
        )

    def snapshot(self) -> dict[str, Any]:
        if self.fail is not None:
            raise self.fail
        return SNAPSHOT


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def history(
    device: Device, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MemoryHistory]:
    """A history that has begun."""
    monkeypatch.setattr(memory_history, "_POLL_S", 0.01)
    history = MemoryHistory(device.torch, HistorySettings(tmp_path / "h", 2000), said.append)
    history.begin()
    yield history
    history.stop()


def test_a_history_begins_when_the_device_is_used_and_not_before(
    device: Device, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_history, "_standing_by", threading.Event())
    monkeypatch.setattr(memory_history, "_histories", [])
    settings = HistorySettings(tmp_path / "h", 2000, "all")
    assert stand_by(device.torch, settings, said.append)
    assert stand_by(device.torch, settings, said.append)  # vLLM loads plugins more than once
    assert (len(device.queued), device.asked, said) == (1, [], [])
    assert not settings.folder.exists()
    device.queued[0]()
    assert device.asked == [
        {"enabled": "all", "context": "all", "stacks": "all", "max_entries": 2000}
    ]
    assert said == [f"kvatlas records memory history; snapshots go to {settings.folder}"]
    assert len(living(settings.folder)) == 1
    memory_history._histories[0].stop()


def test_who_asks_gets_a_snapshot_each_time(history: MemoryHistory, tmp_path: Path) -> None:
    folder = tmp_path / "h"
    written = [ask(folder, 10.0) for _ in range(2)]
    names = [each.file for answers in written for each in answers]
    assert len(set(names)) == 2
    for name in names:
        assert name is not None
        assert pickle.loads((folder / name).read_bytes()) == SNAPSHOT
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    # What was only said between the two is gone.
    left = {path.name.split("-")[0] for path in folder.iterdir()}
    assert left == {"process", "snapshot"}


def test_a_snapshot_that_fails_is_answered_with_why(
    history: MemoryHistory, device: Device, said: list[str], tmp_path: Path
) -> None:
    device.fail = OSError(errno.ENOSPC, "No space left on device")
    (answer,) = ask(tmp_path / "h", 10.0)
    assert (answer.file, answer.pid) == (None, os.getpid())
    assert answer.error is not None
    assert "No space left" in answer.error
    assert "No space left" in said[-1]
    device.fail = None
    assert ask(tmp_path / "h", 10.0)[0].file is not None


def test_out_of_memory_leaves_a_snapshot_but_not_hundreds(
    history: MemoryHistory, device: Device, said: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """GIVEN failures in a row WHEN the program catches them THEN few are written."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    (observer,) = device.observers
    for _ in range(200):
        observer(0, 384 << 20, 1 << 30, 330 << 20)
        now[0] += 1.0
    written = sorted((tmp_path / "h").glob("oom-*.pickle"))
    assert len(written) == 3
    assert pickle.loads(written[0].read_bytes()) == SNAPSHOT
    assert f"device 0 had no {384 << 20} bytes" in said[-1]


def test_a_snapshot_that_fails_does_not_hide_the_failure(
    history: MemoryHistory, device: Device, said: list[str], tmp_path: Path
) -> None:
    device.fail = RuntimeError("a fault of the test's")
    device.observers[0](0, 1, 1, 1)
    assert said[-1] == "kvatlas wrote no memory snapshot: RuntimeError: a fault of the test's"
    assert not list((tmp_path / "h").glob("*oom*"))


def test_a_history_that_cannot_begin_is_a_line(
    device: Device, said: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    MemoryHistory(device.torch, HistorySettings(tmp_path / "file"), said.append).begin()
    assert len(said) == 1
    assert said[0].startswith("kvatlas records no memory history: FileExistsError")
    device.torch._C = SimpleNamespace()
    MemoryHistory(device.torch, HistorySettings(tmp_path / "h"), said.append).begin()
    assert "AttributeError" in said[1]


def test_without_cuda_a_line_once_for_this_process_and_its_children(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(memory_history.__dict__, "_standing_by", threading.Event())
    monkeypatch.setitem(sys.modules, "torch", Device(cuda=None).torch)
    monkeypatch.setenv("KVATLAS_MEMORY_HISTORY", str(tmp_path / "h"))
    for _ in range(3):
        register()
    assert [record.getMessage() for record in caplog.records] == [
        "kvatlas records no memory history: this PyTorch is built without CUDA"
    ]
    assert not (tmp_path / "h").exists()


def test_who_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    """GIVEN a process killed without a word THEN its file is old, and nobody waits."""
    folder = HistoryFolder(tmp_path)
    folder.sign_on()
    assert len(living(tmp_path)) == 1
    (mine,) = tmp_path.iterdir()
    os.utime(mine, (time.time() - 60,) * 2)
    assert living(tmp_path) == []
    assert ask(tmp_path, 5.0) == []


def test_who_is_silent_is_waited_for_so_long(tmp_path: Path) -> None:
    HistoryFolder(tmp_path).sign_on()
    began = time.monotonic()
    assert ask(tmp_path, 0.3) == []
    assert 0.25 < time.monotonic() - began < 5


@pytest.mark.parametrize(
    "said", [b"", b"[]", b"{", b'{"file": "../../etc/passwd"}', b'{"file": 3, "error": [1]}',
             b"\xff" * 100_000],
)  # fmt: skip
def test_answers_that_make_no_sense_are_no_files(said: bytes, tmp_path: Path) -> None:
    folder = HistoryFolder(tmp_path)
    folder.sign_on()
    (who,) = living(tmp_path)

    def answer(_pause: float) -> None:
        for request in folder.open_requests():
            (tmp_path / f"answer-{request.name}-{who}.json").write_bytes(said)

    (found,) = ask(tmp_path, 5.0, pause=answer)
    assert found.file is None
    assert found.error


def test_requests_from_before_are_not_answered(tmp_path: Path) -> None:
    (tmp_path / "request-00000000").touch()
    (tmp_path / "request-nonsense").touch()
    folder = HistoryFolder(tmp_path)
    assert list(folder.open_requests()) == []
    (tmp_path / "request-00000001").touch()
    assert [each.name for each in folder.open_requests()] == ["00000001"]
    assert list(folder.open_requests()) == []


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def half(file: Any) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "x", half)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KVATLAS_MEMORY_HISTORY", "/dev/null"),
        ("KVATLAS_MEMORY_HISTORY", "~nobody-of-this-name/x"),
        ("KVATLAS_MEMORY_HISTORY_EVENTS", "999"),
        ("KVATLAS_MEMORY_HISTORY_EVENTS", "many"),
        ("KVATLAS_MEMORY_HISTORY_STACKS", "native"),
    ],
)
def test_what_the_environment_asks_for_is_checked(name: str, value: str, tmp_path: Path) -> None:
    plain = {"KVATLAS_MEMORY_HISTORY": str(tmp_path)}
    assert read_history_settings(plain) == HistorySettings(tmp_path, 100_000, "python")
    with pytest.raises(InputError, match=name):
        read_history_settings(plain | {name: value})


def test_a_process_that_ends_says_so(history: MemoryHistory, tmp_path: Path) -> None:
    assert len(living(tmp_path / "h")) == 1
    history.stop()
    assert living(tmp_path / "h") == []


def test_a_file_that_somebody_removed_is_written_again(tmp_path: Path) -> None:
    folder = HistoryFolder(tmp_path)
    folder.sign_on(events=7)
    for path in tmp_path.iterdir():
        path.unlink()
    folder.show_alive()
    (mine,) = tmp_path.iterdir()
    assert json.loads(mine.read_bytes())["events"] == 7


def test_a_process_says_what_it_records_with(history: MemoryHistory, tmp_path: Path) -> None:
    (mine,) = (tmp_path / "h").glob("process-*.json")
    said = json.loads(mine.read_bytes())
    assert (said["pid"], said["events"], said["torch"]) == (os.getpid(), 2000, "2.13.0")
