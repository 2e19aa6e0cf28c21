"""A slow, obvious model of temporal fragmentation: every slot, in every step."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from streams import Stream

from kvatlas.events import schema


@dataclass
class Held:
    """What a running request holds: per group its table's length, per slot how long it had it."""

    lengths: dict[int, int] = field(default_factory=dict)
    ages_ms: dict[tuple[int, int], float] = field(default_factory=lambda: defaultdict(float))
    computed: int = 0
    goal: int = 0


class EverySlot:
    """The definitions, slot by slot and step by step."""

    def __init__(self, stream: Stream) -> None:
        self.sizes = [group.block_size for group in stream.header.groups]
        self.held: dict[int, Held] = defaultdict(Held)
        self.running: set[int] = set()
        self.owners: dict[int, int] = defaultdict(int)
        self.group_of: dict[int, int] = {}
        self.cached: set[int] = set()
        self.now_ms = 0.0
        self.never_ms = self.idle_ms = self.owned_ms = self.prefill_ms = 0.0
        self.wasted_ms: dict[int, float] = defaultdict(float)
        self.blocks = {schema.BY_PREFILL: 0, schema.BY_DECODE: 0}
        self.end_slots: dict[int, int] = {}
        self.chunks: set[int] = set()
        for chunk in stream.resolved():
            for row in chunk.rows:
                at = row["blocks_at"]
                ids = chunk.ids[at : at + row["count"]].tolist() if at >= 0 else []
                self.event(row, ids)

    def event(self, row: np.void, ids: list[int]) -> None:
        event, request, group = int(row["event"]), int(row["request"]), int(row["group"])
        if event == schema.ARRIVED:
            return
        self.let_pass(float(row["time_ms"]) - self.now_ms)
        held = self.held[request]
        if event in (schema.ALLOCATED, schema.TOUCHED):
            held.lengths[group] = max(held.lengths.get(group, 0), int(row["position"]) + len(ids))
            for block in ids:
                self.owners[block] += 1
                self.group_of[block] = group
            if event == schema.ALLOCATED:
                self.blocks[int(row["cause"])] += len(ids)
        elif event == schema.FREED:
            for block in ids:
                self.owners[block] -= 1
        elif event == schema.CACHED:
            self.cached.update(ids)
        elif event == schema.EVICTED:
            self.cached.difference_update(ids)
        elif event == schema.ADMITTED:
            self.running.add(request)
            held.computed = int(row["computed_tokens"])
            held.goal = int(row["tokens"])
        elif event == schema.SCHEDULED:
            held.computed = int(row["computed_tokens"])
            self.chunks.add(request)
        elif event in (schema.PREEMPTED, schema.FINISHED) and request in self.running:
            self.leave(request, int(row["computed_tokens"]))
        elif event == schema.STEP:
            for _ in range(row["count"]):
                self.step(float(row["span_ms"]))

    def step(self, span_ms: float) -> None:
        for request in self.running:
            held = self.held[request]
            if request not in self.chunks and held.computed >= held.goal - 1:
                held.computed += 1
            slots = self.slots(held)
            for group, length in held.lengths.items():
                for slot in range(length * self.sizes[group]):
                    held.ages_ms[group, slot] += span_ms
            wasted = slots - len(self.sizes) * held.computed
            self.wasted_ms[request] += wasted * span_ms
            if request in self.chunks:
                self.prefill_ms += wasted * span_ms
        self.chunks.clear()
        self.let_pass(span_ms)

    def let_pass(self, span_ms: float) -> None:
        if span_ms <= 0:
            return
        self.now_ms += span_ms
        for block, owners in self.owners.items():
            slots = self.sizes[self.group_of[block]]
            if owners > 0:
                self.owned_ms += slots * span_ms
            elif block in self.cached:
                self.idle_ms += slots * span_ms

    def slots(self, held: Held) -> int:
        return sum(length * self.sizes[group] for group, length in held.lengths.items())

    def leave(self, request: int, computed: int) -> None:
        held = self.held.pop(request)
        self.running.remove(request)
        for (_, slot), age_ms in held.ages_ms.items():
            if slot >= computed:
                self.never_ms += age_ms
        self.end_slots[request] = self.slots(held) - len(self.sizes) * computed
