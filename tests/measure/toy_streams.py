"""Resolved event streams made by hand, and random ones that no engine would give.

The random pool breaks every order that a replay keeps: it evicts any free block, evicts on demand,
resets, moves blocks, preempts at any moment; so that analysers owe nothing to vLLM's habits.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvatlas.events import Chunk, Group, Header, schema
from kvatlas.events.schema import EVENT, NONE, SCHEMA_VERSION


def toy_header(
    num_blocks: int = 100,
    num_requests: int = 50,
    num_keys: int = 1000,
    block_size: int = 4,
    caching: bool = True,
    groups: tuple[Group, ...] | None = None,
) -> Header:
    """Return a header; one full-attention group unless told otherwise."""
    return Header(
        schema=SCHEMA_VERSION,
        kvatlas="test",
        producer="replay",
        engine="by hand",
        num_blocks=num_blocks,
        has_null=False,
        caching=caching,
        groups=groups or (Group("FullAttentionSpec", block_size),),
        hash_block_size=block_size,
        max_num_seqs=50,
        max_table_blocks=50,
        num_requests=num_requests,
        num_keys=num_keys,
    )


@dataclass
class Story:
    """Events in the order in which they are told; each method appends one."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    now_ms: float = 0.0

    def tell(self, event: int, blocks: list[int] | None = None, **columns: Any) -> None:
        row = {"event": event, "time_ms": self.now_ms, **columns}
        if blocks is not None:
            row |= {"blocks_at": len(self.ids), "count": len(blocks)}
            row.setdefault("group", 0)
            self.ids += blocks
        self.rows.append(row)

    def at(self, time_ms: float) -> None:
        self.now_ms = time_ms

    def arrive(self, request: int, session: int = NONE) -> None:
        self.tell(schema.ARRIVED, request=request, session=session)

    def look_up(self, request: int, tokens: int, hit: int, resumed: bool = False) -> None:
        cause = schema.BY_RESUMED if resumed else schema.BY_NEW
        self.tell(
            schema.LOOKED_UP, request=request, tokens=tokens, computed_tokens=hit, cause=cause
        )

    def touch(self, request: int, blocks: list[int], position: int = 0, **columns: Any) -> None:
        self.tell(schema.TOUCHED, blocks, request=request, position=position, **columns)

    def allocate(self, request: int, blocks: list[int], position: int = 0, **columns: Any) -> None:
        self.tell(
            schema.ALLOCATED, blocks, request=request, position=position, ref_count=1, **columns
        )

    def cache(
        self, request: int, blocks: list[int], key: int, position: int = 0, stride: int = 1,
        **columns: Any,
    ) -> None:  # fmt: skip
        self.tell(
            schema.CACHED, blocks, request=request, position=position, key=key,
            key_stride=stride, **columns,
        )  # fmt: skip

    def evict(
        self, blocks: list[int], key: int, stride: int = 1, cause: int = schema.BY_ALLOCATION
    ) -> None:
        self.tell(schema.EVICTED, blocks, key=key, key_stride=stride, cause=cause)

    def free(self, request: int, blocks: list[int], ref_count: int = 0, **columns: Any) -> None:
        self.tell(schema.FREED, blocks, request=request, ref_count=ref_count, **columns)

    def finish(self, request: int, cause: int = schema.BY_LENGTH) -> None:
        self.tell(schema.FINISHED, request=request, cause=cause)

    def chunk(self) -> Chunk:
        """Return the story as a resolved chunk."""
        rows = np.zeros(len(self.rows), EVENT)
        for name in EVENT.names or ():
            rows[name] = 0 if name in ("key_stride", "span_ms") else NONE
        for at, row in enumerate(self.rows):
            for name, value in row.items():
                rows[at][name] = value
        return Chunk(rows, np.array(self.ids, np.int32))


@dataclass(frozen=True)
class Happening:
    """One row in plain Python: `blocks` with the position and key of each, where there are any."""

    name: str
    row: Any
    blocks: list[tuple[int, int, int]]

    @property
    def request(self) -> int:
        return int(self.row["request"])

    @property
    def time_ms(self) -> float:
        return float(self.row["time_ms"])


def happenings(chunks: list[Chunk]) -> Iterator[Happening]:
    """Yield the rows of resolved chunks, spelled out."""
    names = list(schema.EVENTS)
    for chunk in chunks:
        for row in chunk.rows:
            blocks = []
            if row["blocks_at"] != NONE:
                for i in range(int(row["count"])):
                    block = int(chunk.ids[int(row["blocks_at"]) + i])
                    key = int(row["key"]) + i * int(row["key_stride"])
                    blocks.append((block, int(row["position"]) + i, key))
            yield Happening(names[int(row["event"])], row, blocks)


@dataclass
class _Runner:
    keys: list[int]
    prompt: int
    tokens: int
    computed: int = 0
    cached: int = 0
    table: list[int] = field(default_factory=list)
    preempted: bool = False


