"""The compiled pass of `reuse_runs.py`: who used each part of a request's path last.

A request owns the blocks that nobody has used since. Those are always the end of its path, from
some depth on: a later request that shares anything shares the path's beginning. So recency needs
one number per request, and a path falls into few pieces by owner, however small the blocks are.
Owners along a path get older with depth, and the first block of an owner's piece finds the owner
(`Tops`), because on the way down no other block of it is ever met first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.jit import entry, inlined, kernel
from kvatlas.records import Record, record_dtype

__all__ = ["OUT", "Out", "PathArrays", "Recency", "run_rows"]

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

_NONE = -1
_MASK32 = 0xFFFFFFFF


class PathArrays(NamedTuple):
    """The paths of N requests. A block's content is named by an identity and the part of it."""

    ids: NDArray[Any]  # (M,) prefix-chained identities
    id_offsets: I64  # (N + 1,)
    identified: I32  # (N,) leading blocks whose content others could share
    blocks: I32  # (N,) all blocks of the path
    ids_per_block: int  # 1 unless blocks are larger than identities
    blocks_per_id: int  # 1 unless blocks are smaller


class Recency(NamedTuple):
    """Who owns what: memory in proportion to the requests, not to the blocks."""

    tree: I64  # (N + 1,) Fenwick tree over the requests: blocks owned
    keys: I64  # (T,) open addressing: content of an owner's first block, _NONE = empty
    owners: I32  # (T,)


OUT = record_dtype(row="i8", used="i8", total="i8")
"""`row`: the next request; `used`: pieces written; `total`: blocks that somebody owns."""


class Out(NamedTuple):
    """The pieces, in order of the requests and of depth."""

    offsets: I64  # (N + 1,) where each request's pieces start
    last_use: I32  # (S,) the request that used the piece last
    end: I32  # (S,) the depth at which it ends; it starts where the piece before it ends
    newer: I64  # (S,) blocks off the path that were used since
    info: Record  # OUT


@entry
def run_rows(paths: PathArrays, recency: Recency, out: Out, stop: int) -> None:
    """Walk requests up to row `stop`; returns early when `out` might not have room for the next.

    Per piece: one binary search over the path, a few steps in a tree over the requests.
    """
    info = out.info
    room = out.end.shape[0]
    while info.row < stop:
        row = int(info.row)
        if room - info.used < min(row, paths.identified[row]) + 1:
            return
        out.offsets[row] = info.used
        _use(paths, recency, out, row)
        info.row += 1
    out.offsets[stop] = info.used


@kernel
def _use(paths: PathArrays, recency: Recency, out: Out, row: int) -> None:
    """Take over the path of `row` from its owners, writing one piece for each."""
    identified = int(paths.identified[row])
    info = out.info
    depth = 0
    while depth < identified:
        at = _find(recency, _content(paths, row, depth))
        if at == _NONE:
            break
        owner = int(recency.owners[at])
        shared = _shared_blocks(paths, row, owner, depth)
        _remove(recency, at)
        if shared < paths.identified[owner]:
            _insert(recency, _content(paths, owner, shared), owner)
        _add(recency, owner, depth - shared)
        info.total -= shared - depth
        used = int(info.used)
        out.last_use[used] = owner
        out.end[used] = shared
        out.newer[used] = info.total - _sum(recency, owner)
        info.used = used + 1
        depth = shared
    blocks = int(paths.blocks[row])
    _add(recency, row, blocks)
    info.total += blocks
    if identified > 0:
        _insert(recency, _content(paths, row, 0), row)


@inlined
def _content(paths: PathArrays, row: int, depth: int) -> int:
    """Return a number that names the whole prefix up to the block at `depth`."""
    start = paths.id_offsets[row]
    if paths.ids_per_block > 1:
        # The last identity of the block; a prompt may end before a partial one is full.
        at = min(start + (depth + 1) * paths.ids_per_block, paths.id_offsets[row + 1]) - 1
        return int(paths.ids[at])
    parts = paths.blocks_per_id
    return int(paths.ids[start + depth // parts]) * parts + depth % parts


@inlined
def _shared_blocks(paths: PathArrays, row: int, other: int, known: int) -> int:
    """Return how many leading blocks two requests share: at least `known` + 1."""
    low = known + 1
    high = int(min(paths.identified[row], paths.identified[other]))
    if _content(paths, row, high - 1) == _content(paths, other, high - 1):
        return high
    # Shared up to `low`, not up to `high`.
    while high - low > 1:
        middle = (low + high) >> 1
        if _content(paths, row, middle - 1) == _content(paths, other, middle - 1):
            low = middle
        else:
            high = middle
    return low


@inlined
def _home(recency: Recency, key: int) -> int:
    mixed = (key ^ (key >> 32)) & _MASK32
    mixed = (mixed * 0x5BD1E995) & _MASK32
    mixed ^= mixed >> 15
    mixed = (mixed * 0x27D4EB2F) & _MASK32
    mixed ^= mixed >> 13
    return int(mixed & (recency.keys.shape[0] - 1))


@inlined
def _find(recency: Recency, key: int) -> int:
    mask = recency.keys.shape[0] - 1
    slot = _home(recency, key)
    while recency.keys[slot] != key:
        if recency.keys[slot] == _NONE:
            return _NONE
        slot = (slot + 1) & mask
    return slot


@inlined
def _insert(recency: Recency, key: int, owner: int) -> None:
    """Name the owner of a piece by its first block, which no entry names."""
    mask = recency.keys.shape[0] - 1
    slot = _home(recency, key)
    while recency.keys[slot] != _NONE:
        slot = (slot + 1) & mask
    recency.keys[slot] = key
    recency.owners[slot] = owner


@inlined
def _remove(recency: Recency, hole: int) -> None:
    """Empty a slot and close the gap behind it: at most one entry per owner is ever kept."""
    mask = recency.keys.shape[0] - 1
    slot = (hole + 1) & mask
    while recency.keys[slot] != _NONE:
        home = _home(recency, int(recency.keys[slot]))
        if (slot - home) & mask >= (slot - hole) & mask:
            recency.keys[hole] = recency.keys[slot]
            recency.owners[hole] = recency.owners[slot]
            hole = slot
        slot = (slot + 1) & mask
    recency.keys[hole] = _NONE


@inlined
def _add(recency: Recency, row: int, blocks: int) -> None:
    at = row + 1
    while at < recency.tree.shape[0]:
        recency.tree[at] += blocks
        at += at & -at


@inlined
def _sum(recency: Recency, row: int) -> int:
    """Return the blocks that the requests up to and with `row` own."""
    total = 0
    at = row + 1
    while at > 0:
        total += recency.tree[at]
        at -= at & -at
    return total
