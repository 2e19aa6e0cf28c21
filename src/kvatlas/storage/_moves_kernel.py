"""In which order a partial permutation of blocks can be carried out in place, as compiled code.

Owns: repeated ids, the depth of every move, the cycles, runs. Leaves to others: bounds, and the
copying (`_copy_kernel`).

A move's target may be another one's source; that other one must read first. The moves form chains
and cycles. The *level* of a move is how many moves of its chain must go before it, so all moves of
one level are independent of each other. In a cycle every move waits for another: one block is
staged.
"""

from __future__ import annotations

from kvatlas.jit import entry
from kvatlas.storage._copy_kernel import I64, SCRATCH

NOBODY = -1


@entry
def first_repeated(ids: I64, marks: I64) -> int:
    """Return the position of the first id that came before, -1 when none did. O(n).

    `marks`, one per block, are -1 before and after.
    """
    found = NOBODY
    for index in range(ids.shape[0]):
        if marks[ids[index]] != NOBODY:
            found = index
            break
        marks[ids[index]] = index
    for index in range(ids.shape[0]):
        marks[ids[index]] = NOBODY
    return found


@entry
def first_shared(ids: I64, others: I64, marks: I64) -> int:
    """Return the position in `ids` of the first that is in `others` too, -1 for none. O(n)."""
    for index in range(others.shape[0]):
        marks[others[index]] = index
    found = NOBODY
    for index in range(ids.shape[0]):
        if marks[ids[index]] != NOBODY:
            found = index
            break
    for index in range(others.shape[0]):
        marks[others[index]] = NOBODY
    return found


@entry
def order_moves(
    sources: I64, targets: I64, reads: I64, writes: I64, level: I64, chain: I64, cycle: I64
) -> int:
    """Find the level of each of n moves and list those that form cycles; return their number. O(n).

    Args:
        sources, targets: ids, each without repeats, and no move of a block to itself.
        reads, writes: per block, -1 before and after: the move that reads or writes it.
        level: (n,) out: moves that must go first; -1 in a cycle.
        chain: (n,) out: the source of its chain's first move.
        cycle: (n,) out: the moves of cycles, cycle after cycle: the first one's source is staged,
            the others go in this order, and the first one ends from the stage.
    """
    count = sources.shape[0]
    for move in range(count):
        reads[sources[move]] = move
        writes[targets[move]] = move
        level[move] = chain[move] = NOBODY
    for move in range(count):
        if reads[targets[move]] == NOBODY:
            at, before = move, 0
            while at != NOBODY:
                level[at], chain[at] = before, sources[move]
                before += 1
                at = writes[sources[at]]
    # Every move without a level is on a cycle; `reads` marks those listed already.
    listed = 0
    for move in range(count):
        if level[move] == NOBODY and reads[sources[move]] != NOBODY:
            at = move
            while reads[sources[at]] != NOBODY:
                cycle[listed] = at
                listed += 1
                reads[sources[at]] = NOBODY
                at = writes[sources[at]]
    for move in range(count):
        reads[sources[move]] = NOBODY
        writes[targets[move]] = NOBODY
    return listed


@entry
def staged_runs(
    sources: I64, targets: I64, cycle: I64, listed: int, out_sources: I64, out_targets: I64
) -> int:
    """Write the moves of cycles one by one, each cycle between two uses of the stage. O(n).

    Returns how many there are: one more per cycle than it has moves.
    """
    written = 0
    first = NOBODY
    for index in range(listed):
        move = cycle[index]
        if first == NOBODY:
            first = move
            out_sources[written], out_targets[written] = sources[move], SCRATCH
        else:
            out_sources[written], out_targets[written] = sources[move], targets[move]
        written += 1
        if sources[move] == targets[first]:
            out_sources[written], out_targets[written] = SCRATCH, targets[first]
            written += 1
            first = NOBODY
    return written


@entry
def join_runs(
    sources: I64,
    targets: I64,
    levels: I64,
    most: int,
    out_sources: I64,
    out_targets: I64,
    out_lengths: I64,
    out_levels: I64,
) -> int:
    """Join neighbours of one level whose ids both follow on; return the number of runs. O(n).

    `most` blocks are joined at most, so that the work can be shared out.
    """
    runs = 0
    for index in range(sources.shape[0]):
        follows = (
            index > 0
            and levels[index] == levels[index - 1]
            and sources[index] == sources[index - 1] + 1
            and targets[index] == targets[index - 1] + 1
            and out_lengths[runs - 1] < most
        )
        if follows:
            out_lengths[runs - 1] += 1
        else:
            out_sources[runs], out_targets[runs] = sources[index], targets[index]
            out_lengths[runs], out_levels[runs] = 1, levels[index]
            runs += 1
    return runs
