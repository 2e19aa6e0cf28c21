"""PyTorch's out-of-memory message, in the words of every version from 1.0 to 2.13.

Owns: the three forms, the figures in them, how exact a printed figure is. Leaves to others: finding
the message in a log (`failure_log`), what it means (`message_verdict`).

Source: c10/cuda/CUDACachingAllocator.cpp of PyTorch (THC/THCCachingAllocator.cpp before 1.2),
c10/xpu/XPUCachingAllocator.cpp; the build for ROCm says HIP where the other says CUDA.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["MESSAGE_BEGINS", "OomMessage", "parse_message"]

_SIZE = r"([0-9]{1,20}(?:\.[0-9]{1,4})?) (bytes|KiB|MiB|GiB)"
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_UNKNOWN = 1 << 60
"""NVML says 2**64 - 1, printed 17179869184.00 GiB, where it cannot tell (Windows, some containers).
"""
_USUAL_OUTSIDE = 1 << 30
"""A process takes this much at most outside PyTorch, as a rule; and the driver for itself."""
_MOST_OUTSIDE = 2 << 30
MESSAGE_BEGINS = "out of memory. Tried to allocate "
"""What every form holds."""

# PyTorch 2.1 and later; up to 2.2 it says "capacty".
_NEW = re.compile(
    rf"(CUDA|HIP|XPU) out of memory\. Tried to allocate {_SIZE}\. GPU ([0-9]{{1,4}}) has a total "
    rf"capaci?ty of {_SIZE} of which {_SIZE} is free\."
)
_PROCESS = re.compile(rf"Process ([0-9]{{1,20}}) has {_SIZE} memory in use\.")
_THIS = re.compile(rf"[Tt]his process has {_SIZE} memory in use\.")
_ALLOWED = re.compile(rf"{_SIZE} allowed;")
_ALLOCATED = re.compile(rf"Of the allocated memory {_SIZE} is allocated by PyTorch")
_PRIVATE = re.compile(rf"with {_SIZE} allocated in private pools")
_UNALLOCATED = re.compile(rf"{_SIZE} is reserved by PyTorch but unallocated")
# PyTorch 1.0 to 2.0; up to 1.3 it gives what is cached and not allocated, then all of both.
_OLD = re.compile(
    rf"(CUDA|HIP) out of memory\. Tried to allocate {_SIZE} \(GPU ([0-9]{{1,4}}); "
    rf"{_SIZE} total capacity; {_SIZE} already allocated; {_SIZE} free; (?:{_SIZE} allowed; )?"
    rf"{_SIZE} (reserved in total by PyTorch|cached)\)"
)
_MOST_PROCESSES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class OomMessage:
    """The figures of one message; None where its form does not have one.

    Attributes:
        since: the version of PyTorch that this form came with: 1.0, 1.4 or 2.1.
        backend: CUDA, HIP or XPU.
        device: the GPU as the process counts them.
        asked_bytes: the request, rounded up as the allocator does.
        total_bytes, free_bytes: of the device, as its driver says.
        allowed_bytes: what the process's own memory fraction allows; None: no fraction is set.
        process_bytes: in use by this process, its CUDA context and libraries included.
        others: (process id, bytes or None) of the other processes that the driver names. Inside a
            container this process may be among them, under its number outside.
        allocated_bytes: in live tensors.
        idle_bytes: free inside private pools. PyTorch prints them as "allocated in private pools"
            and counts them among what is allocated; here they are apart.
        unallocated_bytes: reserved and free elsewhere. PyTorch has released every whole free
            segment before it says so, so that these are stuck, unless a graph is being captured.
        slack_bytes: how far the sum of asked, free and unallocated bytes may be off, because two
            decimals are printed.
    """

    since: str
    backend: str
    device: int
    asked_bytes: int
    total_bytes: int
    free_bytes: int
    allowed_bytes: int | None
    process_bytes: int | None
    others: tuple[tuple[int, int | None], ...]
    allocated_bytes: int | None
    idle_bytes: int
    unallocated_bytes: int | None
    slack_bytes: int

    @property
    def reserved_bytes(self) -> int | None:
        """What PyTorch has from the driver."""
        if self.allocated_bytes is None or self.unallocated_bytes is None:
            return None
        return self.allocated_bytes + self.idle_bytes + self.unallocated_bytes

    @property
    def outside_bytes(self) -> int | None:
        """What this process holds outside PyTorch: CUDA context, NCCL, libraries."""
        if self.process_bytes is None or self.reserved_bytes is None:
            return None
        return max(0, self.process_bytes - self.reserved_bytes)

    @property
    def own_process(self) -> int | None:
        """Which of `others` is this process by its size, None where the driver knows it itself.

        Inside a container a process does not know its number outside. Its size is what PyTorch has
        and some hundred MiB of CUDA context.
        """
        reserved = self.reserved_bytes
        if self.process_bytes is not None or not reserved:
            return None
        more = [
            (size - reserved, process)
            for process, size in self.others
            if size is not None and -self.slack_bytes <= size - reserved < _MOST_OUTSIDE
        ]
        return min(more)[1] if more else None

    @property
    def others_bytes(self) -> int | None:
        """What other processes hold, 0 for none, None where the message does not let one say.

        Those that the driver names; and where more than a GiB of the device is unaccounted for,
        that: other containers' processes are not named everywhere.
        """
        mine = self.process_bytes
        own = self.own_process
        if mine is None and own is not None:
            mine = dict(self.others)[own]
        named = sum(size or 0 for process, size in self.others if process != own)
        if mine is None:
            if self.reserved_bytes is None:
                return named or None
            mine = self.reserved_bytes + _USUAL_OUTSIDE
        unaccounted = self.total_bytes - self.free_bytes - mine
        return max(named, unaccounted if unaccounted > _USUAL_OUTSIDE else 0)


def parse_message(text: str) -> OomMessage | None:
    """Return the first message in `text`, None without one; O(characters).

    Runs of blanks and line ends count as one blank, so that a message that somebody wrapped reads
    as well. What stands after the next message's beginning is not looked at.
    """
    text = " ".join(text.split())
    found, form = _NEW.search(text), "new"
    old = _OLD.search(text)
    if old is not None and (found is None or old.start() < found.start()):
        found, form = old, "old"
    if found is None:
        return None
    if form == "old":
        return _of_old(found)
    rest = text[found.end() :]
    following = rest.find(MESSAGE_BEGINS)
    return _of_new(found, rest if following < 0 else rest[:following])


def _of_new(head: re.Match[str], rest: str) -> OomMessage:
    asked, total, free = _asked(head), _known(head, 5), _known(head, 7)
    allocated = _first(_ALLOCATED, rest)
    idle = _first(_PRIVATE, rest) or 0
    unallocated = _UNALLOCATED.search(rest)
    slack = _slack(head, 2) + _slack(head, 7)
    return OomMessage(
        since="2.1",
        backend=head[1],
        device=int(head[4]),
        asked_bytes=asked,
        total_bytes=total,
        free_bytes=free,
        allowed_bytes=_first(_ALLOWED, rest),
        process_bytes=_first(_THIS, rest),
        others=tuple(
            (int(each[1]), _bytes(each, 2))
            for _, each in zip(range(_MOST_PROCESSES), _PROCESS.finditer(rest), strict=False)
        ),
        allocated_bytes=None if allocated is None else max(0, allocated - idle),
        idle_bytes=idle,
        unallocated_bytes=None if unallocated is None else _bytes(unallocated, 1),
        slack_bytes=slack + (0 if unallocated is None else _slack(unallocated, 1)),
    )


def _of_old(found: re.Match[str]) -> OomMessage:
    asked = _asked(found)
    total, allocated, free, held = (_known(found, at) for at in (5, 7, 9, 13))
    cached = found[15] == "cached"
    return OomMessage(
        since="1.0" if cached else "1.4",
        backend=found[1],
        device=int(found[4]),
        asked_bytes=asked,
        total_bytes=total,
        free_bytes=free,
        allowed_bytes=None if found[11] is None else _bytes(found, 11),
        process_bytes=None,
        others=(),
        allocated_bytes=allocated,
        idle_bytes=0,
        unallocated_bytes=held if cached else max(0, held - allocated),
        slack_bytes=sum(_slack(found, at) for at in ((2, 9, 13) if cached else (2, 7, 9, 13))),
    )


def _first(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return None if found is None else _bytes(found, 1)


def _asked(found: re.Match[str]) -> int:
    """Return what was asked for; beyond all sense it is still a number."""
    size = _bytes(found, 2)
    return _UNKNOWN if size is None else size


def _known(found: re.Match[str], at: int) -> int:
    return _bytes(found, at) or 0


def _bytes(found: re.Match[str], at: int) -> int | None:
    """Return the size in groups `at` and `at + 1`, None for the driver's "cannot tell"."""
    size = round(float(found[at]) * _UNITS[found[at + 1]])
    return None if size >= _UNKNOWN else size


def _slack(found: re.Match[str], at: int) -> int:
    """Return how far a printed size is off at most: half of its last digit."""
    decimals = len(found[at].partition(".")[2])
    unit = _UNITS[found[at + 1]]
    return 0 if unit == 1 else int(unit / (2 * 10**decimals)) + 1
