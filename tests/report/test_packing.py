"""Numbers packed for a page come back as they were."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvatlas.report.packing import folded, packed, varints

_NUMBERS = st.lists(st.integers(0, 2**62) | st.integers(0, 300), max_size=40)


def unpacked(data: bytes) -> list[int]:
    """Read variable-length numbers the obvious way."""
    numbers, value, place = [], 0, 0
    for byte in data:
        value |= (byte & 127) << place
        place += 7
        if byte < 128:
            numbers.append(value)
            value = place = 0
    assert place == 0
    return numbers


@given(_NUMBERS)
def test_numbers_come_back(numbers: list[int]) -> None:
    column = np.array(numbers, np.int64)
    assert unpacked(varints(column)) == numbers
    assert unpacked(zlib.decompress(base64.b64decode(packed(column)))) == numbers


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, 0), (-1, 1), (1, 2), (-2, 3), (2**61, 2**62), (-(2**61), 2**62 - 1)],
)
def test_small_numbers_of_either_sign_stay_small(number: int, expected: int) -> None:
    assert folded(np.array([number])).tolist() == [expected]
