"""Frames: the whole pool at moments spread over a run's clock, small enough for a page.

Owns: which moments, what is left out when there is no room for all, the packed form. Leaves to
others: writing frames (`frame_writer`), reading them (`frame_codec`), drawing.

The time of a frame is counted in ticks, 65,535th parts of the run; so are ages and next uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.events.chunk import Chunk
from kvatlas.events.header import Header
from kvatlas.measure import _frames_kernel as kernel
from kvatlas.measure.frame_codec import Frame, read_frames
from kvatlas.measure.frame_writer import Room, empty_cells
from kvatlas.records import Records, one_record

__all__ = ["MOST_BLOCKS", "BlockFrames", "take_frames"]

Chunks = Callable[[], Iterable[Chunk]]

MOST_BLOCKS = 1 << 22
"""Larger pools get no frames: two of them would fill a page."""
_LAST_TICK = 65_534
_MOST_CELLS = 1 << 25  # next uses are kept for every cell of every frame: 64 MB
_FEWEST_FRAMES = 12  # rather than fewer, attributes go
_TRIES = 6
_WELL_FILLED = 0.85
_MOST_NAME_CHARACTERS = 400_000


@dataclass(frozen=True, slots=True, eq=False)
class BlockFrames:
    """K packed frames of N blocks.

    Attributes:
        num_blocks, has_null, num_requests: as in the events' header.
        start_s: the clock at tick 0.
        tick_s: seconds per tick.
        ticks: (K,) when the frames are, rising.
        streams: what `_frame_tape_kernel` wrote, each compressed with zlib, by its name.
        wide_keys: keys are 8 bytes each.
        has_keys, has_times: False where keys, or ages and next uses, were left out.
        thinned: what was left out and why, in plain words; empty when nothing was.
        names: the requests' own ids, by number; empty when not known.
    """

    num_blocks: int
    has_null: bool
    num_requests: int
    start_s: float
    tick_s: float
    ticks: tuple[int, ...]
    streams: Mapping[str, bytes]
    wide_keys: bool
    has_keys: bool
    has_times: bool
    thinned: str
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ticks)

    @property
    def packed_bytes(self) -> int:
        """Return how large the streams are."""
        return sum(len(stream) for stream in self.streams.values())

    def frames(self) -> Iterator[Frame]:
        """Yield the frames one after the other; a second for some 200,000 blocks that changed."""
        return read_frames(
            self.streams,
            num_blocks=self.num_blocks,
            num_requests=self.num_requests,
            has_null=self.has_null,
            ticks=self.ticks,
            start_s=self.start_s,
            tick_s=self.tick_s,
            wide_keys=self.wide_keys,
        )


def take_frames(
    header: Header,
    chunks: Chunks,
    *,
    most_frames: int = 120,
    most_bytes: int = 5_000_000,
    names: Sequence[str] = (),
) -> BlockFrames | None:
    """Return as many frames as `most_bytes` hold, None for a pool that no page can show.

    Goes through the events three times, and once more when there is too much for `most_bytes`:
    O(events + frames * blocks). Memory: some 200 bytes per block, and 64 MB at most.

    Args:
        header: of the stream.
        chunks: gives the resolved events, from the first on, each time it is called.
        most_frames: frames at best, 1 or more.
        most_bytes: size of the compressed streams.
        names: the requests' own ids.
    """
    if header.num_blocks > MOST_BLOCKS:
        return None
    start_ms, end_ms = _span(chunks())
    span_ms = end_ms - start_ms
    wanted = max(1, min(most_frames, _MOST_CELLS // header.num_blocks)) if span_ms > 0 else 1
    all_ticks = np.unique(np.linspace(0, _LAST_TICK, wanted).astype(np.int64))
    if wanted == 1:
        all_ticks = np.array([_LAST_TICK])
    walk = _Walk(header, chunks, start_ms, max(span_ms, 1e-9))
    uses = np.zeros((all_ticks.size, header.num_blocks), np.uint16)
    for _ in walk.moments(all_ticks, uses):
        pass
    packing = _Packing(walk, all_ticks, uses, Room(header, most_bytes))
    packing.fill()
    kept_names = tuple(names)
    too_long = sum(map(len, kept_names)) > _MOST_NAME_CHARACTERS
    return BlockFrames(
        num_blocks=header.num_blocks,
        has_null=header.has_null,
        num_requests=header.num_requests,
        start_s=start_ms / 1e3,
        tick_s=walk.tick_ms / 1e3,
        ticks=tuple(all_ticks[packing.chosen].tolist()),
        streams=packing.room.streams,
        wide_keys=header.num_keys == 0,
        has_keys=packing.has_keys,
        has_times=packing.has_times,
        thinned=_said(packing, min(most_frames, wanted), too_long, most_bytes),
        names=() if too_long else kept_names,
    )


def _span(chunks: Iterable[Chunk]) -> tuple[float, float]:
    first, last = np.inf, -np.inf
    for rows, _ in chunks:
        if len(rows):
            first = min(first, float(rows["time_ms"].min()))
            last = max(last, float(rows["time_ms"].max()))
    return (first, last) if first <= last else (0.0, 0.0)


def _said(packing: _Packing, wanted: int, too_long: bool, most_bytes: int) -> str:
    left_out = []
    if packing.chosen.size < wanted:
        left_out.append(f"{packing.chosen.size} moments instead of {wanted}")
    if not packing.has_keys:
        left_out.append("no hashes")
    if not packing.has_times:
        left_out.append("no ages and next uses")
    if too_long:
        left_out.append("no request names")
    if not left_out:
        return ""
    return f"To keep the map within {most_bytes / 1e6:.1f} MB: {', '.join(left_out)}."


class _Walk:
    """Goes through the events and stops at moments."""

    def __init__(self, header: Header, chunks: Chunks, start_ms: float, span_ms: float) -> None:
        self.header, self.chunks = header, chunks
        self.start_ms, self.tick_ms = start_ms, span_ms / _LAST_TICK

    def moments(
        self, ticks: NDArray[np.int64], uses: NDArray[np.uint16] | None
    ) -> Iterator[Records]:
        """Yield the cells at each of `ticks`; with `uses` (K, N), fill in the next uses."""
        blocks = self.header.num_blocks
        cells = empty_cells(blocks)
        pending = np.zeros(blocks, np.int32)
        clock = one_record(kernel.CLOCK, last_tick=_LAST_TICK)
        clock.start_ms, clock.ticks_per_ms = self.start_ms, 1 / self.tick_ms
        known = np.zeros((0, blocks), np.uint16) if uses is None else uses
        limits = [self.start_ms + tick * self.tick_ms for tick in ticks.tolist()]
        if limits[-1:] and ticks[-1] == _LAST_TICK:
            limits[-1] = np.inf
        for rows, ids in self.chunks():
            at = 0
            while at < len(rows):
                until = limits[clock.frame] if clock.frame < len(limits) else np.inf
                at = kernel.advance(
                    cells, pending, known, clock, rows.view(np.recarray), ids, at, until
                )
                if at < len(rows):
                    yield cells
                    clock.frame += 1
        while clock.frame < len(limits):
            yield cells
            clock.frame += 1


class _Packing:
    """Finds out how many of the moments fit into the room."""

    def __init__(
        self, walk: _Walk, ticks: NDArray[np.int64], uses: NDArray[np.uint16], room: Room
    ) -> None:
        self.walk, self.ticks, self.uses, self.room = walk, ticks, uses, room
        self.chosen = np.arange(ticks.size)
        self.has_keys = self.has_times = True

    def fill(self) -> None:
        """Write as many frames as fit; rather than a few, frames without keys or times."""
        count, all_frames = self.ticks.size, self.ticks.size
        for number in range(_TRIES):
            # The first try may be far too large: an estimate does. Then it takes the truth.
            share = self.write(count, whole=number > 0)
            if share <= 1 or (count == 1 and not self.has_times):
                break
            count = max(1, int(0.92 * count / share))
            if count < min(_FEWEST_FRAMES, all_frames) and self.has_times:
                self.has_keys, self.has_times = False, self.has_keys
                count = all_frames
        more = min(all_frames, int(0.96 * count / max(share, 1e-9)))
        if more > count and share < _WELL_FILLED:
            kept, streams = self.chosen, self.room.streams
            if self.write(more, whole=False) > 1:
                self.chosen, self.room.streams = kept, streams

    def write(self, count: int, *, whole: bool) -> float:
        """Write `count` frames; return how much of the room they need."""
        last = self.ticks.size - 1  # always among them
        self.chosen = np.unique(np.linspace(last, 0, count).round().astype(np.int64))
        moments = self.walk.moments(self.ticks[self.chosen], None)
        frames = (
            (cells, self.uses[at], int(self.ticks[at]))
            for at, cells in zip(self.chosen.tolist(), moments, strict=True)
        )
        return self.room.write(frames, self.chosen.size, self.has_keys, self.has_times, whole=whole)
