"""A stack as a key that two recordings of one program share.

Owns: what of a call is compared. Leaves to others: stacks, their names for people (`stack_words`).
"""

from __future__ import annotations

from collections.abc import Sequence

from kvatlas.device.snapshot import Frame

__all__ = ["StackKey", "stack_key"]

_PARTS = 3

StackKey = tuple[tuple[str, str], ...]


def stack_key(frames: Sequence[Frame]) -> StackKey:
    """Return what two recordings of one program share: functions, and the ends of files' names.

    Without line numbers, which move with every edit, and without the folders before the last three
    parts of a name, which differ from one machine to the next.
    """
    return tuple((frame.name, _end(frame.filename)) for frame in frames)


def _end(filename: str) -> str:
    return "/".join(filename.replace("\\", "/").split("/")[-_PARTS:])
