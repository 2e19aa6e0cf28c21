"""The table of `roundup_power2_divisions` as PyTorch fills it, and where it is not what was meant.

Owns: reading its two forms, and findings about holes and order. Leaves to others: other settings
(`reading`), rounding itself (`kvatlas.device.rounding`).
"""

from __future__ import annotations

from collections.abc import Callable

from kvatlas.device.conf.findings import Level
from kvatlas.device.conf.tokens import Stopped, Token, Tokens, stoull

__all__ = ["read_divisions"]

_KEY = "roundup_power2_divisions"
_ENTRIES = 16
Find = Callable[[Level, str, Token | None, str, str, str], None]
Table = tuple[int, ...]


def read_divisions(find: Find, tokens: Tokens, value: Token, before: Table) -> Table:
    """Return the 16 entries, sizes from 1 MiB, 2 MiB, ... and from 32 GiB on.

    `value`: the token behind the colon, taken already. `before`: what a list is laid over.
    """
    if value.text != "[":
        return (_division(value, listed=False),) * _ENTRIES
    table, named, last, first = list(before), set[int](), 0, True
    while (key := tokens.take(lambda: f"the list of {_KEY} has no end")).text != "]":
        tokens.take(lambda: f"the list of {_KEY} has no end")
        division = _division(tokens.take(lambda: f"the list of {_KEY} has no end"), listed=True)
        if key.text == ">":
            table[last + 1 :] = [division] * (_ENTRIES - last - 1)
            named.update(range(last + 1, _ENTRIES))
        else:
            last = _entry(find, key, last, first)
            if first:
                table[:last] = [division] * last
                named.update(range(last))
                _first_fills(find, key, last, division)
            table[last], first = division, False
            named.add(last)
        end = tokens.peek(0)
        if end is not None and end.text != "]":
            tokens.take(lambda: "")
    _holes(find, value, named)
    return tuple(table)


def _division(token: Token, *, listed: bool) -> int:
    read = stoull(token.text)
    number = -1 if read is None else read[0]
    allowed = number >= 0 if listed else number > 0
    if not allowed or number & (number - 1):
        raise Stopped(
            "division", token, f"{_KEY} is {token.text}, which is no power of two",
            "PyTorch refuses the text",
            "write 1, 2, 4, 8 or so" + (", or 0 for none" if listed else ""),
        )  # fmt: skip
    return number


def _entry(find: Find, key: Token, last: int, first: bool) -> int:
    read = stoull(key.text)
    size = 0 if read is None else read[0]
    if size <= 0 or size & (size - 1):
        raise Stopped(
            "interval", key, f"a size in the list of {_KEY} is {key.text}, no power of two",
            "PyTorch refuses the text", "write sizes in MiB: 256, 512, 1024, ...",
        )  # fmt: skip
    entry = min(size.bit_length() - 1, _ENTRIES - 1)
    if not first and entry <= last:
        find(
            "trap", "divisions-order", key, f"{key.text} comes behind a larger size",
            "only the first key fills what is below it, and > begins behind the key before it",
            "write sizes from small to large",
        )  # fmt: skip
    return entry


def _first_fills(find: Find, key: Token, entries: int, division: int) -> None:
    if division == 1 and entries:
        find(
            "trap", "divisions-of-one", key,
            f"1 stands at the first size, {key.text} MiB, and so for all below it",
            "every request below is rounded up to a power of two: up to twice the memory",
            f"write {key.text}:0 for no rounding there, or more divisions",
        )  # fmt: skip


def _holes(find: Find, value: Token, named: set[int]) -> None:
    missing = [at for at in range(_ENTRIES) if at not in named]
    if missing and len(missing) < _ENTRIES:
        find(
            "trap", "divisions-holes", value,
            f"the list of {_KEY} says nothing about {_sizes(missing)}",
            "requests of these sizes are not rounded by divisions but to 512 bytes, so they do not "
            "reuse what was rounded",
            "name every size, or end the list with >:DIVISIONS",
        )  # fmt: skip


def _sizes(entries: list[int]) -> str:
    """Return entries as ranges of sizes: "512 MiB to 1 GiB, from 32 GiB on"."""
    spans: list[list[int]] = []
    for at in entries:
        if spans and spans[-1][1] == at:
            spans[-1][1] = at + 1
        else:
            spans.append([at, at + 1])
    return ", ".join(
        f"sizes from {_size(low)} on" if high == _ENTRIES else f"{_size(low)} to {_size(high)}"
        for low, high in spans
    )


def _size(entry: int) -> str:
    return f"{1 << entry} MiB" if entry < 10 else f"{1 << (entry - 10)} GiB"
