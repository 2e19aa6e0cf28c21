"""What defragmenting brings and costs on a trace: every goal, in the middle of its replay.

Owns: the measurement. Leaves to others: the goals (`kvatlas.defrag`), tables.

The trace is replayed to the moments asked for; there every goal is planned on the same pool, so
that the figures are beside each other, and one of them is carried out, on the books alone: what
moving the bytes takes is their number over the bandwidth of moves. In the end the decisions must be
those of a replay in which nothing was moved.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kvatlas.defrag import (
    Compact,
    Condition,
    ContiguousTables,
    FreeRun,
    Goal,
    MemoryDefragmenter,
    ReleasePages,
)
from kvatlas.engine import DriveConfig, EngineConfig, Replay
from kvatlas.storage import KVCacheMemoryPool
from kvatlas.workload import Workload

__all__ = ["CARRIED_OUT", "PAGE_BLOCKS", "Moment", "Planned", "move_bandwidth", "on_trace"]

PAGE_BLOCKS = 32
"""Blocks behind 2 MiB where each layer has memory of its own: 16 tokens of Llama 3 8B take 64 KiB
a layer (2 x 8 heads x 128 x 2 bytes a token)."""
RUN_BLOCKS = 1024
CARRIED_OUT = "all tables in one piece"


@dataclass(frozen=True, slots=True)
class Planned:
    """A goal at a moment.

    Attributes:
        name: the goal.
        copies: blocks to be moved; None when no moves bring it about.
        runs, largest, pages: runs in all block tables, the longest free run, free pages of
            `PAGE_BLOCKS`, afterwards.
        plan_s: seconds to plan it.
    """

    name: str
    copies: int | None
    runs: int
    largest: int
    pages: int
    plan_s: float


@dataclass(frozen=True, slots=True)
class Moment:
    """The pool at a moment.

    Attributes:
        step: of how many.
        used, cached, empty: blocks.
        tables, table_blocks, runs: block tables, the blocks in them, their runs.
        largest, pages: the longest free run; free pages.
        planned: the goals.
        run_s: seconds to rewrite the books for the goal that was carried out.
        same: whether the replay ended as its twin.
    """

    step: int
    steps: int
    used: int
    cached: int
    empty: int
    tables: int
    table_blocks: int
    runs: int
    largest: int
    pages: int
    planned: tuple[Planned, ...]
    run_s: float
    same: bool


def on_trace(
    workload: Workload,
    num_blocks: int,
    arrivals: Literal["backlog", "timed"] = "backlog",
    shares: Sequence[float] = (0.25, 0.5, 0.75),
) -> list[Moment]:
    """Return the pool of a replay after these shares of its steps, and what each goal would do.

    At each moment `CARRIED_OUT` is carried out before the replay goes on.
    """
    config = EngineConfig(num_blocks=num_blocks, block_size=16)
    drive = DriveConfig(arrivals=arrivals)
    expected = Replay(workload, config, drive).run()
    steps = int(expected.decisions["steps"])
    replay = Replay(workload, config, drive)
    defragmenter = MemoryDefragmenter(replay)
    moments = []
    wanted = [round(share * steps) for share in shares]
    for _ in replay.slices(max_steps=max(1, steps // 400)):
        if wanted and replay.steps >= wanted[0]:
            wanted.pop(0)
            moments.append(_look(defragmenter, replay, steps))
    result = replay.result()
    same = result.decisions == expected.decisions and result.sums == expected.sums
    return [dataclasses.replace(moment, same=same) for moment in moments]


def _look(defragmenter: MemoryDefragmenter, replay: Replay, steps: int) -> Moment:
    before = defragmenter.detect()
    planned, plans = [], {}
    for name, goal in _goals(before).items():
        began = time.perf_counter()
        plan = defragmenter.plan(goal)
        plan_s = time.perf_counter() - began
        after = before if plan is None else plan.after
        plans[name] = plan
        planned.append(
            Planned(
                name=name,
                copies=None if plan is None else plan.moves.count,
                runs=after.table_runs,
                largest=after.largest_free_run,
                pages=after.free_pages(PAGE_BLOCKS),
                plan_s=plan_s,
            )
        )
    chosen = plans[CARRIED_OUT]
    assert chosen is not None
    began = time.perf_counter()
    defragmenter.run(chosen, verify=False)
    run_s = time.perf_counter() - began
    defragmenter.books.check()
    return Moment(
        step=replay.steps,
        steps=steps,
        used=before.used_blocks,
        cached=before.cached_blocks,
        empty=before.empty_blocks,
        tables=before.tables,
        table_blocks=int(before.layout.tables.blocks.sum()),
        runs=before.table_runs,
        largest=before.largest_free_run,
        pages=before.free_pages(PAGE_BLOCKS),
        planned=tuple(planned),
        run_s=run_s,
        same=False,
    )


def _goals(condition: Condition) -> dict[str, Goal]:
    tables = condition.layout.tables
    longest = int(tables.request[int(np.argmax(tables.blocks))])
    free = condition.cached_blocks + condition.empty_blocks
    already = condition.free_pages(PAGE_BLOCKS)
    return {
        "the longest table in one piece": ContiguousTables((longest,)),
        CARRIED_OUT: ContiguousTables(),
        "half of the pages that could be free": ReleasePages(
            PAGE_BLOCKS, already + (free // PAGE_BLOCKS - already) // 2
        ),
        "all pages that could be free": ReleasePages(PAGE_BLOCKS),
        f"a free run of {RUN_BLOCKS:,} blocks": FreeRun(RUN_BLOCKS),
        "one free run": Compact(),
    }


def move_bandwidth(block_bytes: int, blocks: int = 1_000, repeats: int = 5) -> float:
    """Return bytes per second of moving every second of `blocks` blocks to another place."""
    pool = KVCacheMemoryPool(
        2 * blocks, num_layers=1, block_size=16, kv_heads=1, head_size=block_bytes // 128
    )
    rng = np.random.default_rng(0)
    sources = rng.permutation(2 * blocks)[:blocks]
    targets = np.setdiff1d(np.arange(2 * blocks), sources)
    best = 0.0
    for _ in range(repeats):
        began = time.perf_counter()
        pool.move(sources, targets)
        best = max(best, pool.bytes_per_block * blocks / (time.perf_counter() - began))
        sources, targets = targets, sources
    return best
