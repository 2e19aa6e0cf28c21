"""xxHash64 of rows of bytes, as compiled code.

Owns: the function, as its specification defines it (Yann Collet, xxHash fast digest algorithm,
0.1.1; seed 0). Leaves to others: whose bytes (`digest`). It finds accidents, not attacks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.jit import COMPILED, entry, inlined
from kvatlas.storage._bytes_kernel import load_byte, load_word

U64 = np.uint64
_1, _2, _3, _4, _5 = (
    U64(0x9E3779B185EBCA87),
    U64(0xC2B2AE3D27D4EB4F),
    U64(0x165667B19E3779F9),
    U64(0x85EBCA77C2B2AE63),
    U64(0x27D4EB2F165667C5),
)
_ALL = 0xFFFFFFFFFFFFFFFF
_LOW = U64(0xFFFFFFFF)
_STRIPE_BYTES, _WORD_BYTES = 32, 8


def _wrapping(compiled: Any, plain: Any) -> Any:
    """Return arithmetic modulo 2**64: NumPy's scalars would warn of what overflows."""
    return inlined(compiled) if COMPILED else lambda one, other: U64(plain(int(one), int(other)))


_times = _wrapping(lambda one, other: one * other, lambda one, other: one * other & _ALL)
_plus = _wrapping(lambda one, other: one + other, lambda one, other: one + other & _ALL)


@inlined
def _rotated(word: Any, by: int) -> Any:
    return (word << U64(by)) | (word >> U64(64 - by))


@inlined
def _round(lane: Any, word: Any) -> Any:
    return _times(_rotated(_plus(lane, _times(word, _2)), 31), _1)


@inlined
def _merged(state: Any, lane: Any) -> Any:
    return _plus(_times(state ^ _round(U64(0), lane), _1), _4)


@inlined
def _stripes(at: int, end: int) -> Any:
    """Mix whole stripes: four words each, a lane for each of the four."""
    one, two, three, four = _plus(_1, _2), _2, U64(0), _plus(~_1, U64(1))
    while at + _STRIPE_BYTES <= end:
        one = _round(one, load_word(at))
        two = _round(two, load_word(at + 8))
        three = _round(three, load_word(at + 16))
        four = _round(four, load_word(at + 24))
        at += _STRIPE_BYTES
    state = _plus(
        _plus(_rotated(one, 1), _rotated(two, 7)), _plus(_rotated(three, 12), _rotated(four, 18))
    )
    return _merged(_merged(_merged(_merged(state, one), two), three), four)


@inlined
def _half_word(at: int) -> Any:
    low = U64(load_byte(at)) | U64(load_byte(at + 1)) << U64(8)
    return low | U64(load_byte(at + 2)) << U64(16) | U64(load_byte(at + 3)) << U64(24)


@inlined
def _rest(state: Any, at: int, end: int) -> Any:
    """Mix what is left after the stripes: words, a half word, bytes."""
    while at + _WORD_BYTES <= end:
        mixed = _rotated(state ^ _round(U64(0), load_word(at)), 27)
        state = _plus(_times(mixed, _1), _4)
        at += _WORD_BYTES
    if at + 4 <= end:
        mixed = _rotated(state ^ _times(_half_word(at), _1), 23)
        state = _plus(_times(mixed, _2), _3)
        at += 4
    while at < end:
        state = _times(_rotated(state ^ _times(U64(load_byte(at)), _5), 11), _1)
        at += 1
    return state


@inlined
def _digest(at: int, num_bytes: int) -> Any:
    state = _stripes(at, at + num_bytes) if num_bytes >= _STRIPE_BYTES else _5
    state = _plus(state, U64(num_bytes))
    state = _rest(state, at + num_bytes // _STRIPE_BYTES * _STRIPE_BYTES, at + num_bytes)
    state = _times(state ^ (state >> U64(33)), _2)
    state = _times(state ^ (state >> U64(29)), _3)
    return state ^ (state >> U64(32))


@entry
def digest_rows(address: int, num_bytes: int, first: int, last: int, out: NDArray[U64]) -> None:
    """Digest rows `[first, last)` of `num_bytes` each, one after the other from `address` on."""
    for row in range(first, last):
        out[row] = _digest(address + row * num_bytes, num_bytes)
