"""Reading packed frames in Python: the same walk that the page's script does.

Owns: the format's reading half, `Frame`. Leaves to others: writing (`_frame_tape_kernel`), packing.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.events.schema import NONE
from kvatlas.events.snapshot import EMPTY, EVICTABLE, USED

__all__ = ["Frame", "read_frames"]

_NO_KEY = 3
_AS_BEFORE, _AS_OWNER = 0, 1


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """All blocks at one moment, (N,) each.

    Attributes:
        time_s: the moment.
        state: EMPTY, EVICTABLE or USED (`kvatlas.events.snapshot`); the null block counts as used.
        owner: the request that took the block last; -1 once nothing of it is left in the block.
        ref_count: owners.
        key: what is cached, -1 for nothing.
        since_s: when it came into this state or was allocated, on the run's clock.
        next_use_s: when it will be hit next while its content lives, NaN for never.
    """

    time_s: float
    state: NDArray[np.int8]
    owner: NDArray[np.int32]
    ref_count: NDArray[np.int32]
    key: NDArray[np.int64]
    since_s: NDArray[np.float64]
    next_use_s: NDArray[np.float64]


def read_frames(
    streams: Mapping[str, bytes],
    *,
    num_blocks: int,
    num_requests: int,
    has_null: bool,
    ticks: Sequence[int],
    start_s: float,
    tick_s: float,
    wide_keys: bool,
) -> Iterator[Frame]:
    """Yield the frames of `BlockFrames`; its attributes are the arguments."""
    reader = _Reader(streams, num_blocks, num_requests, wide_keys)
    for tick in ticks:
        reader.read(tick)
        state = np.where(reader.key != NONE, np.int8(EVICTABLE), np.int8(EMPTY))
        state[reader.ref_count > 0] = USED
        if has_null:
            state[0] = USED
        known = reader.next_use > 0
        next_use_s = start_s + (reader.next_use - 1) * tick_s
        yield Frame(
            time_s=start_s + tick * tick_s,
            state=state,
            owner=reader.owner.copy(),
            ref_count=reader.ref_count.copy(),
            key=reader.key.copy(),
            since_s=start_s + reader.since.astype(np.float64) * tick_s,
            next_use_s=np.where(known, next_use_s, np.nan),
        )


class _Reader:
    def __init__(
        self, streams: Mapping[str, bytes], num_blocks: int, num_requests: int, wide_keys: bool
    ) -> None:
        self.numbers = {
            name: _unpacked(name, zlib.decompress(data), wide_keys)
            for name, data in streams.items()
        }
        self.at = dict.fromkeys(streams, 0)
        self.wide_keys, self.num_blocks = wide_keys, num_blocks
        self.owner = np.full(num_blocks, NONE, np.int32)
        self.key = np.full(num_blocks, NONE, np.int64)
        self.ref_count = np.zeros(num_blocks, np.int32)
        self.since = np.zeros(num_blocks, np.int32)
        self.next_use = np.zeros(num_blocks, np.int32)
        # One more than there are requests: NONE is the last.
        self.last_key = [0] * (num_requests + 1)
        self.context = [(0, 0, 0)] * (num_requests + 1)
        self.last_since = 0
        self.order = np.arange(num_blocks)

    def take(self, name: str) -> int:
        at = self.at[name]
        self.at[name] = at + 1
        return self.numbers[name][at]

    def signed(self, name: str) -> int:
        number = self.take(name)
        return number // 2 if number % 2 == 0 else -(number + 1) // 2

    def read(self, tick: int) -> None:
        self.read_content()
        if self.wide_keys:
            self.order = self.order[np.argsort(self.owner[self.order], kind="stable")]
        else:
            self.order = np.lexsort((self.key, self.owner))
        self.read_condition(tick)

    def read_content(self) -> None:
        newest = self.take("newest") - 1
        at = 0
        while True:
            at += self.take("skip")
            if at >= self.num_blocks:
                return
            more, stride = divmod(self.take("length"), 4)
            stop = at + more + 1
            owner = newest - self.take("owner") - 256 * self.take("owner_high")
            where = self.order[at:stop]
            self.owner[where] = owner
            if stride == _NO_KEY:
                self.key[where] = NONE
            else:
                key = self.take("key") if self.wide_keys else self.last_key[owner]
                key += 0 if self.wide_keys else self.signed("key")
                self.key[where] = key + (stride - 1) * np.arange(more + 1)
                self.last_key[owner] = key + (stride - 1) * more
            at = stop
            if at == self.num_blocks:
                return

    def read_condition(self, tick: int) -> None:
        at = 0
        while at < self.num_blocks:
            more, code = divmod(self.take("code"), 3)
            stop = at + more + 1
            if code == _AS_OWNER:
                for block in self.order[at:stop].tolist():
                    self.set(block, self.context[self.owner[block]])
            elif code != _AS_BEFORE:
                self.last_since += self.signed("since")
                ahead = self.take("next_use")
                condition = (self.take("ref_count"), self.last_since, tick + ahead if ahead else 0)
                self.context[self.owner[self.order[at]]] = condition
                self.set(self.order[at:stop], condition)
            at = stop

    def set(self, where: Any, condition: tuple[int, int, int]) -> None:
        self.ref_count[where], self.since[where], self.next_use[where] = condition


def _unpacked(name: str, data: bytes, wide_keys: bool) -> list[int]:
    if name == "owner":
        return list(data)
    return _plain(np.frombuffer(data, "<i8")) if name == "key" and wide_keys else _numbers(data)


def _numbers(data: bytes) -> list[int]:
    """Return all LEB128 numbers in `data`; O(bytes)."""
    octets = np.frombuffer(data, np.uint8).astype(np.uint64)
    last = octets < 128
    starts = np.flatnonzero(np.concatenate(([True], last[:-1])))[: octets.size]
    place = np.arange(octets.size) - np.repeat(starts, np.diff(np.append(starts, octets.size)))
    parts = (octets & np.uint64(127)) << (7 * place).astype(np.uint64)
    return _plain(np.add.reduceat(parts, starts)) if starts.size else []


def _plain(numbers: NDArray[Any]) -> list[int]:
    return [int(number) for number in numbers.tolist()]
