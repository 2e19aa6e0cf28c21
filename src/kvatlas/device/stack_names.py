"""A stack as one line, and as a key that two recordings share.

Owns: which call stands for a stack, what of a file's name is compared. Leaves to others: stacks.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvatlas.device.snapshot import Frame

__all__ = ["NO_STACK", "StackKey", "stack_key", "stack_label"]

NO_STACK = "(not recorded)"
_PARTS = 3
_SHOWN_CALLS = 3
_ALLOCATOR = ("torch::unwind", "torch::CapturedTraceback", "torch::cuda::", "c10::", "at::detail::")
_LIBRARIES = ("/torch/", "/site-packages/torch/")

StackKey = tuple[tuple[str, str], ...]


def stack_key(frames: Sequence[Frame]) -> StackKey:
    """Return what two recordings of one program share: functions, and the ends of files' names.

    Without line numbers, which move with every edit, and without the folders before the last three
    parts of a name, which differ from one machine to the next.
    """
    return tuple((frame.name, _short(frame.filename)) for frame in frames)


def stack_label(frames: Sequence[Frame], calls: int = _SHOWN_CALLS) -> str:
    """Return the innermost calls of a stack that are the program's own, joined by ` < `.

    The program's own are those in Python files outside torch; where there are none, the innermost
    ones above the allocator. A stack that was not recorded is `(not recorded)`.
    """
    own = [frame for frame in frames if _is_own(frame)]
    own = own or [frame for frame in frames if not _is_allocator(frame)] or list(frames)
    if not own:
        return NO_STACK
    shown = (f"{frame.name} {_short(frame.filename, 1)}:{frame.line}" for frame in own[:calls])
    return " < ".join(shown)


def _is_own(frame: Frame) -> bool:
    name = frame.filename.replace("\\", "/")
    return name.endswith(".py") and not any(part in name for part in _LIBRARIES)


def _is_allocator(frame: Frame) -> bool:
    """Say whether a call is the allocator's own, or wrote down the stack."""
    return frame.name.startswith(_ALLOCATOR)


def _short(filename: str, parts: int = _PARTS) -> str:
    return "/".join(filename.replace("\\", "/").split("/")[-parts:])
