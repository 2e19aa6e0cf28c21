"""Numbers as people read them."""

from __future__ import annotations

import pytest

from kvatlas.report.numbers import blocks, count, percent, rate, requests, seconds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12031, "12,031"),
        (3.0, "3"),
        (3.44, "3.4"),
        (1234.56, "1,234.6"),
        (0.004, "0.004"),
    ],
)
def test_count(value: float, text: str) -> None:
    assert count(value) == text


def test_one_is_one() -> None:
    assert (requests(1), requests(0), requests(12031)) == (
        "1 request",
        "0 requests",
        "12,031 requests",
    )
    assert (blocks(1), blocks(20_000)) == ("1 block", "20,000 blocks")


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0%"),
        (1, "100%"),
        (0.143789, "14.4%"),
        (0.0031, "0.31%"),
        (0.00031, "0.031%"),
        (0.99996, "99.996%"),
        (1e-9, "<0.001%"),
        (1 - 1e-9, ">99.99%"),
    ],
)
def test_percent_never_rounds_to_nothing_or_all(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("per_s", "text"),
    [(7, "7"), (999, "999"), (12_345, "12 k"), (183e6, "183 M"), (1.5e6, "1.5 M"), (2e12, "2 T")],
)
def test_rate(per_s: float, text: str) -> None:
    assert rate(per_s) == text


@pytest.mark.parametrize(
    ("span_s", "text"),
    [
        (0, "0 s"),
        (2.5e-6, "2.5 µs"),
        (0.35, "350 ms"),
        (0.9999, "1 s"),
        (1.236, "1.24 s"),
        (100, "1 min 40 s"),
        (3599.7, "1 h"),
        (3600, "1 h"),
        (34_740, "9 h 39 min"),
        (96_480, "26 h 48 min"),
    ],
)
def test_seconds(span_s: float, text: str) -> None:
    assert seconds(span_s) == text
