"""The compiled loops of `chain.py`, apart so that importing the workload layer stays light.

They also run uncompiled on NumPy scalars: every product is masked to stay below 2**63.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.jit import entry as kernel

__all__ = ["chain_piece", "place_branches"]

_ROOT = -1


@kernel
def _hash(parent: int, raw: int) -> int:
    """Mix a branch's key into 31 bits; all intermediate products are below 2**63."""
    low = raw & 0x7FFFFFFF
    high = (raw >> 31) & 0x7FFFFFFF
    mixed = ((parent & 0x7FFFFFFF) * 0x4F1BBCDC) ^ (low * 0x2545F491) ^ (high * 0x6C8E9CF5)
    mixed = (mixed ^ (mixed >> 29)) & 0x7FFFFFFF
    mixed = mixed * 0x5851F42D
    return (mixed ^ (mixed >> 31)) & 0x7FFFFFFF


@kernel
def place_branches(
    slots: NDArray[np.int32],
    branch_parent: NDArray[np.int64],
    branch_node: NDArray[np.int64],
    node_raw: NDArray[np.int64],
    branches: int,
) -> None:
    """Enter the first `branches` branches into `slots`, an empty power-of-two table."""
    mask = slots.size - 1
    for branch in range(branches):
        slot = _hash(branch_parent[branch], node_raw[branch_node[branch]]) & mask
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = branch


@kernel
def chain_piece(
    raw_ids: NDArray[np.int64],
    offsets: NDArray[np.int64],
    roots: NDArray[np.int64],
    ids: NDArray[Any],
    node_raw: NDArray[np.int64],
    follows: NDArray[np.int8],
    slots: NDArray[np.int32],
    branch_parent: NDArray[np.int64],
    branch_node: NDArray[np.int64],
    nodes: int,
    branches: int,
) -> tuple[int, int]:
    """Write the identity of each raw id into `ids` and return the new `(nodes, branches)`.

    `follows[n]` says that node n is the child made right after n - 1; any other child of a node,
    and every first block, is a branch. The caller leaves room for every block to be a new node and
    every request to add one branch, at a load of the table of at most one half.
    """
    mask = slots.size - 1
    for row in range(offsets.size - 1):
        node = _ROOT - roots[row]
        position = offsets[row]
        end = offsets[row + 1]
        slot = 0
        # Known prefix: [start, position)
        while position < end:
            raw = raw_ids[position]
            step = node + 1
            if node >= 0 and step < nodes and follows[step] == 1 and node_raw[step] == raw:
                node = step
            else:
                slot = _hash(node, raw) & mask
                found = -1
                while slots[slot] >= 0:
                    branch = slots[slot]
                    child = branch_node[branch]
                    if branch_parent[branch] == node and node_raw[child] == raw:
                        found = child
                        break
                    slot = (slot + 1) & mask
                if found < 0:
                    break
                node = found
            ids[position] = node
            position += 1
        if position == end:
            continue
        # New suffix: [position, end). Its first block is a branch, unless it follows the newest
        # node.
        if node == nodes - 1 and node >= 0:
            follows[nodes] = 1
        else:
            follows[nodes] = 0
            branch_parent[branches] = node
            branch_node[branches] = nodes
            slots[slot] = branches
            branches += 1
        while position < end:
            node_raw[nodes] = raw_ids[position]
            ids[position] = nodes
            nodes += 1
            position += 1
            if position < end:
                follows[nodes] = 1
    return nodes, branches
