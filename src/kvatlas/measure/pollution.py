"""What evictions cost: content that was asked for again, content that nobody asked for, and whose.

Owns: `Pollution`, over the blocks of the first full-attention group. Leaves to others: the compiled
loop (`_pollution_kernel`), why tokens were missed (`misses`).

An eviction *loses* content unless another block still has it (a copy). A loss is *premature* when a
later lookup, first or resumed, asks for the content; else it was never asked for again, up to the
end of the recording. A lookup asks for every full block before its last token, hit or not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import Chunk, Header
from kvatlas.events.schema import ARRIVED, NONE
from kvatlas.measure._pollution_kernel import (
    ASKER,
    FILLED,
    LOSSES,
    POLLUTION,
    Losses,
    follow_losses,
)
from kvatlas.measure.feeding import NO_REFERENCE_GROUP, reference_group, writable
from kvatlas.measure.figures import Figures
from kvatlas.measure.keys import KeyTable
from kvatlas.records import one_record, records

__all__ = ["Pollution", "PollutionResult"]


@dataclass(frozen=True, slots=True, eq=False)
class PollutionResult:
    """Evictions by what came of them.

    Attributes:
        premature_blocks: losses of content that was asked for again. A request's keys are known
            when its blocks are cached; of several losses of a key between its lookup and then, all
            but the last count as before the lookup.
        never_asked_blocks: losses of content that was not, so far.
        copies_blocks: evictions of content that another block still had.
        block_size: tokens per block.
        polluted_blocks: (R,) content that is gone, that nobody asked for since, and that this
            request cached last; each content counts once however often it was lost.
        sessions: (R,) the session of each request, NONE when unknown.
    """

    premature_blocks: int
    never_asked_blocks: int
    copies_blocks: int
    block_size: int
    polluted_blocks: NDArray[np.int64]
    sessions: NDArray[np.int32]

    @property
    def premature_tokens(self) -> int:
        """Tokens in the premature blocks."""
        return self.premature_blocks * self.block_size

    @property
    def share(self) -> float | None:
        """Content never asked for again, of all content lost; None when none was."""
        lost = self.premature_blocks + self.never_asked_blocks
        return self.never_asked_blocks / lost if lost else None

    def top_requests(self, most: int = 10) -> list[tuple[int, int]]:
        """Return (request, blocks) of those that polluted most, the most first; O(R log R)."""
        order = np.argsort(-self.polluted_blocks, kind="stable")[:most]
        return [
            (int(row), int(self.polluted_blocks[row])) for row in order if self.polluted_blocks[row]
        ]

    def top_sessions(self, most: int = 10) -> list[tuple[int, int]]:
        """Return (session, blocks) of those that polluted most, the most first; O(R log R)."""
        known = self.sessions != NONE
        numbers, which = np.unique(self.sessions[known], return_inverse=True)
        blocks = np.zeros(numbers.size, np.int64)
        np.add.at(blocks, which, self.polluted_blocks[known])
        order = np.argsort(-blocks, kind="stable")[:most]
        return [(int(numbers[at]), int(blocks[at])) for at in order if blocks[at]]


class Pollution:
    """Follows evicted content through a stream of resolved chunks; O(1) per block event.

    Memory: 16 bytes per key, 28 per request, 8 per block.
    """

    def __init__(self, header: Header) -> None:
        self.header = header
        self._group = reference_group(header)
        sizes = [group.block_size for group in header.groups]
        self._keys = KeyTable(header.num_keys, LOSSES)
        self._askers = records(header.num_requests, ASKER)
        self._blocks = records(header.num_blocks, FILLED)
        self._sessions = np.full(header.num_requests, NONE, np.int32)
        self._counts = one_record(
            POLLUTION,
            group=self._group or 0,
            block_size=sizes[self._group or 0],
            step=math.lcm(*sizes),
        )

    def feed(self, chunk: Chunk) -> None:
        """Take in a resolved chunk; O(rows + ids)."""
        if self._group is None or not self.header.caching:
            return
        rows, ids = writable(chunk)
        arrived = rows[rows["event"] == ARRIVED]
        self._sessions[arrived["request"]] = arrived["session"]
        self._keys.make_room(rows)
        follow_losses(
            Losses(self._keys.rows, self._keys.index, self._askers, self._blocks, self._counts),
            rows,
            ids,
        )

    def result(self) -> PollutionResult:
        """Return the counts so far; O(requests)."""
        counts = self._counts
        return PollutionResult(
            premature_blocks=int(counts.premature),
            never_asked_blocks=int(counts.lost) - int(counts.premature),
            copies_blocks=int(counts.copies),
            block_size=int(counts.block_size),
            polluted_blocks=self._askers["polluted"].copy(),
            sessions=self._sessions.copy(),
        )

    def figures(self, sheet: Figures) -> None:
        """Put `prefix.evicted_*` and `prefix.pollution_*`."""
        names = (
            "prefix.evicted_premature_blocks",
            "prefix.evicted_premature_tokens",
            "prefix.evicted_never_asked_blocks",
            "prefix.evicted_copies_blocks",
            "prefix.pollution_share",
            "prefix.pollution_top_session_share",
        )
        if not self.header.caching:
            sheet.lack("prefix caching is off: no block is cached", *names)
            return
        if self._group is None:
            sheet.lack(NO_REFERENCE_GROUP, *names)
            return
        result = self.result()
        sheet.put(names[0], result.premature_blocks)
        sheet.put(names[1], result.premature_tokens)
        sheet.put(names[2], result.never_asked_blocks)
        sheet.put(names[3], result.copies_blocks)
        lost = result.premature_blocks + result.never_asked_blocks
        sheet.ratio(names[4], result.never_asked_blocks, lost, "no content was evicted")
        if not (result.sessions != NONE).any():
            sheet.lack("the sessions of requests are not known", names[5])
            return
        top = result.top_sessions(1)
        polluted = int(result.polluted_blocks.sum())
        sheet.ratio(names[5], top[0][1] if top else 0, polluted, "nothing polluted the cache")
