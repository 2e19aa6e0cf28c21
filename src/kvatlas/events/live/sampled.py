"""Who got how many tokens from a step's outputs.

Owns: the three ways in which it is written. Leaves to others: what it means (`decode`,
`call_reader`).
"""

from __future__ import annotations

from collections.abc import Sequence

from kvatlas.events.live.books import Books
from kvatlas.wire import layout

__all__ = ["SampledTokens"]


class SampledTokens:
    """Reads the lists one after another: one may lean on the one before."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._rows: Sequence[int] = ()

    def read(
        self, end: Sequence[int], scheduled: Sequence[int]
    ) -> tuple[Sequence[int], Sequence[int]]:
        """Return request rows and the tokens that each got.

        Args:
            end: the words of `outputs_ended`.
            scheduled: who was scheduled in that step.
        """
        how, count = end[2], end[3]
        lists = end[4:]
        if how == layout.ONE_EACH:
            return scheduled, [1] * len(scheduled)
        if how == layout.NEW_ROWS and len(lists) == 2 * count:
            self._rows = lists[:count]
            return self._rows, lists[count:]
        if how == layout.SAME_ROWS and len(lists) == count == len(self._rows):
            return self._rows, lists
        raise self._books.damaged("a list of sampled tokens is cut off", count)
