"""The one place that gives token blocks their identities: prefix chaining.

A block's identity is *(identity of the block before it, the block's own raw id)*, interned to a
small dense number. Every reader and generator passes through here, so "equal id" means "equal
whole prefix" everywhere, whatever the file's own ids meant.

How it stays small and fast: nodes are numbered in order of first appearance, so a run of new blocks
gets consecutive numbers. Of the children of node p, the one made right after it is therefore p + 1
and needs no table. Only the first *new* block of a request can need an entry in the branch table,
so that table has at most one entry per request, not one per block, and a walk along a known prefix
reads memory in order.
"""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Chainer", "chain_ids"]

_INT32_LIMIT = 2**31 - 2
_ROOT = -1  # the parent of a first block is _ROOT - salt


class Chainer:
    """Chains a trace piece by piece, so that a reader need not hold all raw ids at once.

    Holds 9 bytes per distinct identity (its raw id and one flag) and about 40 per request that
    branches off a known prefix.
    """

    def __init__(self) -> None:
        # array.array grows in place (realloc) by 1/16, so growing never doubles the memory.
        self._node_raw = array("q")
        self._follows = array("b")
        self._branch_parent = array("q")
        self._branch_node = array("q")
        self._slots = np.full(1024, -1, dtype=np.int32)

    @property
    def num_ids(self) -> int:
        """How many distinct identities were seen so far."""
        return len(self._node_raw)

    def extend(
        self, raw_ids: NDArray[np.int64], offsets: NDArray[np.int64], roots: NDArray[Any]
    ) -> NDArray[np.int32] | NDArray[np.int64]:
        """Return the identities of `raw_ids` (M,), numbered on from those seen before.

        `offsets` (N+1,) cuts `raw_ids` into requests, `roots` (N,) >= 0 is the salt of each:
        prefixes under different roots are never equal. O(M) time, O(M) transient memory.
        """
        from kvatlas.workload._chain_kernel import chain_piece, place_branches

        rows = offsets.size - 1
        nodes, branches = len(self._node_raw), len(self._branch_node)
        # Room for the worst case: every block new, every request branching.
        self._node_raw.frombytes(bytes(8 * raw_ids.size))
        self._follows.frombytes(bytes(raw_ids.size))
        self._branch_parent.frombytes(bytes(8 * rows))
        self._branch_node.frombytes(bytes(8 * rows))
        node_raw = np.frombuffer(self._node_raw, dtype=np.int64)
        follows = np.frombuffer(self._follows, dtype=np.int8)
        branch_parent = np.frombuffer(self._branch_parent, dtype=np.int64)
        branch_node = np.frombuffer(self._branch_node, dtype=np.int64)
        if 2 * (branches + rows) > self._slots.size:
            size = 1 << (2 * (branches + rows)).bit_length()
            self._slots = np.full(size, -1, dtype=np.int32)
            place_branches(self._slots, branch_parent, branch_node, node_raw, branches)
        wide = nodes + raw_ids.size > _INT32_LIMIT
        ids: NDArray[Any] = np.empty(raw_ids.size, dtype=np.int64 if wide else np.int32)
        nodes, branches = chain_piece(
            raw_ids,
            offsets,
            np.ascontiguousarray(roots, dtype=np.int64),
            ids,
            node_raw,
            follows,
            self._slots,
            branch_parent,
            branch_node,
            nodes,
            branches,
        )
        # An array cannot shrink while a view holds its memory.
        del node_raw, follows, branch_parent, branch_node
        del self._node_raw[nodes:], self._follows[nodes:]
        del self._branch_parent[branches:], self._branch_node[branches:]
        return ids


def chain_ids(
    raw_ids: NDArray[Any], offsets: NDArray[Any], roots: NDArray[Any]
) -> tuple[NDArray[np.int32] | NDArray[np.int64], int]:
    """Return `(ids, num_ids)`: prefix-chained identities of `raw_ids` (M,).

    Two positions get one id if and only if their requests' raw ids agree from the start up to
    there and the requests' `roots` (N,) >= 0 agree too. Ids are dense and numbered by first
    appearance; int32 unless that could overflow. `offsets` (N+1,) cuts the flat ids into requests.
    O(M): about 2 ms for 300,000 ids once compiled.
    """
    chainer = Chainer()
    ids = chainer.extend(
        np.ascontiguousarray(raw_ids, dtype=np.int64),
        np.ascontiguousarray(offsets, dtype=np.int64),
        roots,
    )
    return ids, chainer.num_ids
