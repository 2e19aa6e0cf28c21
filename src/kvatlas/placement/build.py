"""Arrays for a placement: sizes them, fills in the first state.

Owns: the first state of every array, and filling it again from a set of ids. Leaves to others: all
later changes (the kernels).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.placement._best_fit_kernel import size_starts
from kvatlas.placement._buddy_kernel import piece_starts
from kvatlas.placement._codes_kernel import BEST_FIT, BUDDY, FIRST_FIT, SORTED, WINDOW
from kvatlas.placement._first_fit_kernel import make_max_tree
from kvatlas.placement._state_kernel import INFO, Placement
from kvatlas.placement.registry import PlacementPolicy
from kvatlas.records import one_record
from kvatlas.runs._bit_tree_kernel import BitTree, fill_tree, make_tree
from kvatlas.runs.run_index import make_runs

__all__ = ["fill_placement", "make_placement"]

Flags = NDArray[np.bool_]


def make_placement(policy: PlacementPolicy, num_ids: int, members: Flags) -> Placement:
    """Return the fresh state of `policy` for the ids 0 .. `num_ids` - 1.

    Args:
        policy: whose; its knobs are read here.
        num_ids: N.
        members: (N,) which of them a placement by address may choose from.

    Memory: 4 bytes per id, and by address 9 (first-fit), 15 (best-fit) or 0.3 (buddy) more.
    """
    code, knobs = policy.code, policy.knobs
    info = one_record(
        INFO,
        code=code,
        any_free=int(policy.any_free),
        short_blocks=int(knobs.get("short_blocks", 0)),
        follow_blocks=int(knobs.get("follow_blocks", 0)),
    )
    info.window_ratio = knobs.get("window_ratio", 1.0)
    info.most_ratio = max(info.window_ratio, knobs.get("most_ratio", 1.0))
    info.slack_blocks = int(knobs.get("slack_share", 0.0) * num_ids)
    by_run = code in (FIRST_FIT, BEST_FIT)
    sizes = size_starts(num_ids if code == BEST_FIT else 1)
    pieces = piece_starts(num_ids if code == BUDDY else 1)
    placement = Placement(
        info=info,
        chosen=make_tree(num_ids),
        spans=np.zeros(num_ids // 2 + 2, np.int64),
        free=make_runs(np.zeros(num_ids if by_run else 1, bool)),
        lengths=make_max_tree(num_ids if code == FIRST_FIT else 1),
        sizes=make_tree(int(sizes[-1])),
        size_starts=sizes,
        pieces=make_tree(int(pieces[-1])),
        piece_starts=pieces,
    )
    fill_placement(placement, members)
    return placement


def fill_placement(placement: Placement, members: Flags) -> None:
    """Make the set that the placement chooses from exactly `members`, (N,); O(N log N) at most."""
    code = int(placement.info.code)
    if code in (SORTED, WINDOW):
        return
    placement.info.members = int(np.count_nonzero(members))
    if code == BUDDY:
        fill_tree(placement.pieces, _buddy_pieces(placement, members))
        return
    runs = make_runs(members)
    placement.free.gaps.words[:] = runs.gaps.words
    placement.free.lengths.words[:] = runs.lengths.words
    placement.free.with_length[:] = runs.with_length
    placement.free.seen.by_order[:] = runs.seen.by_order
    placement.free.seen.with_bit[:] = runs.seen.with_bit
    for name in ("count", "members", "largest"):
        setattr(placement.free.seen.runs, name, int(getattr(runs.seen.runs, name)))
    edges = np.flatnonzero(np.diff(np.concatenate(([False], members, [False])).astype(np.int8)))
    firsts, lengths = edges[::2], np.diff(edges)[::2]
    if code == FIRST_FIT:
        _fill_max_tree(placement, firsts, lengths)
    else:
        _fill_bits(placement.sizes, placement.size_starts[lengths] + firsts // (lengths + 1))


def _fill_bits(tree: BitTree, numbers: NDArray[np.int64]) -> None:
    flags = np.zeros(64 * int(tree.starts[1]), bool)
    flags[numbers] = True
    fill_tree(tree, flags)


def _fill_max_tree(
    placement: Placement, firsts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> None:
    values, starts = placement.lengths.values, placement.lengths.starts
    values[:] = 0
    values[firsts] = lengths
    for level in range(1, starts.size - 1):
        below = values[starts[level - 1] : starts[level]].reshape(-1, 16).max(axis=1)
        values[starts[level] : starts[level] + below.size] = below


def _buddy_pieces(placement: Placement, members: Flags) -> Flags:
    """Return the bits of the largest aligned pieces of which all ids are members."""
    starts = placement.piece_starts
    bits = np.zeros(int(starts[-1]), bool)
    whole = members
    for order in range(starts.size - 1):
        pairs = whole.size // 2
        above = whole[: 2 * pairs : 2] & whole[1 : 2 * pairs : 2]
        merged = np.repeat(above, 2)
        alone = whole.copy()
        alone[: merged.size] &= ~merged
        bits[starts[order] : starts[order + 1]] = alone
        whole = above
    return bits
