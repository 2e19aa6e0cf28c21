"""The states of blocks as bytes, 64 of them as a word of bits, and the runs in those words.

Owns: the layout of the states, and walking over runs. Leaves to others: changing states, what a
word is (`kvatlas.runs`). A block's state is USED and CACHED, either, or 0 (empty); block b is byte
b + FRONT, and all bytes before the first and behind the last block are USED, so that a neighbour
may always be looked at. A set of blocks is seen as its *gaps*: a bit is 1 where the block is not in
it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.jit import COMPILED, inlined, kernel
from kvatlas.runs._words_kernel import (
    ALL,
    ONE,
    ORDERS,
    U64,
    ZERO,
    Lengths,
    Word,
    add_run,
    count_bits,
    lowest_bit,
)

U8 = NDArray[np.uint8]

USED, CACHED = 1, 2
"""Bits of a state: somebody owns the block; it can be hit. Evictable is CACHED alone."""
FRONT = 64
"""Bytes before block 0."""

_BYTES = np.uint64(0x0101010101010101)
_GATHER = np.uint64(0x0102040810204080)
_S56 = np.uint64(56)

if COMPILED:

    @inlined
    def _low_bits(word: Word) -> Word:
        """Return 8 bits, the lowest of each byte; no other bit of `word` is 1."""
        return (word * _GATHER) >> _S56

else:

    def _low_bits(word: Word) -> Word:
        """Return 8 bits, the lowest of each byte; no other bit of `word` is 1."""
        return np.uint64((int(word) * int(_GATHER) >> 56) & 0xFF)


@inlined
def gap_word(words: U64, at: int, cached: int) -> Word:
    """Return the gaps of 64 blocks from `words[at:at + 8]`, their states."""
    # Unsigned: Numba need not ask whether an index is negative.
    first = np.uint64(at)
    either = both = words[first]
    for i in range(1, 8):
        either |= words[first + np.uint64(i)]
        both &= words[first + np.uint64(i)]
    if cached != 0:
        either |= either >> ONE
    # Most words are all used or all free.
    if both & _BYTES == _BYTES:
        return ALL
    if either & _BYTES == ZERO:
        return ZERO
    gaps = ZERO
    for i in range(8):
        states = words[first + np.uint64(i)]
        if cached != 0:
            states |= states >> ONE
        gaps |= _low_bits(states & _BYTES) << np.uint64(8 * i)
    return gaps


@kernel
def measure_runs(lengths: Lengths, words: U64, cached: int) -> None:
    """Count the runs of free blocks (`cached` 0) or of empty ones (1); O(words + long runs).

    `words` is the memory of the states. Runs of 1 to 3 blocks, most of those there are, are counted
    64 blocks at a time: a run of 2 is a start that is followed by a member and then a gap.
    """
    lengths.runs.count = 0
    lengths.runs.members = 0
    lengths.runs.largest = 0
    for order in range(ORDERS):
        lengths.by_order[order] = 0
        lengths.with_bit[order] = 0
    ones = twos = threes = largest = 0
    before, gaps = ALL, gap_word(words, 8, cached)
    for at in range(8, words.shape[0] - 8, 8):
        after = gap_word(words, at + 8, cached)
        starts = ~gaps & ((gaps << ONE) | (before >> np.uint64(63)))
        if starts != ZERO:
            ends = (gaps >> ONE) | (after << np.uint64(63))
            ones += count_bits(starts & ends)
            starts &= ~ends
            ends = (gaps >> np.uint64(2)) | (after << np.uint64(62))
            twos += count_bits(starts & ends)
            starts &= ~ends
            ends = (gaps >> np.uint64(3)) | (after << np.uint64(61))
            threes += count_bits(starts & ends)
            starts &= ~ends
        while starts != ZERO:
            start = lowest_bit(starts)
            starts &= starts - ONE
            rest, end = gaps & (ALL << np.uint64(start)), at
            while rest == ZERO:
                end += 8
                rest = gap_word(words, end, cached)
            length = (end - at) * 8 + lowest_bit(rest) - start
            add_run(lengths, length, 1)
            largest = max(largest, length)
        before, gaps = gaps, after
    for length in range(1, 4):
        times = ones if length == 1 else twos if length == 2 else threes
        add_run(lengths, length, times)
        if times > 0:
            largest = max(largest, length)
    lengths.runs.largest = largest
