"""`LiveTally`: what a live view counts, and reads out in no time.

Owns: the arrays, feeding, the roster of requests. Leaves to others: the loop (`_tally_kernel`),
rates and the course (`history`), everything that takes an analyser (`kvatlas.measure`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import Chunk, Header
from kvatlas.events.schema import NONE
from kvatlas.measure.feeding import writable
from kvatlas.records import Record, Records, one_record, records
from kvatlas.watch._tally_kernel import follow
from kvatlas.watch._tally_state_kernel import (
    GROUP,
    NOW,
    PREEMPTED,
    REQUEST,
    SUMS,
    WAITING,
    Tally,
)

__all__ = ["MOST_SAMPLES", "SPACING_MS", "LiveTally"]

MOST_SAMPLES = 600
SPACING_MS = 1000.0
"""Between two samples of the newest part; older ones lie farther apart, in step with their age."""


class LiveTally:
    """Counts a resolved stream. Memory: 2 bytes per block, 40 per request, 120 kB of samples.

    Attributes:
        sums, now: records `SUMS` and `NOW` of `_tally_state_kernel`, always up to date.
        groups, requests: (G,) `GROUP` and (R,) `REQUEST`.
    """

    def __init__(self, header: Header, *, most_samples: int = MOST_SAMPLES) -> None:
        groups = records(len(header.groups), GROUP)
        groups["slots"] = [
            group.block_size if group.slots_hold_tokens else 0 for group in header.groups
        ]
        self._tally = Tally(
            sums=one_record(SUMS),
            now=one_record(NOW),
            groups=groups,
            requests=records(max(1, header.num_requests), REQUEST),
            samples=records(max(8, most_samples), SUMS),
            flags=np.zeros(header.num_blocks, np.uint8),
            group_of=np.zeros(header.num_blocks, np.int8),
            kinds=header.slot_groups,
        )
        self.sums: Record = self._tally.sums
        self.now: Record = self._tally.now
        self.groups: Records = groups
        self.requests: Records = self._tally.requests

    def feed(self, chunk: Chunk) -> None:
        """Take in a resolved chunk; O(rows + ids)."""
        follow(self._tally, *writable(chunk), SPACING_MS)

    def samples(self) -> NDArray[np.void]:
        """Return the sums at some moments, the newest last: (K,) `SUMS`, a copy; O(K)."""
        kept = np.asarray(self._tally.samples[: int(self.now.samples)])
        if not kept.size or kept["time_ms"][-1] < self.sums.time_ms:
            kept = np.append(kept, np.array([tuple(self.sums)], SUMS))
        return kept.copy()

    def longest_waiting(self, most: int) -> list[int]:
        """Return the rows of requests that wait, the longest first; O(requests)."""
        states = self.requests["state"]
        rows = np.flatnonzero((states == WAITING) | (states == PREEMPTED))
        order = np.argsort(self.requests["since_ms"][rows], kind="stable")[:most]
        return [int(row) for row in rows[order]]

    @property
    def wasted_slots(self) -> int | None:
        """Slots of used blocks without a token after the last step; None when not recorded."""
        if self.now.used == 0:
            return 0
        return None if self.now.wasted == NONE or self.now.step == 0 else int(self.now.wasted)
