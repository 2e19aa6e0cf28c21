"""Who got how many tokens, in a step or from its outputs.

Owns: the four ways in which it is written. Leaves to others: what it means (`decode`,
`call_reader`).
"""

from __future__ import annotations

from collections.abc import Sequence

from kvatlas.events.live.books import Books
from kvatlas.wire import layout

__all__ = ["CountedRows"]


class CountedRows:
    """Reads the lists of one kind of record one after another: one may lean on the one before."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._rows: list[int] = []

    def read(
        self, words: Sequence[int], one_each: Sequence[int] | None = None
    ) -> tuple[list[int], list[int]]:
        """Return request rows and the tokens that each got. Raises: InputError when cut off.

        Args:
            words: `how n` and the lists behind them.
            one_each: who gets one each where nobody is named; those of the last list by default.
        """
        how, count = words[0], words[1]
        lists = list(words[2:])
        if how == layout.ONE_EACH and (one_each is not None or count == len(self._rows)):
            rows = self._rows if one_each is None else list(one_each)
            return rows, [1] * len(rows)
        if how == layout.NEW_ROWS and count >= 0 and len(lists) == 2 * count:
            self._rows = lists[:count]
            return self._rows, lists[count:]
        if how == layout.SAME_ROWS and len(lists) == count == len(self._rows):
            return self._rows, lists
        if how == layout.BUT_ONE and count == len(self._rows) and len(lists) == 2:
            index, tokens = lists
            if 0 <= index < count:
                counts = [1] * count
                counts[index] = tokens
                return self._rows, counts
        raise self._books.damaged("a list of tokens is cut off", count)
