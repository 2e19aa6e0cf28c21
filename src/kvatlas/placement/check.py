"""Invariants of a placement's state, checked the slow and obvious way.

Owns: what must hold after every operation. Leaves to others: making it hold. O(blocks).
"""

from __future__ import annotations

from kvatlas.errors import InvariantError
from kvatlas.placement._state_kernel import Placement

__all__ = ["check_placement"]


def check_placement(placement: Placement) -> None:
    """Check that the working space is empty between calls.

    Raises:
        InvariantError: names the first promise that is broken.
    """
    if placement.chosen.words.any():
        raise InvariantError("the placement's working space still holds ids")
