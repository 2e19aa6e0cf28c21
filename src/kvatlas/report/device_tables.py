"""Who pins and who holds memory at one moment, as texts: the same tables in every report.

Owns: their columns and words. Leaves to others: which rows, the names of stacks
(`kvatlas.device.stack_words`), looks (`text_table`).
"""

from __future__ import annotations

from collections.abc import Iterable

from kvatlas.device.moment import PinningStack
from kvatlas.report.numbers import count, percent
from kvatlas.report.text_table import TextTable
from kvatlas.units import format_bytes

__all__ = ["stack_holders_table", "stack_pinners_table"]


def stack_pinners_table(rows: Iterable[tuple[PinningStack, str]], remark: str = "") -> TextTable:
    """Return who pins stuck bytes. `rows`: each with the stack's name."""
    return TextTable(
        "Who pins what is stuck",
        ("alone", "with others", "holds", "segments", "stack"),
        tuple(
            (
                format_bytes(one.alone_bytes),
                format_bytes(one.shared_bytes),
                format_bytes(one.held_bytes),
                count(one.segments),
                name,
            )
            for one, name in rows
        ),
        remark=remark,
        words=frozenset({4}),
        note="Alone: free bytes that would go back if this stack let go of its blocks. With "
        "others: those of segments that more stacks pin, counted for each of them.",
    )


def stack_holders_table(
    rows: Iterable[tuple[int, int, str]], active_bytes: int, remark: str = ""
) -> TextTable:
    """Return who holds most. `rows`: (bytes, blocks, the stack's name); of all `active_bytes`."""
    return TextTable(
        "Who holds most",
        ("holds", "share", "blocks", "stack"),
        tuple(
            (format_bytes(size), percent(size / max(1, active_bytes)), count(blocks), name)
            for size, blocks, name in rows
        ),
        remark=remark,
        words=frozenset({3}),
    )
