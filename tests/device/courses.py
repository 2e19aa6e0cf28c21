"""Random courses of requests for allocators: sizes, streams, pools, settings, capacities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from naive_allocator import MIB, NaiveAllocator, OutOfMemory, Piece

from kvatlas.device import AllocatorSettings, Limits

SIZES = (
    (1, 512),
    (513, 20_000),
    (100_000, MIB),
    (MIB - 600, MIB + 600),
    (MIB + 1, 10 * MIB),
    (10 * MIB - 600, 10 * MIB + 600),
    (10 * MIB, 60 * MIB),
)


def random_settings(rng: np.random.Generator) -> AllocatorSettings:
    """Draw settings: half of the time the defaults."""
    if rng.random() < 0.3:
        return AllocatorSettings()
    large = int(rng.choice([20, 20, 12, 32])) * MIB
    divisions = [0] * 16
    if rng.random() < 0.4:
        divisions = [int(rng.choice([0, 1, 2, 4, 8, 16])) for _ in range(16)]
    return AllocatorSettings(
        max_split_bytes=None if rng.random() < 0.6 else large + int(rng.integers(0, 20)) * MIB,
        roundup_power2_divisions=tuple(divisions),
        garbage_collection_threshold=float(rng.choice([0.0, 0.3, 0.6, 0.8])),
        expandable_segments=bool(rng.random() < 0.35),
        large_segment_bytes=large,
        max_non_split_rounding_bytes=max(large, int(rng.choice([20, 22, 40])) * MIB),
    )


@dataclass
class Course:
    """A naive allocator that has run, and its sums after every event that a free run has, too."""

    naive: NaiveAllocator
    limits: Limits
    failed: bool = False
    emptied: bool = False
    peak_reserved: int = 0

    @property
    def ambiguous(self) -> bool:
        """Whether the trace does not say why memory went back, or why a free completed.

        A call of `empty_cache` before a new segment looks like a retry (without stacks), so does
        garbage collection behind a free that was delayed. A free that another stream delays and a
        retry right behind it completes looks like one that nobody delays.
        """
        events = self.naive.events
        collects = bool(self.naive.delayed) and self.naive.collects
        return (
            self.emptied
            or collects
            or any(
                at + 1 < len(events)
                and events[at + 1]["action"] == "free_completed"
                and events[at + 1]["addr"] == events[at]["addr"]
                for at in self.naive.delayed
            )
        )


def run_course(
    rng: np.random.Generator,
    settings: AllocatorSettings,
    *,
    steps: int,
    streams: int = 1,
    pools: int = 1,
    capacity: int | None = None,
    allowed: int | None = None,
    delays: bool = False,
    empties: bool = False,
) -> Course:
    """Run random requests until the steps are done or memory does not suffice."""
    naive = NaiveAllocator(settings, capacity, allowed)
    course = Course(naive, Limits(capacity_bytes=capacity, allowed_bytes=allowed))
    live: list[Piece] = []
    waiting: list[Piece] = []
    weights = rng.dirichlet(np.full(len(SIZES), 0.6))
    hold = rng.uniform(0.45, 0.65)
    for _ in range(steps):
        waiting = [piece for piece in waiting if piece.state == "pending"]
        what = rng.random()
        if empties and what < 0.02:
            naive.empty_cache()
            course.emptied = True
        elif waiting and what < 0.1:
            naive.complete(waiting.pop(int(rng.integers(len(waiting)))))
        elif live and what > hold:
            piece = live.pop(int(rng.integers(len(live))))
            in_use = delays and rng.random() < 0.3
            naive.free(piece, in_use=in_use)
            if in_use:
                waiting.append(piece)
        else:
            low, high = SIZES[int(rng.choice(len(SIZES), p=weights))]
            try:
                live.append(
                    naive.malloc(
                        int(rng.integers(low, high + 1)),
                        int(rng.integers(streams)),
                        int(rng.integers(pools)),
                    )
                )
            except OutOfMemory:
                course.failed = True
                break
            finally:
                course.peak_reserved = max(course.peak_reserved, naive.reserved)
    return course


def random_course(seed: int, steps: int = 50) -> Course:
    """Draw everything from a seed."""
    rng = np.random.default_rng(seed)
    settings = random_settings(rng)
    capacity = int(rng.integers(30, 600)) * MIB if rng.random() < 0.5 else None
    allowed = int(rng.integers(30, 600)) * MIB if rng.random() < 0.5 else None
    return run_course(
        rng,
        settings,
        steps=steps,
        streams=int(rng.choice([1, 1, 2, 3])),
        pools=int(rng.choice([1, 1, 2])),
        capacity=capacity,
        allowed=allowed,
        delays=bool(rng.random() < 0.4),
        empties=bool(rng.random() < 0.3),
    )
