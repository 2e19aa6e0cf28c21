"""The course of a run over its clock, from its events: the same columns for a replay and a server.

Owns: `Course`, its intervals and figures over the whole. Leaves to others: states of blocks and
free runs (`fragmentation`), charts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import Chunk, Header
from kvatlas.measure._course_kernel import COURSE, SUMS, follow_course
from kvatlas.measure._course_kernel import Course as _Course
from kvatlas.measure.feeding import writable
from kvatlas.measure.figures import Figures
from kvatlas.records import one_record, records

__all__ = ["Course", "CourseResult"]

F64 = NDArray[np.float64]

_NO_TIME = "the clock stood still"
_NO_STEPS = "no step was recorded"


@dataclass(frozen=True, slots=True, eq=False)
class CourseResult:
    """Running sums at L moments of the clock, by name: (L,) each, and at the end.

    Attributes:
        sums: `clock_ms`, `used_block_ms`, `wasted_slot_ms`, `running_ms`, `waiting_ms`, `busy_ms`
            (integrals), `tokens`, `hits`, `queries`, `preemptions`, `failures`, `evictions`.
        usable_blocks: what usage is a share of.
        block_size: tokens per block of the only group, None with several.
    """

    sums: Mapping[str, F64]
    usable_blocks: int
    block_size: int | None

    def grown(self, bounds_s: F64) -> dict[str, F64]:
        """Return (K,) by how much each sum grew between (K + 1,) bounds, seconds of the clock.

        Exact where a bound is a moment looked at, by straight line between two of them.
        """
        clock = self.sums["clock_ms"]
        return {
            name: np.diff(np.interp(bounds_s * 1e3, clock, values))
            for name, values in self.sums.items()
        }

    def columns(self, bounds_s: F64) -> dict[str, F64]:
        """Return the course between bounds: (K,) each, NaN where an interval saw nothing.

        `used` (blocks), `waste` (share of the slots held), `hit_rate`, `hit_rate_so_far`,
        `running`, `waiting` (requests), `preemptions`, `failures`, `evictions` (counts).
        """
        grown = self.grown(bounds_s)
        clock = self.sums["clock_ms"]
        so_far = {
            name: np.interp(bounds_s[1:] * 1e3, clock, self.sums[name])
            for name in ("hits", "queries")
        }
        busy = grown["busy_ms"]
        held = grown["used_block_ms"] * (self.block_size or 0)
        return {
            "used": _over(grown["used_block_ms"], busy),
            "waste": _over(grown["wasted_slot_ms"], held),
            "hit_rate": _over(grown["hits"], grown["queries"]),
            "hit_rate_so_far": _over(so_far["hits"], so_far["queries"]),
            "running": _over(grown["running_ms"], busy),
            "waiting": _over(grown["waiting_ms"], busy),
            **{name: grown[name] for name in ("preemptions", "failures", "evictions")},
        }


def _over(part: F64, whole: F64) -> F64:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


class Course:
    """Adds up a run; looks at the sums at most `most_looks` times, evenly over the steps."""

    def __init__(self, header: Header, *, most_looks: int = 2048) -> None:
        self.header = header
        self._course = _Course(
            looks=records(max(4, most_looks), SUMS),
            sums=one_record(SUMS),
            info=one_record(
                COURSE,
                stride=1,
                usable=header.usable_blocks,
                slot_groups=header.slot_groups,
            ),
        )

    def feed(self, chunk: Chunk) -> None:
        """Add a chunk, resolved or not; O(rows)."""
        rows, _ = writable(chunk)
        if len(rows):
            follow_course(self._course, rows)

    def result(self) -> CourseResult:
        """Return the course so far; O(looks)."""
        count = int(self._course.info.looks)
        looks = np.asarray(self._course.looks[:count])
        last = np.array([tuple(self._course.sums)], SUMS)
        if not count or looks[-1] != last[0]:
            looks = np.concatenate((looks, last))
        groups = self.header.groups
        single = len(groups) == 1 and groups[0].slots_hold_tokens
        return CourseResult(
            sums={name: looks[name].copy() for name in SUMS.names or ()},
            usable_blocks=self.header.usable_blocks,
            block_size=groups[0].block_size if single else None,
        )

    def figures(self, sheet: Figures) -> None:
        """Add usage, waste, hit rate, queue lengths, named and defined as for a replay's sums."""
        sums, info = self._course.sums, self._course.info
        looks = self._course.looks
        busy_ms, usable = float(sums.busy_ms), self.header.usable_blocks
        span_ms = float(sums.clock_ms - looks[0].clock_ms) if info.looks else 0.0
        off = not self.header.caching
        sheet.ratio(
            "prefix.token_hit_rate",
            float(sums.hits),
            0.0 if off else float(sums.queries),
            "prefix caching is off" if off else "no request was admitted",
        )
        sheet.put("prefix.evicted_blocks", int(sums.evictions))
        sheet.put("preemption.count", int(sums.preemptions))
        sheet.put("allocation.blocks", int(info.allocations))
        sheet.put("usage.peak", int(info.peak_used) / usable)
        sheet.ratio(
            "usage.mean_over_steps", int(info.used_steps) / usable, int(info.steps), _NO_STEPS
        )
        for name, part in (
            ("usage.time_weighted", float(sums.used_block_ms) / usable),
            ("running.time_weighted", float(sums.running_ms)),
            ("queue.length_time_weighted", float(sums.waiting_ms)),
        ):
            sheet.ratio(name, part, span_ms, _NO_TIME)
        sheet.put("clock.simulated_s", span_ms / 1e3)
        sheet.put("clock.idle_s", max(0.0, span_ms - busy_ms) / 1e3)
        groups, wasted = self.header.groups, float(sums.wasted_slot_ms)
        names = ("waste.internal_time_weighted", "waste.internal_mean_slots")
        if len(groups) > 1 or not groups[0].slots_hold_tokens:
            sheet.lack("several KV cache groups, or blocks without slots: no one share", *names)
        else:
            held = float(sums.used_block_ms) * groups[0].block_size
            sheet.ratio(names[0], wasted, held, _NO_STEPS)
            sheet.ratio(names[1], wasted, busy_ms, _NO_STEPS)
