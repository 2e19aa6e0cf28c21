"""Fragmentation by the metrics page, the slow and obvious way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from toy_streams import Happening

from kvatlas.events import Header, schema

ORDERS = 27


def runs_of(members: Iterable[int]) -> list[tuple[int, int]]:
    """Return (start, length) of the maximal runs of consecutive numbers."""
    runs: list[tuple[int, int]] = []
    for number in sorted(members):
        if runs and number == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return runs


def lengths_of(members: Iterable[int]) -> list[int]:
    return [length for _, length in runs_of(members)]


def efi(lengths: Sequence[int]) -> float:
    return 1 - max(lengths) / sum(lengths)


def ufsi(lengths: Sequence[int], order: int) -> float:
    piece = 1 << order
    return 1 - sum(piece * (length // piece) for length in lengths) / sum(lengths)


def by_order(lengths: Sequence[int], order: int) -> int:
    return sum(2**order <= length < 2 ** (order + 1) for length in lengths)


def table_runs(table: Sequence[int | None]) -> int:
    """Return the maximal ascending runs of a table with gaps."""
    links = sum(a is not None and b == a + 1 for a, b in pairwise(table))
    return sum(block is not None for block in table) - links


class SlowTracker:
    """What `FragmentationTracker` says, recounted from scratch after every event."""

    def __init__(self, header: Header) -> None:
        self.blocks = range(int(header.has_null), header.num_blocks)
        self.used: set[int] = set()
        self.cached: set[int] = set()
        self.tables: dict[int, dict[int, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
        self.leaving: set[int] = set()
        self.last_runs: dict[int, int] = {}
        self.peak_runs: dict[int, int] = defaultdict(int)
        self.now_ms = self.end_ms = 0.0
        self.sums: dict[str, float] = defaultdict(float)
        self.ufsi_ms = np.zeros((2, ORDERS))
        self.order_ms = np.zeros((2, ORDERS))

    @property
    def free(self) -> set[int]:
        return set(self.blocks) - self.used

    @property
    def empty(self) -> set[int]:
        return self.free - self.cached

    def runs(self, request: int) -> int:
        return sum(
            table_runs([table.get(at) for at in range(max(table, default=-1) + 1)])
            for table in self.tables.get(request, {}).values()
        )

    def pass_time(self, time_ms: float) -> None:
        """Weigh the present state until `time_ms`."""
        span_ms = time_ms - self.now_ms
        if span_ms <= 0:
            return
        self.now_ms = time_ms
        self.sums["span"] += span_ms
        self.sums["used"] += span_ms * len(self.used)
        self.sums["empty"] += span_ms * len(self.empty)
        holding = [request for request in self.tables if self.runs(request) > 0]
        self.sums["holders"] += span_ms * len(holding)
        self.sums["table_runs"] += span_ms * sum(map(self.runs, holding))
        for which, members in enumerate((self.free, self.empty)):
            lengths = lengths_of(members)
            self.sums[f"runs{which}"] += span_ms * len(lengths)
            if not lengths:
                continue
            self.sums[f"members{which}"] += span_ms
            self.sums[f"largest{which}"] += span_ms * max(lengths)
            self.sums[f"efi{which}"] += span_ms * efi(lengths)
            for order in range(ORDERS):
                self.ufsi_ms[which, order] += span_ms * ufsi(lengths, order)
                self.order_ms[which, order] += span_ms * by_order(lengths, order)

    def happen(self, event: Happening) -> None:
        """Let one event change the pool."""
        if event.name == "arrived":
            return
        self.pass_time(event.time_ms)
        ids = [block for block, _, _ in event.blocks]
        request, group = event.request, int(event.row["group"])
        position = int(event.row["position"])
        if event.name in ("allocated", "touched"):
            self.used |= set(ids)
            if event.name == "allocated":
                self.cached -= set(ids)
            for i, block in enumerate(ids):
                self.tables[request][group][position + i] = block
            self.peak_runs[request] = max(self.peak_runs[request], self.runs(request))
        elif event.name == "cached":
            self.cached |= set(ids)
        elif event.name == "evicted" and event.row["cause"] == schema.BY_EXPLICIT:
            self.cached -= set(ids)
        elif event.name == "freed":
            self._freed(event, ids, request, group, position)
        elif event.name == "reset":
            self.cached = set()
        elif event.name == "moved":
            self._moved(dict(zip(ids, range(int(event.row["to_block"]), 1 << 30), strict=False)))
        elif event.name in ("preempted", "finished"):
            self.tables.pop(request, None)
        elif event.name == "step":
            end_ms = event.time_ms + float(event.row["count"]) * float(event.row["span_ms"])
            self.end_ms = max(self.end_ms, end_ms)

    def _freed(
        self, event: Happening, ids: list[int], request: int, group: int, position: int
    ) -> None:
        if event.row["ref_count"] == 0:
            self.used -= set(ids)
        if event.row["cause"] != schema.BY_SKIPPED:
            if self.runs(request) > 0:
                self.last_runs[request] = self.runs(request)
            self.tables.pop(request, None)
            return
        for i in range(len(ids)):
            self.tables[request][group].pop(position - i, None)
        self.peak_runs[request] = max(self.peak_runs[request], self.runs(request))

    def _moved(self, target: dict[int, int]) -> None:
        self.used = {target.get(block, block) for block in self.used}
        self.cached = {target.get(block, block) for block in self.cached}
        for request, tables in self.tables.items():
            for table in tables.values():
                for at, block in table.items():
                    table[at] = target.get(block, block)
            self.peak_runs[request] = max(self.peak_runs[request], self.runs(request))
