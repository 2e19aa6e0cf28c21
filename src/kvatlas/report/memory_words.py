"""What a replay says of memory that it arranged by itself: a block size chosen, a budget divided.

Owns: the words, as labels and sentences. Leaves to others: the choice (`kvatlas.plan`), the budget
(`kvatlas.pressure.hybrid`), where the sentences stand (`replay_facts`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kvatlas.report.document import ReplayDocument
from kvatlas.report.numbers import count, percent
from kvatlas.units import format_bytes

__all__ = ["block_size_words", "budget_words"]


def block_size_words(document: ReplayDocument) -> Iterator[tuple[str, str]]:
    """Yield which block size was chosen and why, what was expected of it and what came."""
    choice = document.block_size_choice
    if choice is None:
        return
    text = f"{choice['block_size']} tokens, chosen from {count(choice['requests'])} requests: "
    text += f"{percent(choice['expected_waste'])} waste expected, efficiency "
    text += percent(choice["efficiency"])
    if choice["measured_waste"] is not None:
        text += f"; measured {percent(choice['measured_waste'])}"
    yield "Block size", text
    yield "", choice["reason"]


def budget_words(document: ReplayDocument) -> Iterator[tuple[str, str]]:
    """Yield the budget, its division at first and at the end, and what the loop did last."""
    hybrid = document.hybrid
    if hybrid is None:
        return
    price = f"{hybrid['device_price']:g}"
    text = format_bytes(hybrid["budget_bytes"])
    if price != "1":
        text += f", a byte on the device counted as {price}"
    yield (
        "One budget",
        f"{text}: {_parts(hybrid, 'start')} at first, {_parts(hybrid, 'end')} at last",
    )
    if hybrid["interval"] is None:
        yield "", "never looked at again (--budget-interval 0)"
        return
    text = f"{count(hybrid['moves'])} moves in {count(hybrid['looks'])} looks"
    if hybrid["log"]:
        text += f"; the last: {hybrid['log'][-1]['why']}"
    yield "", text


def _parts(hybrid: Mapping[str, Any], when: str) -> str:
    device, host = (
        format_bytes(hybrid[when][f"{part}_blocks"] * hybrid["block_bytes"])
        for part in ("device", "host")
    )
    return f"{device} device + {host} host"
