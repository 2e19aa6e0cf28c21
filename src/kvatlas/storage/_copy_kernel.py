"""Moves of blocks between two memories, run by run and piece by piece, as compiled code.

Owns: the two loops. Leaves to others: the bytes themselves (`_bytes_kernel`), which runs there are
and in which order (`moves`), bounds (`pool`).

A block's bytes lie in P pieces. Piece p of block b begins at `base + offsets[p] + b * stride`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.jit import entry, inlined
from kvatlas.storage._bytes_kernel import (
    LINE_BYTES,
    copy_bytes,
    fence,
    stream_bytes,
    zero_bytes,
)

I64 = NDArray[np.int64]
_STREAM_FROM_BYTES = 8 * LINE_BYTES
SCRATCH = -1
"""In place of a block: the one staged block of the move at hand."""


class Side(NamedTuple):
    """Where the pieces of one memory's blocks lie."""

    base: int  # address
    offsets: I64  # (P,)
    stride: int  # bytes from a block to the next, of one piece


class Runs(NamedTuple):
    """R runs: `lengths[r]` blocks from `sources[r]` on go to `targets[r]` on, in this order."""

    sources: I64  # (R,)
    targets: I64  # (R,)
    lengths: I64  # (R,)
    levels: I64  # (R,) above 0 the run before has just read what this one overwrites


class Share(NamedTuple):
    """Runs `[first_run, last_run)` of the pieces `[first_piece, last_piece)`: one thread's part."""

    first_run: int
    last_run: int
    first_piece: int
    last_piece: int


class Way(NamedTuple):
    """How to copy.

    With `stream`, what nobody has just read is written past the caches; what the run before has
    read is in the cache and costs less there. With `by_piece` one piece of all runs goes before the
    next piece, so that what a chain passes on stays in the cache; without, a block's pieces go
    together, so that rows are written from front to back.
    """

    stream: bool
    by_piece: bool
    scratch: int  # address of one block's bytes, 0 where no run needs it


@inlined
def _address(side: Side, piece: int, block: int, scratch: int, piece_bytes: int) -> int:
    if block == SCRATCH:
        return scratch + piece * piece_bytes
    return int(side.base + side.offsets[piece] + block * side.stride)


@inlined
def _copy(target: int, source: int, num_bytes: int, stream: bool) -> None:
    if not stream or num_bytes < _STREAM_FROM_BYTES:
        copy_bytes(target, source, num_bytes)
        return
    # [target, target + head) [whole lines) [tail)
    head = -target % LINE_BYTES
    tail = (num_bytes - head) % LINE_BYTES
    if head > 0:
        copy_bytes(target, source, head)
    stream_bytes(target + head, source + head, num_bytes - head - tail)
    if tail > 0:
        copy_bytes(target + num_bytes - tail, source + num_bytes - tail, tail)


@inlined
def _copy_blocks(
    target: Side, source: Side, piece_bytes: int, runs: Runs, run: int, share: Share, way: Way
) -> None:
    """Copy the blocks of one run where pieces do not join, all pieces of a block together."""
    for step in range(runs.lengths[run]):
        to, frm = runs.targets[run] + step, runs.sources[run] + step
        for piece in range(share.first_piece, share.last_piece):
            _copy(
                _address(target, piece, to, way.scratch, piece_bytes),
                _address(source, piece, frm, way.scratch, piece_bytes),
                piece_bytes,
                way.stream and runs.levels[run] == 0,
            )


@entry
def copy_runs(
    target: Side, source: Side, piece_bytes: int, runs: Runs, share: Share, way: Way
) -> None:
    """Copy a share of the runs and pieces.

    Each piece is copied in the order of the runs, so what a run reads may be what a later one
    overwrites; the two ends of one run do not overlap. Releases the GIL.
    """
    if target.stride == piece_bytes and source.stride == piece_bytes:
        for piece in range(share.first_piece, share.last_piece):
            for run in range(share.first_run, share.last_run):
                _copy(
                    _address(target, piece, runs.targets[run], way.scratch, piece_bytes),
                    _address(source, piece, runs.sources[run], way.scratch, piece_bytes),
                    runs.lengths[run] * piece_bytes,
                    way.stream and runs.levels[run] == 0,
                )
    elif way.by_piece:
        for piece in range(share.first_piece, share.last_piece):
            one = Share(share.first_run, share.last_run, piece, piece + 1)
            for run in range(share.first_run, share.last_run):
                _copy_blocks(target, source, piece_bytes, runs, run, one, way)
    else:
        for run in range(share.first_run, share.last_run):
            _copy_blocks(target, source, piece_bytes, runs, run, share, way)
    if way.stream:
        fence()


@entry
def zero_runs(
    side: Side, piece_bytes: int, starts: I64, lengths: I64, first_piece: int, last_piece: int
) -> None:
    """Zero runs of blocks of a memory whose pieces are contiguous from block to block."""
    for piece in range(first_piece, last_piece):
        for run in range(starts.shape[0]):
            start = _address(side, piece, starts[run], 0, piece_bytes)
            zero_bytes(start, lengths[run] * piece_bytes)


def side(base: int, offsets: Any, stride: int) -> Side:
    """Return a `Side`, its integers as compiled code expects them."""
    return Side(int(base), np.ascontiguousarray(offsets, np.int64), int(stride))
