"""The block map at one moment, small enough to send: a character and an owner per cell.

Owns: the code of a cell. Leaves to others: counting blocks (`kvatlas.measure.map_cells`), looks.
"""

from __future__ import annotations

import numpy as np

from kvatlas.events import FragmentationSnapshot
from kvatlas.measure.map_cells import map_cells
from kvatlas.watch.moment import Cells

__all__ = ["cells_of"]

_CODES = np.frombuffer(b"x.=:123456789#", np.uint8)
_NULL, _EMPTY, _EVICTABLE, _BOTH, _PARTLY, _ALL = 0, 1, 2, 3, 4, 13


def cells_of(
    snapshot: FragmentationSnapshot, most: int, blocks: tuple[int, int] | None = None
) -> Cells:
    """Return a map of at most `most` cells, of `blocks` `[first, stop)` or all; O(blocks)."""
    first, stop = blocks or (0, snapshot.num_blocks)
    per_cell = max(1, -(-(stop - first) // max(1, most)))
    cells = map_cells(snapshot, snapshot.owners(), first, stop, per_cell)
    used, evictable, empty = cells.used, cells.evictable, cells.empty
    free = evictable + empty
    whole = np.maximum(1, used + free)
    codes = np.full(used.size, _NULL)
    codes[empty > 0] = _EMPTY
    codes[evictable > 0] = _EVICTABLE
    codes[(evictable > 0) & (empty > 0)] = _BOTH
    partly = _PARTLY + np.clip(10 * used // whole, 1, 9) - 1
    codes = np.where(used > 0, np.where(free > 0, partly, _ALL), codes)
    return Cells(
        first=first,
        stop=stop,
        per_cell=per_cell,
        codes=_CODES[codes].tobytes().decode("ascii"),
        owners=cells.label.tolist(),
    )
