"""Sorting block ids by putting them into a set of bits.

Owns: the set's runs in order, and ids by ascending number. Leaves to others: which ids. Ids are
distinct, so a set loses nothing, and a word holds 64 neighbours: the more contiguous, the faster.
"""

from __future__ import annotations

import numpy as np

from kvatlas.jit import inlined, kernel
from kvatlas.placement._state_kernel import I32, Placement
from kvatlas.runs._bit_tree_kernel import lowest, put, take
from kvatlas.runs._words_kernel import ALL, ONE, ZERO, lowest_bit

LENGTH_BITS = 31
LENGTHS = (1 << LENGTH_BITS) - 1
"""A span is first id << LENGTH_BITS | length; ids are below 2**31."""


@kernel
def drain(placement: Placement) -> int:
    """Empty `placement.chosen` into `spans`, its runs by ascending id; return how many; O(ids)."""
    tree, spans = placement.chosen, placement.spans
    count, first, end = 0, 0, 0
    while True:
        block = lowest(tree)
        if block < 0:
            break
        at = block >> 6
        word = tree.words[at]
        # The word's last member leaves last, so that the levels above hear of it once.
        tree.words[at] = ONE << np.uint64(block & 63)
        take(tree, block)
        while word != ZERO:
            bit = lowest_bit(word)
            gaps = ~(word >> np.uint64(bit))
            length = 64 if gaps == ZERO else lowest_bit(gaps)
            word = ZERO if bit + length >= 64 else word & (ALL << np.uint64(bit + length))
            start = (at << 6) + bit
            if start == end and end != first:
                end += length
                continue
            if end != first:
                spans[count] = (first << LENGTH_BITS) | (end - first)
                count += 1
            first, end = start, start + length
    if end != first:
        spans[count] = (first << LENGTH_BITS) | (end - first)
        count += 1
    return count


@inlined
def write_run(out: I32, at: int, first: int, length: int) -> int:
    """Put `length` ids from `first` on into `out[at:]`; return where they end."""
    for i in range(length):
        out[at + i] = first + i
    return at + length


@kernel
def sort_ids(placement: Placement, out: I32, start: int, count: int) -> None:
    """Sort the distinct ids `out[start:start + count]`, ascending; O(count)."""
    if count < 2:
        return
    for i in range(start, start + count):
        put(placement.chosen, int(out[i]))
    runs = drain(placement)
    at = start
    for i in range(runs):
        span = int(placement.spans[i])
        at = write_run(out, at, span >> LENGTH_BITS, span & LENGTHS)
