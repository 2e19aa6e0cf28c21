"""The tokens of a text of settings, each with its place, and the walk over them.

Owns: PyTorch's cut (at colons, commas and brackets, without white space), and the end that stops
its parser. Leaves to others: what a token means (`reading`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Stopped", "Token", "Tokens", "stoull", "tokenized"]

_MARKS = ",:[]"
_NUMBER = re.compile(r"([+-]?)0*([0-9]+)(.*)", re.DOTALL)
_SPACES = " \t\n\v\f\r"  # what C++ takes for white space, and no more
_MOST_DIGITS = 20
_WORD = 1 << 64


@dataclass(frozen=True, slots=True)
class Token:
    """A mark or a word, and the column where it begins, from 1.

    `spaced`: white space inside it was removed, which may have made one word of two.
    """

    text: str
    column: int
    spaced: bool = False


class Stopped(Exception):
    """PyTorch refuses the text here and reads no further. Never leaves this package."""

    def __init__(
        self, rule: str, token: Token | None, what: str, consequence: str, remedy: str
    ) -> None:
        self.rule, self.token, self.what = rule, token, what
        self.consequence, self.remedy = consequence, remedy
        super().__init__(what)


class Tokens:
    """A walk over tokens, from the first to the last."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens, self._at = tokens, 0

    @property
    def left(self) -> bool:
        """Whether there are more."""
        return self._at < len(self._tokens)

    def peek(self, further: int) -> Token | None:
        """Return the next token, or one further on, None behind the end."""
        at = self._at + further
        return self._tokens[at] if at < len(self._tokens) else None

    def take(self, why_not: Callable[[], str]) -> Token:
        """Return the next token. Raises: Stopped behind the end, saying `why_not`."""
        if not self.left:
            last = self._tokens[-1] if self._tokens else None
            raise Stopped(
                "unfinished", last, why_not(),
                "PyTorch stops at the text's end with an internal error",
                "write KEY:VALUE, settings separated by commas",
            )  # fmt: skip
        self._at += 1
        return self._tokens[self._at - 1]


def tokenized(text: str) -> Tokens:
    """Return the tokens of `text`: `key:[1:2]` has eight."""
    tokens: list[Token] = []
    word, column, spaced, gap = "", 0, False, False
    for at, character in enumerate(text, 1):
        if character in _MARKS:
            if word:
                tokens.append(Token(word, column, spaced))
            word, spaced, gap = "", False, False
            tokens.append(Token(character, at))
        elif character in _SPACES:
            gap = bool(word)
        else:
            column = column if word else at
            spaced, gap = spaced or gap, False
            word += character
    if word:
        tokens.append(Token(word, column, spaced))
    return Tokens(tokens)


def stoull(text: str) -> tuple[int, str] | None:
    """Return the number that C++ reads at the beginning of a text, and the rest that it ignores.

    A negative one wraps round; None where there is none, or one beyond 64 bits.
    """
    match = _NUMBER.fullmatch(text)
    if match is None or len(match[2]) > _MOST_DIGITS or int(match[2]) >= _WORD:
        return None
    number = int(match[2])
    return (-number % _WORD if match[1] == "-" else number), match[3]
