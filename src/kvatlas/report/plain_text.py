"""Text from a trace, made harmless for a terminal.

Owns: what becomes of control characters and of very long names. Leaves to others: HTML (which has
its own escaping) and files, which keep a text as it is.
"""

from __future__ import annotations

__all__ = ["plain"]

_MOST_CHARACTERS = 60


def plain(text: object, most: int = _MOST_CHARACTERS) -> str:
    """Return `text` on one line of at most `most` characters.

    Escape sequences, line ends, bidirectional overrides and everything else that is not printed
    become visible escapes such as `\\x1b`: a request's name cannot move the cursor.
    """
    shown = "".join(ch if ch.isprintable() else _escaped(ch) for ch in str(text))
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
