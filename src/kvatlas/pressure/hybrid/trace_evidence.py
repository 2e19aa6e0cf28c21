"""`TraceEvidence`: what other divisions of the memory would have saved of a replay so far.

Owns: what requests would have found at other sizes, what steps would have held, and its fading.
Leaves to others: where each block lay in the LRU stack (`kvatlas.measure.curves`), the decision.

All seconds are the engine's, of its simulated clock. With D blocks on the device and H in the host
tier, found at depth d of the LRU stack over both a block saves its computation up to D, and that
less bringing it back up to D + H. The stack is the trace's, in the order of its requests; only
those that were admitted count, so nothing of the future is known.

The device is also where requests run. Steps have a price of their own (`step_s`), whoever is in
them: with room for fewer requests the same work takes more of them. If a step's requests held h
blocks, D < h takes h / D times as many steps. If the queue's head was refused for lack of blocks
with L on the device, demand was larger than L, and D takes L / D times as many steps, more or less.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure.curves import ReuseRuns

__all__ = ["TraceEvidence"]

_FORGOTTEN = 2.0**-10
_FADES = 0.5


class TraceEvidence:
    """Counts for as many requests as weigh anything. Memory: 40 bytes per piece of reuse.

    Args:
        runs: the pieces of reuse of the trace, None when its prefixes are unknown.
        recompute_s, restore_s: seconds to compute a block, and to bring one back.
        step_s: seconds of a step whatever is in it.
    """

    def __init__(
        self, runs: ReuseRuns | None, *, recompute_s: float, restore_s: float, step_s: float
    ) -> None:
        self.recompute_s, self.restore_s, self.step_s = recompute_s, restore_s, step_s
        self._rows = np.empty(0, np.int64)
        self._place = self._length = self._rows
        requests = 0
        if runs is not None:
            requests = runs.num_requests
            start = runs.start.astype(np.int64)
            length = np.minimum(runs.end, runs.paths.servable[runs.rows]) - start
            some = length > 0
            self._rows, self._length = runs.rows[some], length[some]
            self._place = (runs.newer + start)[some]
        self._seen = np.zeros(requests, np.bool_)
        self._weight = np.zeros(requests)
        self._steps = np.empty((0, 5))  # weight, unrefused steps, refused steps, held, on device

    def admitted(self, rows: NDArray[np.bool_]) -> None:
        """Say which requests have been admitted so far, (N,) of all; O(N)."""
        if self._seen.size:
            self._weight[rows & ~self._seen] = 1.0
            self._seen |= rows

    def stepped(self, steps: int, refused_share: float, held: int, device_blocks: int) -> None:
        """Count steps whose requests held `held` of the device's blocks.

        `refused_share` of them, 0 to 1, left a waiting request out for lack of blocks.
        """
        refused = steps * refused_share
        row = [1.0, steps - refused, refused, float(held), float(device_blocks)]
        self._steps = np.vstack((self._steps, row))

    def found(self, capacity: int) -> float:
        """Return the blocks that an LRU cache of that size would have hit. O(pieces)."""
        within = np.clip(capacity - self._place, 0, self._length)
        return float((self._weight[self._rows] * within).sum())

    def value_s(self, device_blocks: int, host_blocks: int) -> float:
        """Return the seconds that a division would have saved, against no cache and no refusal."""
        device, both = self.found(device_blocks), self.found(device_blocks + host_blocks)
        saved_s = self.recompute_s * both - self.restore_s * (both - device)
        weight, free, refused, held, limit = self._steps.T
        fewer = free * np.minimum(0.0, 1 - held / device_blocks)
        fewer += refused * (1 - limit / device_blocks)
        return saved_s + self.step_s * float((weight * fewer).sum())

    def fade(self) -> None:
        """Let everything so far weigh half, and forget what weighs next to nothing."""
        self._weight *= _FADES
        self._weight[self._weight < _FORGOTTEN] = 0.0
        self._steps[:, 0] *= _FADES
        self._steps = self._steps[self._steps[:, 0] >= _FORGOTTEN]
