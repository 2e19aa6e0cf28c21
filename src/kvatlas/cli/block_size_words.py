"""What `--block-size` may say: a number of tokens, or `auto`.

Owns: reading it. Leaves to others: choosing (`auto_block_size`). Light, because `--help` reads it.
"""

from __future__ import annotations

from typing import Final

from kvatlas.errors import InputError

__all__ = ["AUTO", "parsed_block_size", "parsed_tokens"]

AUTO: Final = -1
"""A block size that is still to be chosen; no number that is typed becomes it."""


def parsed_block_size(text: str) -> int:
    """Return tokens, or `AUTO`. Raises: InputError for other words."""
    if text == "auto":
        return AUTO
    try:
        tokens = int(text)
    except ValueError:
        raise InputError(
            "must be a whole number of tokens, or auto", field="--block-size", value=text
        ) from None
    if tokens < 1:
        raise InputError("must be at least 1", field="--block-size", value=tokens)
    return tokens


def parsed_tokens(text: str) -> int:
    """Return tokens, for verbs that do not choose. Raises: InputError for words, auto too."""
    try:
        return int(text)
    except ValueError:
        pass
    if text == "auto":
        raise InputError(
            "only kvatlas replay chooses it; here everything is counted in blocks of one size",
            field="--block-size",
            value=text,
            remedy="give a whole number of tokens",
        )
    raise InputError("must be a whole number of tokens", field="--block-size", value=text)
