"""Other numbers for a policy's items: the same contents, priorities and links under new names.

Owns: every array of a policy that holds item numbers. Leaves to others: which item gets which
number, and the arrays of whoever owns the items (`kvatlas.engine.relabel`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.eviction._state_kernel import NONE, Eviction

__all__ = ["relabel_eviction"]

I64 = NDArray[np.int64]


def relabel_eviction(eviction: Eviction, new_id: I64) -> None:
    """Give every item i the number `new_id[i]`; O(items + what is remembered), vectorised.

    No choice depends on an item's number, so the policy goes on as if nothing had happened.

    Args:
        eviction: changed in place.
        new_id: (N,) a permutation of the items.
    """
    items = np.asarray(eviction.items)
    items[new_id] = items.copy()
    linked = items["parent"] != NONE
    parents: NDArray[np.int32] = items["parent"][linked]
    items["parent"][linked] = new_id[parents]
    eviction.contents[new_id] = eviction.contents.copy()
    for heap, size in enumerate(eviction.sizes.tolist()):
        which = eviction.heaps["which"][heap, :size]
        which[:] = new_id[which]
    holder = eviction.known["holder"]
    held = np.flatnonzero(holder)
    holder[held] = new_id[holder[held] - 1] + 1
