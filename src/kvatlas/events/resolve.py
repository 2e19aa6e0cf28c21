"""Resolving: every event on blocks gets the ids of its blocks.

Owns: the `Resolver`, and saying what is wrong with a stream. Leaves to others: reading it
(`recording`), what events do to the pool (`state`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from kvatlas.errors import InputError
from kvatlas.events._resolve_kernel import FINE, LIMITS, Tables, count_ids, resolve_rows
from kvatlas.events.chunk import Chunk
from kvatlas.events.header import Header
from kvatlas.events.schema import NONE
from kvatlas.records import one_record

__all__ = ["Resolver", "resolved"]

_MOST_IDS = 1 << 21

FAULTS = (
    "",
    "an unknown event",
    "an unknown cause",
    "a request that does not exist, or holds no blocks",
    "a KV cache group that does not exist",
    "a count that does not fit",
    "a block id outside of the pool",
    "a position outside of the block table",
    "a key out of range",
    "a step or time that is no such thing",
    "a number of tokens that is no such thing",
    "an eviction without the allocation it belongs to",
    "more block tables than requests may run",
    "no block ids",
)


class Resolver:
    """Follows the block tables through a stream, so that positions become ids.

    Memory: 4 bytes per cell of `max_num_seqs` tables (touched only where used), 4 per request, and
    4 per block once any is moved.
    """

    def __init__(self, header: Header, source: str | None = None) -> None:
        self.header, self.source = header, source
        seqs, groups = header.max_num_seqs, len(header.groups)
        self.tables = Tables(
            cells=np.empty((seqs, groups, header.max_table_blocks), np.int32),
            lengths=np.zeros((seqs, groups), np.int32),
            slot_of=np.full(max(1, header.num_requests), NONE, np.int32),
            request_of=np.full(seqs, NONE, np.int32),
            free_slots=np.arange(seqs, dtype=np.int32)[::-1].copy(),
            moved_to=np.zeros(header.num_blocks, np.int32),
            limits=one_record(
                LIMITS,
                num_blocks=header.num_blocks,
                first_block=int(header.has_null),
                num_requests=header.num_requests,
                num_keys=header.num_keys,
                free_slots=seqs,
            ),
        )
        self.events = 0

    def resolve(self, chunk: Chunk) -> Chunk:
        """Return `chunk` with the ids of all blocks; `chunk` itself stays as it is. O(rows + ids).

        Raises: InputError naming the event that is impossible.
        """
        pieces = list(self.pieces(Chunk(chunk.rows.copy(), chunk.ids), most_ids=1 << 62))
        return pieces[0] if pieces else Chunk(chunk.rows[:0], chunk.ids[:0])

    def pieces(self, chunk: Chunk, most_ids: int = _MOST_IDS) -> Iterator[Chunk]:
        """Yield `chunk` in pieces of some `most_ids` looked-up ids; changes its rows in place.

        So that no file, however it was made, takes more than 8 MB at a time beyond itself.
        """
        chunk = Chunk(chunk.rows.view(np.recarray), chunk.ids)
        start, longest = 0, self.header.max_table_blocks
        while start < len(chunk.rows):
            stop, count = count_ids(chunk.rows, start, most_ids, longest)
            listed = len(chunk.ids)
            ids = np.empty(listed + count, np.int32)
            ids[:listed] = chunk.ids
            self._run(chunk, start, stop, ids, listed)
            self.events += stop - start
            yield Chunk(chunk.rows[start:stop], ids)
            start = stop

    def _run(self, chunk: Chunk, start: int, stop: int, ids: np.ndarray, listed: int) -> None:
        fault = resolve_rows(self.tables, chunk.rows, start, stop, ids, listed, listed)
        if fault != FINE:
            number = self.events + int(self.tables.limits.bad_row) - start
            raise InputError(
                f"event {number} has {FAULTS[fault]}",
                file=self.source,
                field="events",
                remedy="the recording is damaged",
            )


def resolved(chunks: Iterable[Chunk], header: Header, source: str | None = None) -> Iterator[Chunk]:
    """Yield `chunks` resolved, piece by piece; their rows are changed in place."""
    resolver = Resolver(header, source)
    for chunk in chunks:
        yield from resolver.pieces(chunk)
