"""`FirstFitAllocator`, `BestFitAllocator`, `BuddyAllocator`: the placements by address, alone.

Owns: a typed face over the kernels that the engine runs, on ids 0 .. N - 1 with an owner or none.
Leaves to others: the searches (`_spans_kernel`), and what the ids stand for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.placement import _entries_kernel as entries
from kvatlas.placement.build import make_placement
from kvatlas.placement.check import check_placement
from kvatlas.placement.registry import PLACEMENTS

__all__ = ["BestFitAllocator", "BuddyAllocator", "FirstFitAllocator"]

_MOST_IDS = 2**27 - 1


class _Allocator:
    """Ids 0 .. `num_ids` - 1, each free or taken, handed out in as few runs as the policy finds.

    Args:
        num_ids: N, at least 1 and below 2**27.

    Raises:
        InputError: another number of ids.
    """

    policy: str

    def __init__(self, num_ids: int) -> None:
        _require_whole(num_ids, "num_ids")
        if not 1 <= num_ids <= _MOST_IDS:
            raise InputError("must be from 1 to below 2**27 ids", field="num_ids", value=num_ids)
        self.num_ids = num_ids
        self._free = np.ones(num_ids, bool)
        self._state = make_placement(PLACEMENTS[f"{self.policy}-any"], num_ids, self._free)

    @property
    def num_free(self) -> int:
        """Free ids; O(1)."""
        return int(self._state.info.members)

    def allocate(self, count: int) -> list[int] | None:
        """Take `count` ids, None when fewer are free; O(runs log N + count).

        They are one run where the policy finds one; else few pieces, in ascending order.
        """
        _require_whole(count, "count")
        if count < 0:
            raise InputError("must be at least 0", field="count", value=count)
        if count > self.num_free:
            return None
        out = np.empty(count, np.int32)
        entries.allocate_ids(self._state, count, out)
        self._free[out] = False
        return out.tolist()

    def allocate_run(self, count: int) -> int | None:
        """Take `count` ids side by side and return the first, None when no run is found; O(log N).

        The buddy system finds a run only within one of its pieces.
        """
        _require_whole(count, "count")
        if count < 1:
            raise InputError("must be at least 1", field="count", value=count)
        if count > self.num_free:
            return None
        first = int(entries.allocate_run(self._state, count))
        if first < 0:
            return None
        self._free[first : first + count] = False
        return first

    def free(self, ids: Sequence[int]) -> None:
        """Give ids back; neighbours merge. O(log N) for each run of them, in the order given.

        Raises: InputError for an id that is free already, given twice or none of ours.
        """
        array = np.asarray(ids, np.int64)
        inside = array.size == 0 or (array.min() >= 0 and array.max() < self.num_ids)
        if not inside or self._free[array].any() or np.unique(array).size != array.size:
            raise InputError(
                "an id is freed that nobody has",
                field="ids",
                value=array.tolist(),
                remedy=f"free each id from 0 to {self.num_ids - 1} once",
            )
        entries.free_ids(self._state, array.astype(np.int32))
        self._free[array] = True

    def free_runs(self) -> list[tuple[int, int]]:
        """Return the maximal runs of free ids as (first, length), ascending; O(N)."""
        edges = np.flatnonzero(
            np.diff(np.concatenate(([False], self._free, [False])).astype(np.int8))
        )
        return list(zip(edges[::2].tolist(), np.diff(edges)[::2].tolist(), strict=True))

    def free_ids(self) -> NDArray[np.bool_]:
        """Return (N,) which ids are free, a copy; O(N)."""
        return self._free.copy()

    def check(self) -> None:
        """Check every invariant; O(N log N). Raises InvariantError."""
        check_placement(self._state, self._free)


class FirstFitAllocator(_Allocator):
    """The run at the lowest address that is long enough; O(log N). See `_Allocator.allocate`."""

    policy = "first-fit"


class BestFitAllocator(_Allocator):
    """The shortest run that is long enough, of equal ones the lowest; O(log N)."""

    policy = "best-fit"


class BuddyAllocator(_Allocator):
    """The smallest aligned piece of 2**k ids that is large enough; any N; O(log N).

    What a need leaves of its piece stays free, and freed ids merge with their buddies.
    """

    policy = "buddy"


def _require_whole(value: object, field: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError("must be a whole number", field=field, value=value)
