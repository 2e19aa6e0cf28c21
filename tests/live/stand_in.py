"""A vLLM plugin of the tests: lets a CPU do what vLLM allows on a GPU only, and breaks things.

Owns: what `KVATLAS_STAND_IN` names, separated by commas, in every process of a tiny vLLM:
`async` (the two deep pipeline), `fork` (of the engine's process), and the faults of `FAULTS`.
Leaves to others: choosing them.

vLLM 0.32.0 turns asynchronous scheduling off on a CPU and sets the start method to spawn
(vllm/platforms/cpu.py), because a CPU gains nothing. Scheduler, pool and pipeline are the same code
on any device; the runner only wants CUDA's streams, and on a CPU there is nothing to wait for.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any


def register() -> None:
    """Change what the environment names. Called by vLLM in each of its processes, once or more."""
    wanted = set(filter(None, os.environ.get("KVATLAS_STAND_IN", "").split(",")))
    if wanted & {"async", "fork"}:
        _keep_what_was_asked(keep_async="async" in wanted, keep_fork="fork" in wanted)
    if "async" in wanted:
        _replace_streams()
    for name in wanted - {"async", "fork"}:
        FAULTS[name]()


def _keep_what_was_asked(*, keep_async: bool, keep_fork: bool) -> None:
    from vllm.platforms.cpu import CpuPlatform

    its_own = CpuPlatform.check_and_update_config.__func__

    def check_and_update_config(cls: type, vllm_config: Any) -> None:
        asked = vllm_config.scheduler_config.async_scheduling
        its_own(cls, vllm_config)
        if keep_async:
            vllm_config.scheduler_config.async_scheduling = asked
        if keep_fork:
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    if not hasattr(its_own, "stands_in"):
        check_and_update_config.stands_in = True  # type: ignore[attr-defined]
        CpuPlatform.check_and_update_config = classmethod(check_and_update_config)


class _Event:
    """A CUDA event of a device that has always finished."""

    def __init__(self, *arguments: object, **named: object) -> None: ...

    def record(self, *arguments: object) -> None: ...

    def wait(self, *arguments: object) -> None: ...

    def synchronize(self) -> None: ...

    def query(self) -> bool:
        return True


class _Stream(_Event):
    """A CUDA stream of the same device."""

    def wait_stream(self, *arguments: object) -> None: ...


@contextlib.contextmanager
def _on_stream(_stream: object) -> Iterator[None]:
    yield


def _replace_streams() -> None:
    import torch

    cuda: Any = torch.cuda
    cuda.Event, cuda.Stream = _Event, _Stream
    cuda.current_stream, cuda.stream = _Stream, _on_stream


def _clock_backwards() -> None:
    """Let the recorder's clock fall back by half a second, ten times a second."""
    from kvatlas.live import session

    def clock_ns() -> int:
        now = time.monotonic_ns()
        return now - (now // 100_000_000 % 2) * 500_000_000

    its_own = session.Session.__init__

    def init(self: Any, scheduler: Any, settings: Any, say: Any) -> None:
        its_own(self, scheduler, settings, say, clock_ns=clock_ns)

    _replace(session.Session, "__init__", init)


def _hook_errors(every: int) -> None:
    """Let the recorder fail at the end of every so-and-so-many steps."""
    from kvatlas.live.step_hooks import StepHooks

    its_own = StepHooks._step_ended
    calls = itertools.count(1)

    def step_ended(self: Any, *arguments: Any) -> None:
        if next(calls) % every == 0:
            raise RuntimeError("a fault of the test's")
        its_own(self, *arguments)

    _replace(StepHooks, "_step_ended", step_ended)


def _unknown_version() -> None:
    """Let vLLM be a version that nobody knows yet."""
    import vllm

    vllm.__version__ = "0.99.0"


def _disk_full_for_a_while() -> None:
    """Let there be room for one segment, none for the second, and room when it is tried again.

    By count, not by the clock: a fast machine is done with its whole load in a second or two.
    """
    its_own = os.posix_fallocate
    calls = itertools.count()

    def posix_fallocate(file: int, offset: int, length: int) -> None:
        if next(calls) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        its_own(file, offset, length)

    _replace(os, "posix_fallocate", posix_fallocate)


def _cuda_history() -> None:
    """Let there be a PyTorch with CUDA for the memory history alone, used when the worker is."""
    from types import SimpleNamespace

    import torch
    from vllm.v1.worker.cpu_worker import CPUWorker

    from kvatlas.live import memory_history

    waiting: list[Callable[[], None]] = []
    stand_in = SimpleNamespace(
        __version__=torch.__version__,
        version=SimpleNamespace(cuda="13.0"),
        cuda=SimpleNamespace(
            _lazy_call=waiting.append,
            memory=SimpleNamespace(
                _record_memory_history=lambda **asked: sys.stderr.write(f"history: {asked}\n"),
                _snapshot=_snapshot_of_this_process,
            ),
        ),
        _C=SimpleNamespace(_cuda_attach_out_of_memory_observer=lambda observer: None),
    )
    its_own, its_device = memory_history.stand_by, CPUWorker.init_device

    def stand_by(_torch: Any, settings: Any, say: Any) -> bool:
        return its_own(stand_in, settings, say)

    def init_device(self: Any) -> None:
        its_device(self)
        while waiting:
            waiting.pop(0)()

    _replace(memory_history, "stand_by", stand_by)
    _replace(CPUWorker, "init_device", init_device)


def _snapshot_of_this_process() -> dict[str, Any]:
    """Return a snapshot of one block, as large as the process's number says."""
    place = {"addr": 1 << 33, "stream": 0, "time_us": 0, "frames": []}
    size = 512 * os.getpid()
    segment_bytes = -(-size // (2 << 20)) * (2 << 20)
    block = {"address": 1 << 33, "size": segment_bytes, "requested_size": size, "frames": []}
    return {
        "segments": [
            {
                "device": 0, "address": 1 << 33, "total_size": segment_bytes,
                "allocated_size": segment_bytes, "active_size": segment_bytes,
                "requested_size": size, "stream": 0, "segment_type": "large",
                "segment_pool_id": (0, 0), "is_expandable": False, "frames": [],
                "blocks": [{**block, "state": "active_allocated"}],
            }
        ],
        "device_traces": [
            [
                {"action": "segment_alloc", "size": segment_bytes, **place},
                {"action": "alloc", "size": size, **place},
            ]
        ],
        "allocator_settings": {},
    }  # fmt: skip


def _replace(owner: Any, name: str, stand_in: Any) -> None:
    """Put something in the place of a function, once however often vLLM calls us."""
    if not hasattr(getattr(owner, name), "stands_in"):
        stand_in.stands_in = True
        setattr(owner, name, stand_in)


FAULTS: dict[str, Callable[[], None]] = {
    "clock-backwards": _clock_backwards,
    "hook-errors": functools.partial(_hook_errors, 40),
    "hook-always-fails": functools.partial(_hook_errors, 1),
    "unknown-version": _unknown_version,
    "disk-full-for-a-while": _disk_full_for_a_while,
    "cuda-history": _cuda_history,
}
