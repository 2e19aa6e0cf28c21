"""What every analyser does with a chunk before its compiled loop sees it.

Owns: the arrays as kernels take them, and which KV cache group stands for the prefix cache. Leaves
to others: what is measured.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.events import Chunk, Header
from kvatlas.records import Records

__all__ = ["NO_REFERENCE_GROUP", "reference_group", "writable"]

_FULL_ATTENTION = ("FullAttentionSpec", "MLAAttentionSpec")
NO_REFERENCE_GROUP = (
    "no KV cache group of full attention: where layers forget, a block that is not hit may be one "
    "that nobody needs"
)


def writable(chunk: Chunk) -> tuple[Records, NDArray[np.int32]]:
    """Return rows and ids as kernels take them: read-only ones would compile a second version."""
    rows = np.require(chunk.rows, requirements=("C", "W")).view(np.recarray)
    return rows, np.require(chunk.ids, np.int32, ("C", "W"))


def reference_group(header: Header) -> int | None:
    """Return the first full-attention group, whose blocks hold every prefix; None without."""
    for number, group in enumerate(header.groups):
        if group.kind in _FULL_ATTENTION:
            return number
    return None
