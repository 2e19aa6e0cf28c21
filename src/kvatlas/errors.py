"""Every error that kvatlas raises on purpose, in one tree.

Owns: the exceptions and how one reads as a single line. Leaves to others: when to raise them, and
the exit codes (`kvatlas.cli`). A full pool is an answer (`None`), not an error.
"""

from __future__ import annotations

from os import PathLike, fspath

_SHOWN_CHARS = 60


class KvatlasError(Exception):
    """Base of all errors that kvatlas raises on purpose."""


class InvariantError(KvatlasError):
    """Our own bookkeeping is broken: a bug in kvatlas, never the user's fault."""


class InputError(KvatlasError):
    """A file, a flag or a value that kvatlas cannot use; reads as one line with the remedy.

    Args:
        what: what is wrong, in plain words.
        file: the file that holds it.
        line: the 1-based line in that file.
        field: the field or flag.
        value: the offending value, shown clipped to 60 characters.
        remedy: what the user can do about it.
    """

    def __init__(
        self,
        what: str,
        *,
        file: str | PathLike[str] | None = None,
        line: int | None = None,
        field: str | None = None,
        value: object = None,
        remedy: str | None = None,
    ) -> None:
        self.what, self.line, self.field, self.value, self.remedy = what, line, field, value, remedy
        self.file = None if file is None else fspath(file)
        super().__init__(what)

    def __str__(self) -> str:
        place = self.file or ""
        if self.line is not None:
            place = f"{place}:{self.line}" if place else f"line {self.line}"
        parts = [part for part in (place, self.field) if part]
        text = ": ".join([*parts, self.what])
        if self.value is not None:
            text += f" (got {_clip(self.value)})"
        if self.remedy:
            text += f"; {self.remedy}"
        return _one_line(text)


def _clip(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def _one_line(text: str) -> str:
    return "".join(ch if ch.isprintable() else repr(ch)[1:-1] for ch in text)
