"""What may happen to blocks between two steps: none of it may change a token, or a byte.

Owns: one function per operation, and the check that every table and every cached key reads the
bytes that it read before. Leaves to others: when they happen (`schedules`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
from schedules import Schedule, spoil_blocks

from kvatlas.defrag import (
    Compact,
    ContiguousTables,
    FreeRun,
    Goal,
    MemoryDefragmenter,
    ReleasePages,
)
from kvatlas.defrag.books import Books
from kvatlas.defrag.moves import Moves
from kvatlas.storage import LAYOUTS, KVCacheMemoryPool


@dataclass(frozen=True)
class Shuffle:
    """A goal without a purpose: any content goes anywhere. What is pinned stays."""

    seed: int

    def moves(self, books: Books) -> Moves:
        """Draw a permutation of some blocks."""
        rng, blocks = np.random.default_rng(self.seed), books.blocks()
        free = np.flatnonzero(~blocks.pinned)
        places = rng.permutation(free)[: rng.integers(free.size + 1)]
        contents = places[~blocks.empty[places]]
        targets = rng.permutation(places)
        where = dict(zip(places.tolist(), targets.tolist(), strict=True))
        goes = np.array([where[block] for block in contents.tolist()], np.int64)
        away = goes != contents
        return Moves(blocks.used.size, contents[away].astype(np.int64), goes[away])


def spoil(schedule: Schedule) -> None:
    """Fill what nobody may read with NaN: a stale read then answers NaN."""
    blocks = schedule.meaningless_blocks()
    spoil_blocks(schedule.storage, blocks)
    schedule.counts["spoiled"] += len(blocks)


def defragment(goal: Callable[[Random, Schedule], Goal]) -> Callable[[Schedule], None]:
    """Return the operation that moves blocks for a goal."""

    def move(schedule: Schedule) -> None:
        wanted = goal(schedule.rng, schedule)
        mover = MemoryDefragmenter(
            schedule.engine.scheduler, schedule.storage, schedule.engine.in_flight_blocks
        )
        before = bytes_read(schedule)
        report = mover.defragment(wanted)
        assert bytes_read(schedule) == before
        if report is not None:
            schedule.counts[f"moved for {type(wanted).__name__}"] += report.moved_blocks

    return move


def evacuate(schedule: Schedule) -> None:
    """Copy some blocks to another pool of another layout, spoil them, copy them back."""
    rng, storage = schedule.rng, schedule.storage
    other = KVCacheMemoryPool(
        storage.num_blocks,
        num_layers=storage.num_layers,
        block_size=storage.block_size,
        kv_heads=storage.kv_heads,
        head_size=storage.head_size,
        layout=rng.choice(sorted(LAYOUTS)),
        backend=rng.choice(["numpy", "torch"]),
    )
    blocks = rng.sample(range(storage.num_blocks), rng.randrange(1, storage.num_blocks))
    places = rng.sample(range(storage.num_blocks), len(blocks))
    before = bytes_read(schedule)
    storage.copy_to(other, blocks, places)
    spoil_blocks(storage, blocks)
    other.copy_to(storage, places, blocks)
    assert bytes_read(schedule) == before
    schedule.counts["evacuated"] += len(blocks)


def bytes_read(schedule: Schedule) -> tuple[dict[str, list[int]], dict[int, list[int]]]:
    """Return a digest of each block that each request reads, and that each key can be hit in."""
    digests = schedule.storage.digest(range(schedule.config.num_blocks)).tolist()
    held = {name: [digests[at] for at in table] for name, table in schedule.held_blocks().items()}
    cached = {
        key: sorted(digests[at] for at in blocks)
        for key, blocks in schedule.cached_blocks().items()
    }
    return held, cached


def _a_run(rng: Random, schedule: Schedule) -> Goal:
    return FreeRun(rng.randrange(1, schedule.config.num_blocks), keep_cached=rng.random() < 0.5)


def _pages(rng: Random, schedule: Schedule) -> Goal:
    pages = rng.choice([None, 1, 2])
    return ReleasePages(rng.choice([2, 4, 8]), pages, keep_cached=rng.random() < 0.5)


EVERY = (
    spoil,
    evacuate,
    defragment(lambda rng, schedule: Shuffle(rng.randrange(2**32))),
    defragment(lambda rng, schedule: ContiguousTables()),
    defragment(lambda rng, schedule: Compact(rng.random() < 0.5, keep_cached=rng.random() < 0.5)),
    defragment(_a_run),
    defragment(_pages),
)
