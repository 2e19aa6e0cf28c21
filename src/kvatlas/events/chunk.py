"""A stretch of the event stream in memory.

Owns: rows and the block ids that they list, side by side. Leaves to others: where it comes from.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Chunk"]


class Chunk(NamedTuple):
    """Consecutive events.

    `rows` are records of `schema.EVENT`; a row with `blocks_at` lists `ids[blocks_at:][:count]`.
    """

    rows: NDArray[np.void]  # (n,)
    ids: NDArray[np.int32]  # (m,)

    def copy(self) -> Chunk:
        """Return a chunk of its own, for a log reuses its memory."""
        return Chunk(self.rows.copy(), self.ids.copy())
