"""The pool as the events so far have made it.

Owns: `PoolState`: owners, content and block tables after any event, and its check. Leaves to
others: a frozen picture of it (`snapshot`).
"""

from __future__ import annotations

import numpy as np

from kvatlas.errors import InputError, InvariantError
from kvatlas.events._state_kernel import COUNTS, Blocks, apply_rows
from kvatlas.events.chunk import Chunk
from kvatlas.events.header import Header
from kvatlas.events.resolve import Resolver
from kvatlas.events.schema import NONE
from kvatlas.records import one_record

__all__ = ["PoolState"]


class PoolState:
    """Owners, content and tables; `advance` it through a stream of raw chunks.

    Memory: 12 bytes per block, and the resolver's. Cost: O(rows + ids) in all.

    Attributes:
        events: how many events it has seen.
        step, time_ms: those of the last event.
    """

    def __init__(self, header: Header, source: str | None = None) -> None:
        self.header = header
        self.resolver = Resolver(header, source)
        self.blocks = Blocks(
            ref_count=np.zeros(header.num_blocks, np.int32),
            key=np.full(header.num_blocks, NONE, np.int64),
            counts=one_record(COUNTS),
        )
        self.events = 0
        self.step, self.time_ms = 0, 0.0

    def advance(self, chunk: Chunk, stop: int | None = None) -> None:
        """Let the first `stop` rows of a raw `chunk` (all by default) happen.

        Raises: InputError naming the event that contradicts the ones before it.
        """
        rows = chunk.rows.copy().view(np.recarray)
        stop = len(rows) if stop is None else stop
        # Rows behind `stop` are still there to be looked at: an eviction's ids are in the next
        # allocation.
        listed = len(chunk.ids)
        longest = self.header.max_table_blocks
        on_tables = (rows["blocks_at"] == NONE) & (rows["count"] > 0) & (rows["count"] <= longest)
        room = int(rows["count"][:stop][on_tables[:stop]].sum(dtype=np.int64))
        ids = np.empty(listed + room, np.int32)
        ids[:listed] = chunk.ids
        self.resolver._run(Chunk(rows, chunk.ids), 0, stop, ids, listed)
        self.resolver.events += stop
        self.apply(Chunk(rows[:stop], ids))

    def apply(self, chunk: Chunk) -> None:
        """Let a resolved chunk happen to the blocks; the tables are the resolver's."""
        rows = chunk.rows.view(np.recarray)
        bad = apply_rows(self.blocks, rows, chunk.ids, 0, len(rows))
        if bad != NONE:
            number = self.events + int(self.blocks.counts.bad_row)
            raise InputError(
                f"event {number} contradicts the events before it",
                file=self.resolver.source,
                field="block",
                value=int(bad),
                remedy="the recording is damaged",
            )
        self.events += len(chunk.rows)
        if len(chunk.rows):
            self.step = int(chunk.rows["step"][-1])
            self.time_ms = float(chunk.rows["time_ms"][-1])

    def check(self) -> None:
        """Compare counts and tables with the blocks. Raises: InvariantError."""
        ref_count, key, counts = self.blocks
        free = ref_count == 0
        for name, held, seen in (
            ("used", int(counts.used), int((~free).sum())),
            ("cached", int(counts.cached), int((key != NONE).sum())),
            ("evictable", int(counts.evictable), int((free & (key != NONE)).sum())),
        ):
            if held != seen:
                raise InvariantError(f"{held} {name} blocks are counted, {seen} are there")
        owners = np.zeros_like(ref_count)
        tables = self.resolver.tables
        for slot in np.flatnonzero(tables.request_of != NONE).tolist():
            for group, length in enumerate(tables.lengths[slot].tolist()):
                cells = tables.cells[slot, group, :length]
                np.add.at(owners, cells[cells != NONE], 1)
        # Blocks taken through the bare pool have owners but no table.
        if (owners > ref_count).any():
            block = int(np.flatnonzero(owners > ref_count)[0])
            raise InvariantError(f"block {block} is in more tables than it has owners")
