"""Churn: how much of the pool is in motion, in which rhythm, and whether something builds up.

Owns: working sets, blocks allocated, evicted and freed per interval, bursts, trends of usage, waste
and hit rate. Leaves to others: the line and the verdict (`trends`), where free blocks lie (whose
trend anybody can ask `trends.trend_of` for).

The working set W(T) is the number of distinct blocks that entered a block table (touched as a hit
or allocated) in a window of T seconds; windows follow each other from the first event on. Blocks
are places: W(T) never exceeds the pool. The same count by content (a block that is allocated twice
held two) says how much a larger pool would have been asked for. The pinned set, blocks that
somebody owns, is apart: a decoding request keeps its blocks without touching them anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import Chunk, Header
from kvatlas.events.schema import NONE
from kvatlas.measure._churn_kernel import INTERVAL, STATE, WINDOW, Flow
from kvatlas.measure.churn_result import ChurnResult, ChurnSeries, WorkingSet
from kvatlas.measure.feeding import writable
from kvatlas.measure.figures import Figures
from kvatlas.measure.trends import bursts_of, trend_of
from kvatlas.records import Record, one_record, records

__all__ = ["WINDOWS_S", "Churn", "ChurnResult", "ChurnSeries", "WorkingSet"]

F64 = NDArray[np.float64]

WINDOWS_S = (1, 10, 60, 600)
_NO_TIME = "the clock stood still: a step takes 0 ms"


class Churn:
    """Follows a stream of resolved chunks. Memory: 16 bytes per block and 50 KB.

    Args:
        header: the recording's.
        windows_s: T of the working sets, each a multiple of the one before.
        most_intervals: of the series; when they are full, their width doubles.
        shortest_interval_s: their first width.
    """

    def __init__(
        self,
        header: Header,
        *,
        windows_s: Sequence[float] = WINDOWS_S,
        most_intervals: int = 512,
        shortest_interval_s: float = 0.125,
    ) -> None:
        if most_intervals % 2 or any(wide % narrow for narrow, wide in pairwise(windows_s)):
            raise ValueError("windows must be multiples of each other, intervals even in number")
        self._usable = header.usable_blocks
        windows = records(len(windows_s), WINDOW)
        windows["width_ms"] = np.array(windows_s) * 1e3
        intervals = records(most_intervals, INTERVAL)
        self._flow = Flow(
            state=one_record(STATE),
            windows=windows,
            last_window=np.full((header.num_blocks, len(windows_s)), NONE, np.int32),
            intervals=intervals,
            columns=np.asarray(intervals).view(np.float64).reshape(most_intervals, -1),
            block_slots=np.array(
                [group.block_size if group.slots_hold_tokens else 0 for group in header.groups],
                np.int64,
            ),
        )
        self._flow.state.width_ms = shortest_interval_s * 1e3
        self._flow.state.slot_groups = header.slot_groups

    def feed(self, chunk: Chunk) -> None:
        """Take in a resolved chunk; O(rows + touched and allocated ids)."""
        from kvatlas.measure._churn_kernel import follow

        follow(self._flow, *writable(chunk))

    def result(self) -> ChurnResult:
        """Return what was found so far; the state stays. O(512)."""
        state, flow = self._flow.state, self._flow
        span_ms = float(state.now_ms - state.first_ms)
        series, intervals = self._series(span_ms)
        whole = max(1, int(span_ms // state.width_ms))
        # A last interval that is cut short would look like a lull.
        counts = {name: intervals[name][:whole] for name in ("arrivals", "failures", "preemptions")}
        middle_s = (series.start_s + series.end_s)[:whole] / 2
        used_block_ms = float(intervals["used_block_ms"].sum())
        return ChurnResult(
            span_s=span_ms / 1e3,
            interval_s=float(state.width_ms) / 1e3,
            working_sets=tuple(_working_set(window, span_ms) for window in flow.windows),
            pinned_mean_blocks=used_block_ms / span_ms if span_ms > 0 else None,
            pinned_most_blocks=int(state.most_used),
            allocated_blocks=int(intervals["allocated"].sum()),
            evicted_blocks=int(intervals["evicted"].sum()),
            freed_blocks=int(intervals["freed"].sum()),
            arrivals=bursts_of(counts["arrivals"]),
            failures=bursts_of(counts["failures"]),
            preemptions=bursts_of(counts["preemptions"]),
            trends={
                name: trend_of(middle_s, getattr(series, name)[:whole])
                for name in ("usage", "waste", "hit_rate")
            },
            series=series,
        )

    def figures(self, sheet: Figures) -> None:
        """Put `working_set.*` and `churn.*`."""
        result = self.result()
        for found in result.working_sets:
            span = f"{found.window_s:g}s"
            names = [f"working_set.w{span}_mean_blocks", f"working_set.w{span}_max_blocks"]
            if found.mean_blocks is None:
                sheet.lack(f"the run is shorter than {found.window_s:g} s", *names)
            else:
                sheet.put(names[0], found.mean_blocks)
                sheet.put(names[1], found.most_blocks)
        if result.pinned_mean_blocks is None:
            sheet.lack(_NO_TIME, "working_set.pinned_mean_blocks")
        else:
            sheet.put("working_set.pinned_mean_blocks", result.pinned_mean_blocks)
        sheet.put("working_set.pinned_max_blocks", result.pinned_most_blocks)
        for name, blocks in (
            ("allocated", result.allocated_blocks),
            ("evicted", result.evicted_blocks),
            ("freed", result.freed_blocks),
        ):
            sheet.ratio(f"churn.{name}_blocks_per_s", blocks, result.span_s, _NO_TIME)
        for name, bursts in (
            ("arrivals", result.arrivals),
            ("failures", result.failures),
            ("preemptions", result.preemptions),
        ):
            names = [f"churn.{name}_fano", f"churn.{name}_peak_to_mean"]
            if bursts.fano is None or bursts.peak_to_mean is None:
                sheet.lack(f"no {name}" if not bursts.events else "a single interval", *names)
            else:
                sheet.put(names[0], bursts.fano)
                sheet.put(names[1], bursts.peak_to_mean)
        for name, trend in result.trends.items():
            if trend.slope_per_h is None:
                sheet.lack(
                    f"the run is too short: {trend.points} points over {trend.span_s:.0f} s",
                    f"churn.{name}_slope_per_h",
                )
            else:
                sheet.put(f"churn.{name}_slope_per_h", trend.slope_per_h)

    def _series(self, span_ms: float) -> tuple[ChurnSeries, NDArray[np.void]]:
        """Return the intervals up to the last event, as rates and as they were counted."""
        state = self._flow.state
        width_ms, first_ms = float(state.width_ms), float(state.first_ms)
        intervals = np.asarray(self._flow.intervals)
        seen = int(-(-span_ms // width_ms))
        if self._flow.columns[seen:].any():
            seen += 1  # something happened at the very end
        intervals = intervals[:seen].copy()
        start_ms: F64 = first_ms + width_ms * np.arange(seen, dtype=np.float64)
        end_ms = np.minimum(start_ms + width_ms, first_ms + span_ms)
        end_ms = np.where(end_ms > start_ms, end_ms, start_ms + width_ms)
        spans_ms = end_ms - start_ms
        return ChurnSeries(
            start_s=start_ms / 1e3,
            end_s=end_ms / 1e3,
            allocated=intervals["allocated"] / spans_ms * 1e3,
            evicted=intervals["evicted"] / spans_ms * 1e3,
            freed=intervals["freed"] / spans_ms * 1e3,
            arrivals=intervals["arrivals"],
            failures=intervals["failures"],
            preemptions=intervals["preemptions"],
            usage=intervals["used_block_ms"] / (spans_ms * self._usable),
            waste=_shares(intervals["wasted_slot_ms"], intervals["used_slot_ms"]),
            hit_rate=_shares(intervals["hit_tokens"], intervals["queried_tokens"]),
        ), intervals


def _shares(part: F64, whole: F64) -> F64:
    shares: F64 = np.full(part.shape, np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares


def _working_set(window: Record, span_ms: float) -> WorkingSet:
    windows = int(span_ms // window.width_ms)
    # `number` turns with the events, so blocks of the last whole window may still be under way.
    all_blocks, all_contents = int(window.all_blocks), int(window.all_contents)
    if windows > window.number:
        all_blocks, all_contents = all_blocks + window.blocks, all_contents + window.contents
    return WorkingSet(
        window_s=float(window.width_ms) / 1e3,
        windows=windows,
        mean_blocks=all_blocks / windows if windows else None,
        most_blocks=int(max(window.most_blocks, window.blocks)),
        mean_contents=all_contents / windows if windows else None,
        most_contents=int(max(window.most_contents, window.contents)),
    )
