"""Byte sizes: what is read, what is refused, and that writing one back loses little."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvatlas.errors import InputError
from kvatlas.units import format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("40GiB", 40 * 2**30),
        ("40GB", 40 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("80TiB", 80 * 2**40),
        ("2TB", 2 * 10**12),
        ("3MiB", 3 * 2**20),
        ("3MB", 3_000_000),
        ("7KiB", 7168),
        ("7kB", 7000),
        ("7KB", 7000),
        ("12B", 12),
        ("1073741824", 2**30),
        ("  16GiB ", 2**34),
        ("0", 0),
        ("0.3B", 0),
    ],
)
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "GiB", "-1GiB", "40 Gigabytes", "40G", "40gib", "1e9", "1,5GiB", "nan", "infB", "0x10",
     "40GiB\n;", "1..5GB", "٣GiB", "9" * 20 + "GiB", "9" * 30, "1 . 5GiB"],
)  # fmt: skip
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_bytes(text, field="--kv-memory")
    message = str(caught.value)
    assert message.startswith("--kv-memory: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (2**20 - 1, "1 MiB"),
        (40 * 2**30, "40 GiB"),
        (5 * 2**50, "5120 TiB"),
        (-3 * 2**20, "-3 MiB"),
        (2_134_016, "2.04 MiB"),
    ],
)
def test_sizes_written_in_the_largest_unit(size: int, text: str) -> None:
    assert format_bytes(size) == text


@given(st.integers(0, 2**62))
def test_a_written_size_reads_back_within_half_a_hundredth(size: int) -> None:
    read = parse_bytes(format_bytes(size))
    # At 1.00 of a unit, half of the last decimal is 0.5%.
    assert abs(read - size) <= size * 0.005


@given(st.text(max_size=30))
def test_any_text_gives_a_size_or_one_line(text: str) -> None:
    try:
        assert 0 <= parse_bytes(text) < 2**63
    except InputError as error:
        assert len(str(error).splitlines()) == 1
