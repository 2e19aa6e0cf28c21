"""`capture`: a snapshot of this process where there is a device, one line where there is none."""

from __future__ import annotations

import pickle
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kvatlas.device import DeviceTwin, capture, read_snapshot
from kvatlas.errors import InputError


def has_device() -> bool:
    if find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


needs_device = pytest.mark.skipif(not has_device(), reason="no CUDA device here")
MIB = 1 << 20


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed here")
def test_without_torch_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs torch"), capture(tmp_path / "x.pickle"):
        raise AssertionError("the block must not run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.vllm
@pytest.mark.skipif(find_spec("torch") is None or has_device(), reason="torch without a device")
def test_without_a_device_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no CUDA device here"), capture(tmp_path / "x.pickle"):
        raise AssertionError("the block must not run")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is asked of a torch that is stood in."""
    asked: list[Any] = []
    memory = SimpleNamespace(
        _record_memory_history=lambda **wanted: asked.append(wanted["enabled"]),
        _snapshot=lambda: {"segments": [], "device_traces": [[]], "allocator_settings": {}},
    )
    cuda = SimpleNamespace(is_available=lambda: True, memory=memory)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, __version__="2.13.0"))
    return asked


def test_the_history_ends_with_the_block_and_is_written_when_it_raises(
    asked: list[Any], tmp_path: Path
) -> None:
    with pytest.raises(MemoryError), capture(tmp_path / "x.pickle"):
        raise MemoryError
    assert asked == ["all", None]
    assert pickle.loads((tmp_path / "x.pickle").read_bytes())["segments"] == []


@pytest.mark.parametrize(
    ("path", "wanted", "said"),
    [
        ("none/x.pickle", {}, "no such directory"),
        ("x.pickle", {"max_events": 0}, "not a number of events"),
        ("x.pickle", {"stacks": "few"}, "no such stacks"),
    ],
)
def test_what_cannot_be_is_refused_before_the_block(
    path: str, wanted: dict[str, Any], said: str, asked: list[Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said), capture(tmp_path / path, **wanted):
        raise AssertionError("the block must not run")
    assert asked == []


def test_a_file_that_cannot_be_written_is_a_line_and_the_history_ends(
    asked: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written"), capture(tmp_path / "folder"):
        pass
    assert asked == ["all", None]


@pytest.mark.vllm
@needs_device
def test_a_program_on_a_device_replays_to_the_byte(tmp_path: Path) -> None:
    """GIVEN blocks of many sizes, freed and not WHEN captured THEN the twin decides the same."""
    import torch

    with capture(tmp_path / "x.pickle"):
        held = [torch.empty(size * MIB, dtype=torch.uint8, device="cuda") for size in (1, 7, 30, 3)]
        del held[1]
        held.append(torch.empty(5 * MIB, dtype=torch.uint8, device="cuda"))
    twin = DeviceTwin(read_snapshot(tmp_path / "x.pickle"))
    found = twin.replay_recorded(check=True)
    assert found.identical
    assert found.allocs >= 5
    assert len(held) == 4


@pytest.mark.vllm
@needs_device
def test_a_failure_on_a_device_is_in_the_trace(tmp_path: Path) -> None:
    import torch

    with pytest.raises(torch.cuda.OutOfMemoryError), capture(tmp_path / "x.pickle"):
        torch.empty(1 << 45, dtype=torch.uint8, device="cuda")
    trace = read_snapshot(tmp_path / "x.pickle").traces[0]
    assert (trace.action == 7).any()
