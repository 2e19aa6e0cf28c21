"""Memory snapshots of any length, as PyTorch's allocator under default settings would record them.

A best-fit allocator on sorted lists: some 8 us an event. That it decides as PyTorch does is held
against the allocator twin (`tests/test_benchmark_device.py`).
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import Any

MIB = 1 << 20
_SMALL, _LARGE = 0, 1
_FIRST_ADDRESS = 1 << 31
_START_US = 1_700_000_000_000_000


@dataclass
class BestFit:
    """One device's allocator, which records what it does."""

    events: list[dict[str, Any]] = field(default_factory=list)
    free: tuple[list[tuple[int, int]], list[tuple[int, int]]] = field(
        default_factory=lambda: ([], [])
    )
    size: dict[int, int] = field(default_factory=dict)
    held: dict[int, tuple[int, Any]] = field(default_factory=dict)
    after: dict[int, int | None] = field(default_factory=dict)
    before: dict[int, int | None] = field(default_factory=dict)
    segments: dict[int, tuple[int, int]] = field(default_factory=dict)
    pool: dict[int, int] = field(default_factory=dict)
    next_address: int = _FIRST_ADDRESS
    now_us: int = _START_US

    def note(self, action: str, address: int, nbytes: int, stack: Any) -> None:
        """Record an event."""
        self.events.append(
            {"action": action, "addr": address, "size": nbytes, "stream": 0,
             "time_us": self.now_us, "frames": stack}
        )  # fmt: skip

    def allocate(self, asked: int, stack: Any) -> int:
        """Return the address of a new block."""
        nbytes = max(512, -(-asked // 512) * 512)
        pool = _SMALL if nbytes <= MIB else _LARGE
        at = bisect_left(self.free[pool], (nbytes, 0))
        if at < len(self.free[pool]):
            whole, address = self.free[pool].pop(at)
        else:
            address, whole = self._segment(nbytes, pool, stack)
        rest = whole - nbytes
        if rest >= 512 if pool == _SMALL else rest > MIB:
            behind = address + nbytes
            self._link(behind, self.after[address])
            self._link(address, behind)
            self.size[address], self.size[behind], self.pool[behind] = nbytes, rest, pool
            insort(self.free[pool], (rest, behind))
        self.held[address] = asked, stack
        self.note("alloc", address, asked, stack)
        return address

    def release(self, address: int) -> None:
        """Free a block, which joins its free neighbours."""
        asked, stack = self.held.pop(address)
        for action in ("free_requested", "free_completed"):
            self.note(action, address, asked, stack)
        pool = self.pool[address]
        earlier, later = self.before[address], self.after[address]
        for neighbour in (earlier, later):
            if neighbour is not None and neighbour not in self.held:
                shelf = self.free[pool]
                del shelf[bisect_left(shelf, (self.size[neighbour], neighbour))]
        if later is not None and later not in self.held:
            self._take_in(address, later)
        if earlier is not None and earlier not in self.held:
            self._take_in(earlier, address)
            address = earlier
        insort(self.free[pool], (self.size[address], address))

    def snapshot(self) -> dict[str, Any]:
        """Return what `torch.cuda.memory._snapshot()` returns."""
        segments = []
        for start, (nbytes, pool) in self.segments.items():
            blocks = []
            at: int | None = start
            while at is not None:
                asked, stack = self.held.get(at, (0, []))
                state = "active_allocated" if at in self.held else "inactive"
                blocks.append({"address": at, "size": self.size[at], "requested_size": asked,
                               "state": state, "frames": stack})  # fmt: skip
                at = self.after[at]
            live = sum(one["size"] for one in blocks if one["address"] in self.held)
            asked = sum(one["requested_size"] for one in blocks)
            segments.append(
                {"device": 0, "address": start, "total_size": nbytes, "allocated_size": live,
                 "active_size": live, "requested_size": asked, "stream": 0,
                 "segment_type": ("small", "large")[pool], "segment_pool_id": (0, 0),
                 "is_expandable": False, "frames": [], "blocks": blocks}
            )  # fmt: skip
        return {"segments": segments, "device_traces": [self.events], "allocator_settings": {}}

    def _segment(self, nbytes: int, pool: int, stack: Any) -> tuple[int, int]:
        whole = 2 * MIB if pool == _SMALL else 20 * MIB
        if nbytes >= 10 * MIB:
            whole = -(-nbytes // (2 * MIB)) * 2 * MIB
        address = self.next_address
        self.next_address += whole
        self.segments[address] = whole, pool
        self.size[address], self.pool[address] = whole, pool
        self.before[address] = self.after[address] = None
        self.note("segment_alloc", address, whole, stack)
        return address, whole

    def _link(self, earlier: int, later: int | None) -> None:
        self.after[earlier] = later
        if later is not None:
            self.before[later] = earlier

    def _take_in(self, address: int, later: int) -> None:
        self.size[address] += self.size.pop(later)
        self._link(address, self.after.pop(later))
        del self.before[later], self.pool[later]


def device_trace(
    num_events: int, *, live: int = 4000, seed: int = 1, depth: int = 30
) -> dict[str, Any]:
    """Return a snapshot of at least `num_events` events, the last one out of memory.

    Six phases in turn have fewer and more blocks than `live`, so that free bytes get stuck.
    """
    rng = random.Random(seed)
    stacks = _stacks(400, depth)
    device = BestFit()
    held: list[int] = []
    while len(device.events) < num_events - 1:
        device.now_us += rng.randrange(1, 40)
        wanted = live * (0.7, 1.6)[len(device.events) * 6 // num_events % 2]
        if held and rng.random() < (0.48 if len(held) < wanted else 0.53):
            newest = len(held) - 1
            at = rng.randrange(len(held))
            if rng.random() < 0.8:
                at = newest - min(newest, int(rng.expovariate(1 / 40)))
            held[at], held[-1] = held[-1], held[at]
            device.release(held.pop())
        else:
            stack = stacks[min(len(stacks) - 1, int(rng.expovariate(1 / 60)))]
            held.append(device.allocate(_size(rng), stack))
    device.note("oom", 0, 384 * MIB, stacks[0])
    failure = device.events[-1]
    failure["device_free"] = 330 * MIB
    del failure["addr"]
    return device.snapshot()


def _size(rng: random.Random) -> int:
    draw = rng.random()
    if draw < 0.35:
        return rng.randrange(1, 9_000)
    if draw < 0.55:
        return rng.randrange(9_000, 900_000)
    return rng.randrange(MIB, 9 * MIB) if draw < 0.92 else rng.randrange(10 * MIB, 60 * MIB)


def _stacks(count: int, depth: int) -> list[list[dict[str, Any]]]:
    frames = [
        {"name": f"call_{at}", "filename": f"/app/module_{at % 37}.py", "line": at % 400 + 1}
        for at in range(3000)
    ]
    return [
        [
            frames[
                (at * 7 + level) % 3000 if level < 8 else at % (8 * (level // 6) + 3) * 31 % 3000
            ]
            for level in range(depth)
        ]
        for at in range(count)
    ]
