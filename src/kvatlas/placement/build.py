"""Arrays for a placement: sizes them, fills in the first state.

Owns: the first state of every array. Leaves to others: all later changes (the kernels).
"""

from __future__ import annotations

import numpy as np

from kvatlas.placement._state_kernel import INFO, Placement
from kvatlas.placement.registry import PlacementPolicy
from kvatlas.records import one_record
from kvatlas.runs._bit_tree_kernel import make_tree

__all__ = ["make_placement"]


def make_placement(policy: PlacementPolicy, num_blocks: int) -> Placement:
    """Return the fresh state of `policy` for the ids 0 .. `num_blocks` - 1.

    Memory: 4 bytes per block and a bit.
    """
    info = one_record(
        INFO, code=policy.code, follow_blocks=int(policy.knobs.get("follow_blocks", 0))
    )
    info.window_ratio = policy.knobs.get("window_ratio", 1.0)
    return Placement(
        info=info,
        chosen=make_tree(num_blocks),
        spans=np.zeros(num_blocks // 2 + 2, np.int64),
    )