class RandomPool:
    """A pool whose every decision is drawn; gives a resolved stream that keeps its promises."""

    def __init__(self, seed: int, *, steps: int = 60, blocks: int = 16, spread: int = 1) -> None:
        self.random = random.Random(seed)
        self.block_size = 4
        self.num_blocks = blocks
        self.story = Story()
        self.refs = [0] * blocks
        self.key: list[int | None] = [None] * blocks
        self.names: dict[tuple[int, ...], int] = {}
        self.spread = spread
        self.waiting: dict[int, _Runner] = {}
        self.running: dict[int, _Runner] = {}
        self.requests = 0
        for _ in range(steps):
            self.story.at(self.story.now_ms + self.random.choice([0, 0, 1, 2.5, 7]))
            self.random.choices(
                [self._arrive, self._admit, self._go_on, self._preempt, self._finish,
                 self._evict_on_demand, self._reset, self._move],
                [4, 6, 6, 1, 3, 1, 0.3, 0.5],
            )[0]()  # fmt: skip

    def header(self) -> Header:
        dense = self.spread == 1
        return toy_header(
            self.num_blocks, max(1, self.requests), len(self.names) + 1 if dense else 0
        )

    def _name(self, path: tuple[int, ...]) -> int:
        number = self.names.setdefault(path, len(self.names))
        return number if self.spread == 1 else number * self.spread - (1 << 40)

    def _arrive(self) -> None:
        tokens = self.random.randint(1, 26)
        path = tuple(self.random.choice([0, 0, 1]) for _ in range(20))
        keys = [self._name(path[: i + 1]) for i in range(20)]
        request, self.requests = self.requests, self.requests + 1
        self.waiting[request] = _Runner(keys, tokens, tokens)
        self.story.arrive(request, self.random.choice([NONE, 0, 1]))

    def _admit(self) -> None:
        if not self.waiting:
            return
        request = self.random.choice(list(self.waiting))
        runner = self.waiting[request]
        hits: list[int] = []
        for key in runner.keys[: (runner.tokens - 1) // self.block_size]:
            if key not in self.key:
                break
            hits.append(self.key.index(key))
        if sum(ref == 0 for ref in self.refs) <= len(hits):
            return
        del self.waiting[request]
        self.running[request] = runner
        runner.computed = len(hits) * self.block_size
        runner.cached = len(hits)
        runner.table = list(hits)
        self.story.look_up(request, runner.tokens, runner.computed, resumed=runner.preempted)
        for block in hits:
            self.refs[block] += 1
        if hits:
            self.story.touch(request, hits)
        self._compute(request, self.random.randint(1, runner.tokens - runner.computed))

    def _go_on(self) -> None:
        if not self.running:
            return
        request = self.random.choice(list(self.running))
        runner = self.running[request]
        if runner.computed < runner.tokens:
            self._compute(request, self.random.randint(1, runner.tokens - runner.computed))
        elif runner.tokens < 70:
            runner.tokens += 1
            self._compute(request, 1)

    def _compute(self, request: int, tokens: int) -> None:
        runner = self.running[request]
        needed = -(-(runner.computed + tokens) // self.block_size) - len(runner.table)
        free = [block for block, ref in enumerate(self.refs) if ref == 0]
        if needed > len(free):
            return
        runner.computed += tokens
        taken = self.random.sample(free, needed)
        for block in taken:
            key = self.key[block]
            if key is not None:
                self.story.evict([block], key)
            self.key[block] = None
            self.refs[block] = 1
        if taken:
            self.story.allocate(request, taken, len(runner.table))
        runner.table += taken
        for at in range(runner.cached, runner.computed // self.block_size):
            block = runner.table[at]
            if self.key[block] is None:
                self.key[block] = runner.keys[at]
                self.story.cache(request, [block], runner.keys[at], at)
        runner.cached = runner.computed // self.block_size

    def _leave(self, request: int) -> _Runner:
        runner = self.running.pop(request)
        for at, block in reversed(list(enumerate(runner.table))):
            self.refs[block] -= 1
            self.story.free(request, [block], self.refs[block], position=at)
        return runner

    def _preempt(self) -> None:
        if self.running:
            request = self.random.choice(list(self.running))
            runner = self._leave(request)
            runner.preempted = True
            self.waiting[request] = runner
            self.story.tell(schema.PREEMPTED, request=request)

    def _finish(self) -> None:
        if self.running:
            request = self.random.choice(list(self.running))
            self._leave(request)
            self.story.finish(request, self.random.choice([schema.BY_LENGTH, schema.BY_ABORTED]))

    def _evict_on_demand(self) -> None:
        cached = [(block, key) for block, key in enumerate(self.key) if key is not None]
        if cached:
            block, key = self.random.choice(cached)
            self.key[block] = None
            self.story.evict([block], key, cause=schema.BY_EXPLICIT)

    def _reset(self) -> None:
        if not any(self.refs):
            self.story.tell(schema.RESET)
            self.key = [None] * self.num_blocks

    def _move(self) -> None:
        empty = [
            block for block, ref in enumerate(self.refs) if ref == 0 and self.key[block] is None
        ]
        full = [block for block in range(self.num_blocks) if block not in empty]
        if empty and full:
            source, target = self.random.choice(full), self.random.choice(empty)
            self.refs[target], self.refs[source] = self.refs[source], 0
            self.key[target], self.key[source] = self.key[source], None
            for runner in self.running.values():
                runner.table = [target if block == source else block for block in runner.table]
            self.story.tell(schema.MOVED, [source], to_block=target)
