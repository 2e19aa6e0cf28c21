"""64-bit words as sets of 64 numbers, and what is known of the lengths of runs.

Owns: counting and finding bits, counting runs by length. Leaves to others: which bits are set
(`_bit_tree_kernel`), which runs there are (`_run_index_kernel`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.jit import COMPILED, inlined
from kvatlas.records import Record, record_dtype

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Word = np.uint64

ORDERS = 27
"""Run lengths are below 2**27: `kvatlas.events.header.MOST_BLOCKS` is 2**26."""

ZERO = np.uint64(0)
ONE = np.uint64(1)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_S1, _S2, _S4, _S56 = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)
_M1 = np.uint64(0x5555555555555555)
_M2 = np.uint64(0x3333333333333333)
_M4 = np.uint64(0x0F0F0F0F0F0F0F0F)
_BYTES = np.uint64(0x0101010101010101)

if COMPILED:

    @inlined
    def count_bits(word: Word) -> int:
        """Return how many bits of `word` are 1; LLVM makes one instruction of it."""
        word = word - ((word >> _S1) & _M1)
        word = (word & _M2) + ((word >> _S2) & _M2)
        word = (word + (word >> _S4)) & _M4
        return int(np.int64((word * _BYTES) >> _S56))

else:

    def count_bits(word: Word) -> int:
        """Return how many bits of `word` are 1."""
        return int(word).bit_count()


@inlined
def lowest_bit(word: Word) -> int:
    """Return the position of the lowest 1 of a word that has one."""
    return count_bits(~word & (word - ONE))


@inlined
def highest_bit(word: Word) -> int:
    """Return the position of the highest 1 of a word that has one."""
    for shift in (1, 2, 4, 8, 16, 32):
        word |= word >> np.uint64(shift)
    return count_bits(word) - 1


RUNS = record_dtype(count="i8", members="i8", largest="i8")


class Lengths(NamedTuple):
    """What is known of the lengths of a set's runs."""

    runs: Record  # RUNS
    by_order: I64  # (ORDERS,) runs of 2**j <= length < 2**(j + 1)
    with_bit: I64  # (ORDERS,) runs whose length has bit j: what UFSI is made of


@inlined
def add_run(lengths: Lengths, length: int, times: int) -> None:
    """Count a run `times` (-1: no longer); O(1 bits of its length). Leaves `largest` alone."""
    lengths.runs.count += times
    lengths.runs.members += times * length
    order = 0
    rest = np.uint64(length)
    while rest != ZERO:
        order = lowest_bit(rest)
        lengths.with_bit[order] += times
        rest &= rest - ONE
    lengths.by_order[order] += times
