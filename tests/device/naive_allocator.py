"""PyTorch's CUDA caching allocator the slow and obvious way, written from its rules.

It keeps lists and looks through them for each call. It records what it does as the real one does,
and dumps a snapshot of itself. New segments lie above all others.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvatlas.device import AllocatorSettings

MIB = 1 << 20
WIDE = 1 << 42


class OutOfMemory(Exception):
    """Memory does not suffice."""


@dataclass(eq=False)
class Piece:
    """A block, or a piece of address space without memory (`unmapped`)."""

    address: int
    size: int
    state: str  # free, held, pending, unmapped
    requested: int = 0
    aged: int = 0


@dataclass(eq=False)
class Segment:
    """Pieces in order of address, of one size class, stream and pool."""

    small: bool
    stream: int
    pool: int
    pieces: list[Piece]
    page: int = 0  # of an expandable one

    @property
    def whole(self) -> bool:
        """Whether it is one block, so that the driver can have it back."""
        return not self.page and len(self.pieces) == 1


@dataclass
class NaiveAllocator:
    """One device's allocator."""

    settings: AllocatorSettings
    capacity: int | None = None
    allowed: int | None = None
    address: int = 2 * MIB
    segments: list[Segment] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    calls: dict[tuple[int, bool], int] = field(default_factory=dict)
    retries: int = 0
    delayed: list[int] = field(default_factory=list)  # the events

    # Sums

    def sizes(self, *states: str, pool: int | None = None) -> int:
        """Return the bytes in these states."""
        return sum(
            piece.size
            for segment in self.segments
            for piece in segment.pieces
            if piece.state in states and pool in (None, segment.pool)
        )

    @property
    def reserved(self) -> int:
        """Bytes from the driver."""
        return self.sizes("free", "held", "pending")

    @property
    def releasable(self) -> int:
        """Bytes of the common pool that the driver could have back."""
        total = 0
        for segment in self.segments:
            if segment.pool == 0:
                for piece in segment.pieces:
                    if piece.state == "free":
                        first, last = self.pages(segment, piece)
                        total += max(0, last - first) if segment.page else 0
                        total += piece.size if segment.whole else 0
        return total

    @staticmethod
    def pages(segment: Segment, piece: Piece) -> tuple[int, int]:
        """Return where the whole pages inside a piece begin and end."""
        if not segment.page:
            return 0, 0
        origin = segment.pieces[0].address
        start = piece.address - origin
        end = start + piece.size
        return (
            origin + -(-start // segment.page) * segment.page,
            origin + end // segment.page * segment.page,
        )

    # Rules

    def rounded(self, nbytes: int) -> int:
        """Return what a request takes."""
        if nbytes < 512:
            return 512
        entry = min(max(nbytes.bit_length() - 1 - 20, 0), 15)
        divisions = self.settings.roundup_power2_divisions[entry]
        if divisions > 1 and nbytes > 512 * divisions:
            power = 1
            while power * 2 <= nbytes:
                power *= 2
            step = power // divisions
            return nbytes if nbytes == power else -(-nbytes // step) * step
        return -(-nbytes // 512) * 512

    def segment_bytes(self, size: int) -> int:
        """Return how much is asked of the driver for a rounded request."""
        if size <= MIB:
            return 2 * MIB
        if size < 10 * MIB:
            return self.settings.large_segment_bytes
        return -(-size // (2 * MIB)) * 2 * MIB

    @property
    def collects(self) -> bool:
        """Whether garbage collection is on."""
        return self.allowed is not None and self.settings.garbage_collection_threshold > 0

    def find(self, size: int, small: bool, stream: int, pool: int) -> tuple[Segment, Piece] | None:
        """Return the free block that serves a request."""
        if self.collects:
            self.calls[pool, small] = self.calls.get((pool, small), 0) + 1
        free = sorted(
            (
                (piece.size, piece.address, segment, piece)
                for segment in self.segments
                for piece in segment.pieces
                if piece.state == "free"
                and (segment.small, segment.stream, segment.pool) == (small, stream, pool)
                and piece.size >= size
            ),
            key=lambda one: one[:2],
        )
        if free and free[0][2].page:
            if self.settings.expandable_segments:
                at = 0
                while (
                    free[at][2].page
                    and at + 1 < len(free)
                    and self.with_room(*free[at + 1][2:]) < self.with_room(*free[at][2:])
                ):
                    at += 1
                free = free[at:]
            else:
                while free and free[0][2].page:
                    free.pop(0)
        if not free:
            return None
        length, _, segment, piece = free[0]
        limit = self.settings.max_split_bytes
        if limit is not None:
            if size < limit <= length:
                return None
            rounding = self.settings.max_non_split_rounding_bytes
            if size >= limit and length >= size + rounding:
                return None
        return segment, piece

    @staticmethod
    def with_room(segment: Segment, piece: Piece) -> int:
        """Return what a block can grow to."""
        following = segment.pieces[segment.pieces.index(piece) + 1 :]
        grows = bool(following) and following[0].state == "unmapped"
        return piece.size + (following[0].size if grows else 0)

    # Calls

    def malloc(self, nbytes: int, stream: int = 0, pool: int = 0) -> Piece:
        """Allocate. Raises: OutOfMemory."""
        size = self.rounded(nbytes)
        small = size <= MIB
        found = self.find(size, small, stream, pool)
        if found is None:
            if self.collects:
                self.collect()
            found = self.from_driver(size, small, stream, pool)
        if found is None and self.release_oversized(size, small, stream, pool):
            found = self.from_driver(size, small, stream, pool)
        if found is None and pool == 0:
            self.release_cached()
            self.retries += 1
            found = self.from_driver(size, small, stream, pool)
        if found is None:
            free = (self.capacity or 0) - self.reserved
            self.record("oom", max(0, free), size, stream, pool)
            raise OutOfMemory
        segment, piece = found
        rest = piece.size - size
        if small or self.settings.expandable_segments:
            splits = rest >= 512
        else:
            limit = self.settings.max_split_bytes
            splits = (limit is None or size < limit) and rest > MIB
        if splits:
            place = segment.pieces.index(piece)
            tail = Piece(piece.address + size, rest, "free", piece.requested, self.age(segment))
            piece.size = size
            segment.pieces.insert(place + 1, tail)
        piece.state, piece.requested = "held", nbytes
        self.record("alloc", piece.address, nbytes, stream, pool)
        return piece

    def free(self, piece: Piece, *, in_use: bool = False) -> None:
        """Free a block, that another stream may still use."""
        segment = self.home(piece)
        self.record("free_requested", piece.address, piece.requested, segment.stream, segment.pool)
        piece.state = "pending"
        if in_use:
            self.delayed.append(len(self.events) - 1)
        else:
            self.complete(piece)

    def complete(self, piece: Piece) -> None:
        """No other stream uses a freed block any more."""
        segment = self.home(piece)
        self.record("free_completed", piece.address, piece.requested, segment.stream, segment.pool)
        piece.state = "free"
        self.tidy(segment, piece)

    def empty_cache(self) -> None:
        """Give back everything that can be."""
        self.release_cached()

    # Parts of them

    def home(self, piece: Piece) -> Segment:
        """Return the segment of a block."""
        return next(segment for segment in self.segments if piece in segment.pieces)

    def age(self, segment: Segment) -> int:
        """Return the number of searches in a segment's size class."""
        return self.calls.get((segment.pool, segment.small), 0)

    def tidy(self, segment: Segment, piece: Piece) -> None:
        """Merge a piece with neighbours of its kind; it keeps its name."""
        place = segment.pieces.index(piece)
        for at in (place + 1, place - 1):
            if 0 <= at < len(segment.pieces) and segment.pieces[at].state == piece.state:
                other = segment.pieces.pop(at)
                piece.address = min(piece.address, other.address)
                piece.size += other.size
        piece.aged = self.age(segment)

    def room(self, nbytes: int) -> bool:
        """Return whether the driver has as much."""
        return self.capacity is None or self.reserved + nbytes <= self.capacity

    def from_driver(
        self, size: int, small: bool, stream: int, pool: int
    ) -> tuple[Segment, Piece] | None:
        """Return a block that is new from the driver."""
        nbytes = self.segment_bytes(size)
        if self.allowed is not None and self.reserved + nbytes > self.allowed:
            return None
        if self.settings.expandable_segments:
            return self.expanded(size, small, stream, pool)
        if not self.room(nbytes):
            return None
        piece = Piece(self.address, nbytes, "free")
        segment = Segment(small, stream, pool, [piece])
        self.address += nbytes
        self.segments.append(segment)
        self.record("segment_alloc", piece.address, nbytes, stream, pool)
        return segment, piece

    def expanded(
        self, size: int, small: bool, stream: int, pool: int
    ) -> tuple[Segment, Piece] | None:
        """Return a block in an expandable segment, grown if need be, at the lowest address."""
        mine = [
            segment
            for segment in self.segments
            if segment.page
            and (segment.small, segment.stream, segment.pool) == (small, stream, pool)
        ]
        spots: list[tuple[int, Segment, int]] = []
        for segment in mine:
            for at, piece in enumerate(segment.pieces):
                if piece.state == "unmapped":
                    spots.append((piece.address, segment, at))
        spots.sort(key=lambda spot: spot[0])
        for _, segment, at in spots:
            first = at
            if at > 0 and segment.pieces[at - 1].state == "free":
                first = at - 1
            found = 0
            for piece in segment.pieces[first:]:
                if piece.state not in ("free", "unmapped") or found >= size:
                    break
                found += piece.size
            if found >= size:
                return self.grown(segment, segment.pieces[first], size)
        page = 2 * MIB if small else self.settings.large_segment_bytes
        wide = WIDE if self.capacity is None else self.capacity + self.capacity // 8
        wide = -(-wide // page) * page
        piece = Piece(self.address, wide, "unmapped")
        segment = Segment(small, stream, pool, [piece], page)
        self.address += wide
        self.segments.append(segment)
        if wide < size:
            return None
        return self.grown(segment, piece, size)

    def grown(self, segment: Segment, piece: Piece, size: int) -> tuple[Segment, Piece] | None:
        """Map pages from a piece on until it has `size` bytes."""
        if piece.state == "unmapped":
            mapped = self.mapped(segment, piece, min(piece.size, size))
            if mapped is None:
                return None
            piece = mapped
        while piece.size < size:
            following = segment.pieces[segment.pieces.index(piece) + 1]
            mapped = self.mapped(segment, following, min(size - piece.size, following.size))
            if mapped is None:
                return None
            piece = mapped
        return segment, piece

    def mapped(self, segment: Segment, piece: Piece, nbytes: int) -> Piece | None:
        """Map the pages of the first bytes of a piece; it is free then, and merged."""
        nbytes = -(-nbytes // segment.page) * segment.page
        if not self.room(nbytes):
            return None
        address = piece.address
        if nbytes < piece.size:
            place = segment.pieces.index(piece)
            rest = Piece(address + nbytes, piece.size - nbytes, "unmapped")
            segment.pieces.insert(place + 1, rest)
            piece.size = nbytes
        piece.state = "free"
        self.tidy(segment, piece)
        self.record("segment_map", address, nbytes, segment.stream, segment.pool)
        return piece

    def release(self, segment: Segment) -> None:
        """Give a whole segment back."""
        piece = segment.pieces[0]
        self.segments.remove(segment)
        self.record("segment_free", piece.address, piece.size, segment.stream, segment.pool)

    def unmap(self, segment: Segment, piece: Piece) -> None:
        """Give the whole pages inside a free block back."""
        first, last = self.pages(segment, piece)
        if first >= last:
            return
        place = segment.pieces.index(piece)
        middle = Piece(first, last - first, "unmapped")
        around = [
            Piece(piece.address, first - piece.address, "free", 0, self.age(segment)),
            middle,
            Piece(last, piece.address + piece.size - last, "free", 0, self.age(segment)),
        ]
        segment.pieces[place : place + 1] = [one for one in around if one.size]
        self.tidy(segment, middle)
        self.record("segment_unmap", first, last - first, segment.stream, segment.pool)
        if len(segment.pieces) == 1:
            self.segments.remove(segment)

    def release_cached(self) -> None:
        """Wait for all streams, then give back what can be of the common pool."""
        for segment in list(self.segments):
            for piece in list(segment.pieces):
                if piece.state == "pending":
                    self.complete(piece)
        for small in (False, True):
            mine = [one for one in self.segments if one.pool == 0 and one.small is small]
            mine.sort(key=lambda one: (one.stream, one.pieces[0].size, one.pieces[0].address))
            for segment in mine:
                if segment.whole and segment.pieces[0].state == "free":
                    self.release(segment)
            for segment in mine:
                if segment.page:
                    for piece in list(segment.pieces):
                        if piece.state == "free":
                            self.unmap(segment, piece)

    def release_oversized(self, size: int, small: bool, stream: int, pool: int) -> bool:
        """Give unsplittable blocks back, just enough."""
        limit = self.settings.max_split_bytes
        if limit is None:
            return False
        needed = max(size, limit)
        whole = sorted(
            (
                segment
                for segment in self.segments
                if segment.whole
                and segment.pieces[0].state == "free"
                and segment.pieces[0].size >= limit
                and (segment.small, segment.stream, segment.pool) == (small, stream, pool)
            ),
            key=lambda one: (one.pieces[0].size, one.pieces[0].address),
        )
        alone = [one for one in whole if one.pieces[0].size >= needed]
        if alone:
            self.release(alone[0])
            return True
        released = 0
        while whole and released < needed:
            segment = whole.pop()
            released += segment.pieces[0].size
            self.release(segment)
        return released >= needed

    def collect(self) -> None:
        """Give old large segments of the common pool back, above the threshold."""
        assert self.allowed is not None
        limit = int(self.settings.garbage_collection_threshold * self.allowed)
        target, reclaimed, freed = self.reserved - limit, 0, True
        while freed and reclaimed < target:
            whole = [
                segment
                for segment in self.segments
                if segment.pool == 0
                and not segment.small
                and segment.whole
                and segment.pieces[0].state == "free"
            ]
            if not whole:
                return
            whole.sort(key=lambda one: (one.stream, one.pieces[0].size, one.pieces[0].address))
            ages = [self.age(segment) - segment.pieces[0].aged for segment in whole]
            bound = sum(ages) / len(ages)
            freed = False
            for segment, age in zip(whole, ages, strict=True):
                if age >= bound:
                    freed = True
                    reclaimed += segment.pieces[0].size
                    self.release(segment)

    # What it leaves behind

    def record(self, action: str, address: int, size: int, stream: int, pool: int) -> None:
        """Record an event as PyTorch does."""
        place = {"device_free": address} if action == "oom" else {"addr": address}
        self.events.append(
            {
                "action": action,
                **place,
                "size": size,
                "stream": stream,
                "time_us": len(self.events),
                "pool_id": (0, pool),
                "frames": [],
            }
        )

    def dump(self, *, last: int | None = None) -> dict[str, Any]:
        """Return a snapshot with the last events of the trace."""
        states = {"free": "inactive", "held": "active_allocated", "pending": "active_pending_free"}
        segments = []
        for segment in self.segments:
            run: list[Piece] = []
            for piece in [*segment.pieces, None]:
                if piece is not None and piece.state != "unmapped":
                    run.append(piece)
                    continue
                if run:
                    active = [one for one in run if one.state != "free"]
                    segments.append(
                        {
                            "device": 0,
                            "address": run[0].address,
                            "total_size": sum(one.size for one in run),
                            "allocated_size": sum(o.size for o in run if o.state == "held"),
                            "active_size": sum(one.size for one in active),
                            "requested_size": sum(one.requested for one in active),
                            "stream": segment.stream,
                            "segment_type": "small" if segment.small else "large",
                            "segment_pool_id": (0, segment.pool),
                            "is_expandable": bool(segment.page),
                            "frames": [],
                            "blocks": [
                                {
                                    "address": one.address,
                                    "size": one.size,
                                    "requested_size": one.requested,
                                    "state": states[one.state],
                                    "frames": [],
                                }
                                for one in run
                            ],
                        }
                    )
                run = []
        limit = self.settings.max_split_bytes
        return {
            "segments": sorted(segments, key=lambda one: one["address"]),
            "device_traces": [self.events[-last:] if last else self.events],
            "allocator_settings": {
                "PYTORCH_CUDA_ALLOC_CONF": self.settings.text(),
                "max_split_size": -1 if limit is None else limit,
                "garbage_collection_threshold": self.settings.garbage_collection_threshold,
                "expandable_segments": self.settings.expandable_segments,
                "roundup_power2_divisions": {
                    str(1 << at): division
                    for at, division in enumerate(self.settings.roundup_power2_divisions)
                },
            },
        }


def write(snapshot: dict[str, Any], path: Path, protocol: int = 4) -> Path:
    """Pickle a snapshot into a file."""
    path.write_bytes(pickle.dumps(snapshot, protocol))
    return path
