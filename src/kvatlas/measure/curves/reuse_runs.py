"""Everything that a prefix cache's hit rate depends on, in one pass over the requests.

Owns: `ReuseRuns`, the table of pieces (blocks of one request that one earlier request used last).
Leaves to others: the curve (`lru`) and the optimum (`optimum`), which follow from it without
looking at the trace again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InvariantError
from kvatlas.measure.curves._reuse_runs_kernel import OUT, Out, Recency, run_rows
from kvatlas.measure.curves.paths import Paths
from kvatlas.records import one_record

__all__ = ["ReuseRuns", "reuse_runs"]

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

_SLICE_BLOCKS = 1 << 23  # what is walked between two looks at the clock, about 50 ms
_FIRST_ROOM = 1 << 12


@dataclass(frozen=True, slots=True, eq=False)
class ReuseRuns:
    """S pieces of the paths of the first N requests, by request and then by depth.

    Piece i of request t is the blocks of t's path from the end of the piece before it (0 for the
    first) to `end[i]`; all of them were used last by request `last_use[i]` < t, and `newer[i]`
    other blocks, off t's path, have been used since by requests after that one. What follows a
    request's last piece was never used before.

    Attributes:
        paths: the requests' paths.
        offsets: (N + 1,) where each request's pieces start.
        last_use, end: (S,) int32; newer: (S,) int64.
    """

    paths: Paths
    offsets: I64
    last_use: I32
    end: I32
    newer: I64

    @property
    def num_requests(self) -> int:
        """N: fewer than the workload has when the pass was stopped."""
        return self.offsets.size - 1

    @property
    def rows(self) -> I64:
        """(S,) the request of each piece. O(S)."""
        return np.repeat(np.arange(self.num_requests), np.diff(self.offsets))

    @property
    def start(self) -> I32:
        """(S,) the depth at which each piece starts. O(S)."""
        start = np.zeros_like(self.end)
        start[1:] = self.end[:-1]
        first = self.offsets[:-1][np.diff(self.offsets) > 0]
        start[first] = 0
        return start

    @property
    def seen(self) -> I32:
        """(N,) leading blocks of each path that some earlier request used. O(N)."""
        seen = np.zeros(self.num_requests, np.int32)
        some = np.flatnonzero(np.diff(self.offsets))
        seen[some] = self.end[self.offsets[some + 1] - 1]
        return seen

    def check(self) -> None:
        """Verify what the table promises. O(S + N). Raises: InvariantError."""
        offsets = self.offsets
        if offsets[0] != 0 or offsets[-1] != self.end.size or (np.diff(offsets) < 0).any():
            raise InvariantError("reuse runs: offsets must rise from 0 to the number of pieces")
        start, rows = self.start, self.rows
        identified = self.paths.arrays.identified[: self.num_requests]
        for kept, promise in (
            ((self.end > start).all(), "a piece must hold blocks"),
            ((self.last_use < rows).all() and (self.last_use >= 0).all(), "uses lie before"),
            ((self.seen <= identified).all(), "only identified blocks can be found again"),
            ((self.newer >= 0).all(), "no fewer than no blocks are newer"),
        ):
            if not kept:
                raise InvariantError(f"reuse runs: {promise}")
        within = np.flatnonzero(start > 0)
        if (self.last_use[within] >= self.last_use[within - 1]).any():
            raise InvariantError("reuse runs: deeper pieces must be older")
        if (self.newer[within] < self.newer[within - 1]).any():
            raise InvariantError("reuse runs: less recent blocks have more newer ones")


def reuse_runs(
    paths: Paths,
    *,
    on_progress: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> ReuseRuns:
    """Walk all paths once and return their pieces.

    O((N + S) log N) time and O(N + S) memory, whatever the block size: pieces are found by binary
    search, and their number does not grow when blocks get smaller (the bound is the one of
    preferred paths in link-cut trees, O(N log N); on real traces S is one to three times N).

    Args:
        paths: the requests.
        on_progress: called now and then with the requests walked so far.
        should_stop: asked as often; True ends the pass with what it has.
    """
    rows = paths.num_requests
    recency = Recency(
        tree=np.zeros(rows + 1, np.int64),
        keys=np.full(1 << max(4, (2 * rows + 1).bit_length()), -1, np.int64),
        owners=np.zeros(1 << max(4, (2 * rows + 1).bit_length()), np.int32),
    )
    out = Out(
        offsets=np.zeros(rows + 1, np.int64),
        last_use=np.empty(_FIRST_ROOM, np.int32),
        end=np.empty(_FIRST_ROOM, np.int32),
        newer=np.empty(_FIRST_ROOM, np.int64),
        info=one_record(OUT),
    )
    stops = _slices(paths)
    while out.info.row < rows:
        before = int(out.info.row)
        stop = int(stops[np.searchsorted(stops, before, side="right")])
        run_rows(paths.arrays, recency, out, stop)
        if out.info.row < stop:
            out = _with_room(out, paths)
        elif on_progress is not None:
            on_progress(int(out.info.row))
        if should_stop is not None and should_stop():
            break
    done, used = int(out.info.row), int(out.info.used)
    out.offsets[done] = used
    return ReuseRuns(
        paths=paths,
        offsets=out.offsets[: done + 1].copy(),
        last_use=out.last_use[:used].copy(),
        end=out.end[:used].copy(),
        newer=out.newer[:used].copy(),
    )


def _slices(paths: Paths) -> I64:
    """Return the rows (rising, the last is N) at which to look up from the work."""
    rows = paths.num_requests
    work = np.cumsum(paths.arrays.blocks.astype(np.int64) // paths.arrays.blocks_per_id + 1)
    every = np.arange(_SLICE_BLOCKS, int(work[-1]) if rows else 0, _SLICE_BLOCKS)
    return np.unique(np.append(np.searchsorted(work, every, side="right"), rows))


def _with_room(out: Out, paths: Paths) -> Out:
    """Return `out` with room for the next request's pieces whatever they are, at least doubled."""
    needed = int(out.info.used) + int(paths.arrays.identified[out.info.row]) + 1
    room = max(2 * out.end.size, needed)

    def grown(column: NDArray[Any]) -> NDArray[Any]:
        wider = np.empty(room, column.dtype)
        wider[: column.size] = column
        return wider

    return out._replace(last_use=grown(out.last_use), end=grown(out.end), newer=grown(out.newer))
