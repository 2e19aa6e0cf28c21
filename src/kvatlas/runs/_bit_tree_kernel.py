"""A set of numbers as a hierarchy of 64-bit words: the next lower or higher member in O(log64 n).

Owns: the hierarchy. Leaves to others: what the numbers are. A bit of level k + 1 is 1 where the
word of level k below it has any 1, so that four levels serve 16.7 million numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvatlas.jit import inlined, kernel
from kvatlas.runs._words_kernel import (
    ALL,
    I64,
    ONE,
    U64,
    ZERO,
    Word,
    highest_bit,
    lowest_bit,
)


class BitTree(NamedTuple):
    """Members of 0 .. n - 1."""

    words: U64  # all levels, the lowest first
    starts: I64  # (levels + 1,) where each level begins


def make_tree(size: int) -> BitTree:
    """Return an empty tree for numbers below `size`; n / 8 bytes and a 63rd more."""
    starts = [0]
    while True:
        size = -(-size // 64)
        starts.append(starts[-1] + max(1, size))
        if size <= 1:
            break
    return BitTree(np.zeros(starts[-1], np.uint64), np.array(starts, np.int64))


def fill_tree(tree: BitTree, members: NDArray[np.bool_]) -> None:
    """Make the tree hold exactly the numbers where `members` is true; O(n)."""
    level = members
    for at in range(tree.starts.size - 1):
        words = tree.words[tree.starts[at] : tree.starts[at + 1]]
        padded = np.zeros(words.size * 64, np.uint8)
        padded[: level.size] = level
        words[:] = np.packbits(padded, bitorder="little").view("<u8")
        level = words != 0


@inlined
def holds(tree: BitTree, number: int) -> bool:
    """Return whether a number from 0 on is a member; False beyond the tree's end."""
    if number >> 6 >= tree.starts[1]:
        return False
    return bool((tree.words[number >> 6] >> np.uint64(number & 63)) & ONE != ZERO)


@kernel
def put(tree: BitTree, number: int) -> None:
    """Add a number; one that is there already stays."""
    at = number
    for level in range(tree.starts.shape[0] - 1):
        word = tree.starts[level] + (at >> 6)
        old = tree.words[word]
        tree.words[word] = old | (ONE << np.uint64(at & 63))
        if old != ZERO:
            return
        at >>= 6


@kernel
def take(tree: BitTree, number: int) -> None:
    """Remove a number; one that is not there stays away."""
    at = number
    for level in range(tree.starts.shape[0] - 1):
        word = tree.starts[level] + (at >> 6)
        left = tree.words[word] & ~(ONE << np.uint64(at & 63))
        tree.words[word] = left
        if left != ZERO:
            return
        at >>= 6


@kernel
def put_span(tree: BitTree, first: int, length: int) -> None:
    """Add `length` consecutive numbers from `first` on; O(length / 64 + levels)."""
    low, high = first, first + length - 1
    for level in range(tree.starts.shape[0] - 1):
        words = tree.words[tree.starts[level] :]
        left, right = low >> 6, high >> 6
        old = words[left]
        if left == right:
            words[left] = old | (_from_bit(low & 63) & _to_bit(high & 63))
            if old != ZERO:
                return
        else:
            words[left] = old | _from_bit(low & 63)
            for word in range(left + 1, right):
                words[word] = ALL
            words[right] |= _to_bit(high & 63)
        low, high = left, right


@kernel
def take_span(tree: BitTree, first: int, length: int) -> None:
    """Remove `length` consecutive numbers from `first` on; O(length / 64 + levels)."""
    low, high = first, first + length - 1
    for level in range(tree.starts.shape[0] - 1):
        words = tree.words[tree.starts[level] :]
        left, right = low >> 6, high >> 6
        if left == right:
            words[left] &= ~(_from_bit(low & 63) & _to_bit(high & 63))
        else:
            words[left] &= ~_from_bit(low & 63)
            for word in range(left + 1, right):
                words[word] = ZERO
            words[right] &= ~_to_bit(high & 63)
        # The words between are empty now; those at the ends may be.
        low = left if words[left] == ZERO else left + 1
        high = right if words[right] == ZERO else right - 1
        if low > high:
            return


@inlined
def _from_bit(bit: int) -> Word:
    """Return the word of all bits from `bit` on."""
    return ALL << np.uint64(bit)


@inlined
def _to_bit(bit: int) -> Word:
    """Return the word of all bits up to and with `bit`."""
    return ALL >> np.uint64(63 - bit)


@kernel
def lower(tree: BitTree, number: int) -> int:
    """Return the highest member below `number`, -1 without."""
    at = number
    for level in range(tree.starts.shape[0] - 1):
        below = (ONE << np.uint64(at & 63)) - ONE
        slot = at >> 6
        if slot < tree.starts[level + 1] - tree.starts[level]:
            word = tree.words[tree.starts[level] + slot] & below
            if word != ZERO:
                at = slot * 64 + highest_bit(word)
                for deeper in range(level - 1, -1, -1):
                    at = at * 64 + highest_bit(tree.words[tree.starts[deeper] + at])
                return at
        at = slot
    return -1


@kernel
def higher(tree: BitTree, number: int) -> int:
    """Return the lowest member above `number`, -1 without."""
    at = number
    for level in range(tree.starts.shape[0] - 1):
        # Two shifts: one by 64 is not defined.
        above = (ALL << np.uint64(at & 63)) << ONE
        slot = at >> 6
        word = tree.words[tree.starts[level] + slot] & above
        if word != ZERO:
            at = slot * 64 + lowest_bit(word)
            for deeper in range(level - 1, -1, -1):
                at = at * 64 + lowest_bit(tree.words[tree.starts[deeper] + at])
            return at
        at = slot
    return -1


@kernel
def at_least(tree: BitTree, number: int) -> int:
    """Return the lowest member from `number`, 0 or more, on, -1 without."""
    return number if holds(tree, number) else higher(tree, number)


@kernel
def highest(tree: BitTree) -> int:
    """Return the highest member, -1 without."""
    at = 0
    for level in range(tree.starts.shape[0] - 2, -1, -1):
        word = tree.words[tree.starts[level] + at]
        if word == ZERO:
            return -1
        at = at * 64 + highest_bit(word)
    return at


@kernel
def lowest(tree: BitTree) -> int:
    """Return the lowest member, -1 without."""
    at = 0
    for level in range(tree.starts.shape[0] - 2, -1, -1):
        word = tree.words[tree.starts[level] + at]
        if word == ZERO:
            return -1
        at = at * 64 + lowest_bit(word)
    return at
