"""Invariants of a placement's state, checked the slow and obvious way.

Owns: what must hold after every operation. Leaves to others: making it hold. O(ids log ids).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InvariantError
from kvatlas.placement._codes_kernel import SORTED, WINDOW
from kvatlas.placement._state_kernel import Placement
from kvatlas.placement.build import make_placement
from kvatlas.placement.registry import PLACEMENTS

__all__ = ["check_placement"]


def check_placement(placement: Placement, members: NDArray[np.bool_]) -> None:
    """Check that the state is what one would make now of the set it chooses from.

    Args:
        placement: the state.
        members: (N,) the ids that a placement by address may choose from.

    Raises:
        InvariantError: names the first promise that is broken.
    """
    _require(not placement.chosen.words.any(), "the placement's working space still holds ids")
    code = int(placement.info.code)
    if code in (SORTED, WINDOW):
        return
    policy = next(one for one in PLACEMENTS.values() if one.code == code)
    fresh = make_placement(policy, members.size, members)
    _require(
        int(placement.info.members) == int(fresh.info.members),
        f"the placement counts {int(placement.info.members)} ids to choose from, "
        f"there are {int(fresh.info.members)}",
    )
    for name, ours, theirs in (
        ("gaps", placement.free.gaps.words, fresh.free.gaps.words),
        ("lengths of runs", placement.free.lengths.words, fresh.free.lengths.words),
        ("counts by length", placement.free.with_length, fresh.free.with_length),
        ("counts by order", placement.free.seen.by_order, fresh.free.seen.by_order),
        ("counts by bit", placement.free.seen.with_bit, fresh.free.seen.with_bit),
        ("tree of maxima", placement.lengths.values, fresh.lengths.values),
        ("runs by size", placement.sizes.words, fresh.sizes.words),
        ("pieces", placement.pieces.words, fresh.pieces.words),
    ):
        _require(np.array_equal(ours, theirs), f"the placement's {name} do not follow from the set")


def _require(holds: bool, promise: str) -> None:
    if not holds:
        raise InvariantError(promise)
