"""What a snapshot's pickle is made of while it is read: dicts and lists that are still open.

Owns: the open containers and the tokens that take their place once they are closed. Leaves to
others: which dict becomes what (`columns`), and opcodes (`pickle_machine`).

A pickle of a million events has tens of millions of small objects. So a dict is turned into a row
of a table as soon as it is whole, and what stays behind in the pickle's memory is a token.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BLOCK",
    "EVENT",
    "NOTE",
    "SEGMENT",
    "FrameToken",
    "OpenDict",
    "OpenList",
    "RowToken",
    "StackToken",
]


class RowToken:
    """In place of a dict that has become a row; one object per table."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


EVENT: Final = RowToken("event")
BLOCK: Final = RowToken("block")
SEGMENT: Final = RowToken("segment")
NOTE: Final = RowToken("annotation")


class FrameToken:
    """In place of a frame of a stack: its number."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class StackToken:
    """In place of a list of frames: its number."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class OpenDict(dict[Any, Any]):
    """A dict that may still grow, or that stays one.

    Attributes:
        memo: where the pickle remembers it, -1 nowhere; closed: what it has become; height: how
            deep containers lie in it, this one counted.
    """

    __slots__ = ("closed", "height", "memo")

    def __init__(self) -> None:
        super().__init__()
        self.memo = -1
        self.height = 1
        self.closed: Any = None


class OpenList:
    """A list that may still grow, or that stays one.

    Attributes:
        memo, closed, height: as a dict's.
        values: what it holds, rows and frames aside.
        rows: per table how many, with the first's number: they follow each other.
        frames: numbers of frames, in pieces.
    """

    __slots__ = ("closed", "first_row", "frames", "height", "memo", "num_rows", "rows_of", "values")

    def __init__(self) -> None:
        self.memo = -1
        self.height = 1
        self.closed: Any = None
        self.values: list[Any] = []
        self.frames: list[NDArray[np.int32]] = []
        self.rows_of: RowToken | None = None
        self.first_row = self.num_rows = 0
