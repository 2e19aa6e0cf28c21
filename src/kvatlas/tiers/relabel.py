"""Other ids for the device's blocks: a tier goes on under the new names.

Owns: the arrays of a tier that are indexed by block, or hold block ids. Leaves to others: the rest
of the engine (`kvatlas.engine.relabel`). What the tier holds is named by content and stays.
"""

from __future__ import annotations

import numpy as np

from kvatlas.tiers._state_kernel import I64, Tier

__all__ = ["relabel_tier"]


def relabel_tier(tier: Tier, new_id: I64) -> None:
    """Let every block b of the device be `new_id[b]`, also in moves not yet carried out; O(N)."""
    if tier.above.shape[0] == new_id.shape[0] > 1:
        above, depth = tier.above.copy(), tier.depth.copy()
        tier.above[new_id], tier.depth[new_id] = above, depth
    listed = tier.moves[: int(tier.info.moves), 1]
    listed[:] = new_id.astype(np.int32)[listed]
