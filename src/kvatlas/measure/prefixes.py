"""Which prefixes served most: runs of blocks that the same number of requests hit.

Owns: joining keys into runs and ranking them. Leaves to others: counting hits per key
(`_reuse_kernel`).

A request that hits a block hits all before it, so the hits of a prefix fall from its root on. Where
they do not fall, blocks belong together: a system prompt is one run, each document behind it
another one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure._reach_kernel import ROOT
from kvatlas.records import Records

__all__ = ["ServedPrefix", "served_prefixes"]


@dataclass(frozen=True, slots=True)
class ServedPrefix:
    """A run of blocks that the same requests hit.

    Attributes:
        key: of its first block.
        depth_blocks: blocks of the prefix before it.
        blocks: its length.
        requests: first admissions that hit it.
        tokens: that it served to them.
    """

    key: int
    depth_blocks: int
    blocks: int
    requests: int
    tokens: int


def served_prefixes(
    prefixes: Records, keys: NDArray[np.int64], block_size: int, most: int
) -> tuple[ServedPrefix, ...]:
    """Return up to `most` runs that served the most tokens, the most first.

    O(K + S log S) for S keys that were hit. `prefixes`: (K,) PREFIX; `keys`: (K,) their names.
    """
    hit = np.flatnonzero(prefixes["served"])
    if hit.size == 0:
        return ()
    served, parent = prefixes["served"][hit], prefixes["parent"][hit].astype(np.int64)
    above = np.where(parent == ROOT, 0, np.searchsorted(hit, parent - 1))
    above = np.minimum(above, hit.size - 1)
    joined = (parent != ROOT) & (hit[above] == parent - 1) & (served[above] == served)
    head = np.where(joined, above, np.arange(hit.size))
    while True:  # every round doubles how far up a key looks
        further = head[head]
        if np.array_equal(further, head):
            break
        head = further
    blocks = np.bincount(head, minlength=hit.size)
    tokens = blocks * served.astype(np.int64) * block_size
    best = np.argsort(-tokens, kind="stable")[:most]
    return tuple(
        ServedPrefix(
            key=int(keys[hit[at]]),
            depth_blocks=int(prefixes["depth"][hit[at]]),
            blocks=int(blocks[at]),
            requests=int(served[at]),
            tokens=int(tokens[at]),
        )
        for at in best
        if tokens[at]
    )
