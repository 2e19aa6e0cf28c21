"""Eviction policies side by side on one trace, between LRU and the optimum, and what to make of it.

Owns: running them over all capacities, the verdict. Leaves to others: the policies
(`kvatlas.eviction`), LRU, optimum and ceiling (`kvatlas.measure.curves`), every view.

LRU comes from the curve (one pass for all capacities), optimum and ceiling from the same table;
every other policy is simulated capacity by capacity.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.eviction import OPTIMUM, POLICIES, PrefixOnlyRun, policy
from kvatlas.measure.curves import CapacityStudy
from kvatlas.report.curve_document import PolicyRow
from kvatlas.report.numbers import blocks as blocks_text

__all__ = ["NEVER_WORSE_POINTS", "WORTH_POINTS", "PolicyComparison", "compare_policies", "verdict"]

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

WORTH_POINTS = 0.5
"""Points of block hit rate below which another policy is not worth its trouble."""
NEVER_WORSE_POINTS = 0.5
"""Points that a recommended policy may at most lose against LRU, at any capacity looked at."""

_LRU = "lru"
_THREADS = 2  # the passes leave the interpreter's lock
_LOOK_S = 0.1  # how often progress is told and Ctrl-C asked about


@dataclass(frozen=True, slots=True)
class PolicyComparison:
    """Policies over K capacities.

    Attributes:
        capacity_blocks: (K,) rising.
        rows: LRU, the other policies that were run to their end, optimum, ceiling.
        partial: why some are missing; empty when none is.
    """

    capacity_blocks: I64
    rows: tuple[PolicyRow, ...]
    partial: str = ""


def compare_policies(
    study: CapacityStudy,
    capacities: Sequence[int] | I64,
    names: Sequence[str] | None = None,
    *,
    on_progress: Callable[[int, int, str], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> PolicyComparison:
    """Run each policy at each capacity over the study's trace, prompts only.

    O(P K (blocks + evictions log leaves)) for P policies but LRU and the bounds.

    Args:
        study: the trace, without outputs.
        capacities: blocks; sorted and made unique here.
        names: of `kvatlas.eviction.POLICIES`, all of them by default; LRU is always there.
        on_progress: called with simulations done, simulations in all, and what comes next.
        should_stop: asked between slices; True ends it with the policies that are whole.

    Raises: InputError for an unknown policy or a capacity below 1.
    """
    asked = list(POLICIES) if names is None else list(dict.fromkeys(names))
    for name in asked:
        policy(name)
    others = [name for name in asked if name != _LRU]
    capacity = np.unique(np.asarray(capacities, np.int64))
    started_s = time.perf_counter()
    table = study.table(capacity)
    bounds_s = time.perf_counter() - started_s

    def row(name: str, blocks: I64, tokens: I64, seconds: float) -> PolicyRow:
        is_bound = name not in POLICIES
        known = POLICIES.get(name)
        best = table.optimum_hit_blocks - table.hit_blocks
        closed = np.full(capacity.size, np.nan)
        np.divide(blocks - table.hit_blocks, best, out=closed, where=best > 0)
        title, summary = _BOUNDS[name] if known is None else (known.title, known.summary)
        return PolicyRow(
            name=name,
            title=title,
            summary=summary,
            kind="bound" if is_bound else "policy",
            hit_blocks=blocks,
            hit_tokens=tokens,
            gap_closed=closed,
            seconds=seconds,
        )

    rows = [row(_LRU, table.hit_blocks, table.hit_tokens, bounds_s)]
    done, total = 0, len(others) * capacity.size
    stopped = threading.Event()

    def simulated(name: str, blocks: int) -> tuple[int, int, float] | None:
        if stopped.is_set():
            return None
        began_s = time.perf_counter()
        run = PrefixOnlyRun(
            study.workload,
            name,
            blocks,
            block_size=study.paths.block_size,
            count_partial=study.paths.count_partial,
        )
        for _ in run.slices():
            if stopped.is_set():
                return None
        result = run.result()
        return result.hit_blocks, result.hit_tokens, time.perf_counter() - began_s

    missing: list[str] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        jobs = {
            name: [pool.submit(simulated, name, int(blocks)) for blocks in capacity]
            for name in others
        }
        try:
            for name in others:
                found = []
                for job in jobs[name]:
                    while not job.done():
                        if on_progress is not None:
                            on_progress(done, total, POLICIES[name].title)
                        if should_stop is not None and should_stop():
                            stopped.set()
                        wait([job], timeout=_LOOK_S)
                    done += 1
                    found.append(job.result())
                whole = [hits for hits in found if hits is not None]
                if len(whole) < len(found):
                    missing.append(name)
                    continue
                blocks, tokens, seconds = zip(*whole, strict=True)
                rows.append(row(name, np.array(blocks), np.array(tokens), sum(seconds)))
        finally:
            stopped.set()  # whatever is left after an error or Ctrl-C is not waited for
    rows.append(row(OPTIMUM.name, table.optimum_hit_blocks, table.optimum_hit_tokens, bounds_s))
    most_blocks = np.full(capacity.size, study.lru.blocks.most)
    most_tokens = np.full(capacity.size, study.lru.most_tokens)
    rows.append(row("ceiling", most_blocks, most_tokens, bounds_s))
    partial = f"interrupted: without {', '.join(missing)}" if missing else ""
    return PolicyComparison(capacity, tuple(rows), partial)


def verdict(
    comparison: PolicyComparison, queried_blocks: int, focus_blocks: int
) -> tuple[str, ...]:
    """Return what to make of it, in sentences; the first says what to do.

    Args:
        comparison: the policies.
        queried_blocks: what rates are taken over.
        focus_blocks: the capacity that matters most: the knee, or the one that was asked about.
    """
    rows = {row.name: row for row in comparison.rows}
    at = int(np.argmin(np.abs(comparison.capacity_blocks - focus_blocks)))
    where = blocks_text(int(comparison.capacity_blocks[at]))
    others = [row for row in comparison.rows if row.kind == "policy" and row.name != _LRU]

    def points(row: PolicyRow) -> F64:
        return np.asarray(100 * (row.hit_blocks - rows[_LRU].hit_blocks) / max(1, queried_blocks))

    most = float(points(rows[OPTIMUM.name])[at])
    gap = f"the optimum is {most:.1f} points above LRU at {where}"
    steady = [row for row in others if points(row).min() >= -NEVER_WORSE_POINTS]
    best = max(steady, key=lambda row: float(points(row)[at]), default=None)
    said: list[str] = []
    if best is not None and points(best)[at] < WORTH_POINTS:
        best = None
    if best is not None:
        gain = points(best)
        said.append(
            f"{best.title} is worth it: {gain[at]:+.1f} points at {where}, "
            f"{best.gap_closed[at]:.0%} of what a perfect policy would gain, and never more than "
            f"{max(0.0, -float(gain.min())):.1f} points below LRU at the capacities here."
        )
    elif most < WORTH_POINTS:
        gaps = points(rows[OPTIMUM.name])
        widest = int(np.argmax(gaps))
        elsewhere = ""
        if gaps[widest] >= WORTH_POINTS:
            at_widest = blocks_text(int(comparison.capacity_blocks[widest]))
            elsewhere = f" (The gap is widest at {at_widest}: {gaps[widest]:.1f} points.)"
        said.append(f"Stay on LRU: {gap}, so no policy can gain much there.{elsewhere}")
    else:
        tried = "nothing tried here wins" if others else "no other policy was tried that wins"
        said.append(f"Stay on LRU: {gap}, but {tried} {WORTH_POINTS:g} points there safely.")
    # Those that are safe come first.
    for row in sorted(others, key=lambda row: (row not in steady, -float(points(row).max()))):
        gain = points(row)
        high, low = int(np.argmax(gain)), int(np.argmin(gain))
        if row is not best and gain[high] >= WORTH_POINTS:
            loses = f"loses {-gain[low]:.1f} at {int(comparison.capacity_blocks[low]):,}"
            steady_too = "is never far below LRU" if row in steady else loses
            said.append(
                f"{row.title} wins {gain[high]:.1f} points at "
                f"{blocks_text(int(comparison.capacity_blocks[high]))} and {steady_too}."
            )
    return tuple(said)


_BOUNDS = {
    OPTIMUM.name: (OPTIMUM.title, OPTIMUM.summary),
    "ceiling": ("Ceiling", "no limit of capacity"),
}
