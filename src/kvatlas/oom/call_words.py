"""A recorded stack in some words: the program's own call, not the machinery around it.

Owns: which calls are passed over. Leaves to others: stacks (`kvatlas.device.snapshot`).
"""

from __future__ import annotations

import re

from kvatlas.device.snapshot import Frame, Stacks

__all__ = ["stack_words"]

_TORCH = re.compile(r"(?:^|/)(?:torch|site-packages/torch)/|^<")
_OPERATION = re.compile(r"::generated::(\w+Backward\w*)::|^at::_ops::(?=(\w+)::)\w+")
_MACHINERY = re.compile(r"torch::(?:unwind|CapturedTraceback|cuda)::|c10::|at::detail::")
"""Native calls that every allocation has."""


def stack_words(stacks: Stacks, number: int) -> str:
    """Return the innermost call of the program, and its caller: `load (model.py:12) < main (...)`.

    Calls inside torch and Python's own machinery are passed over while others are left. "" where
    nothing was recorded.
    """
    frames = stacks.of(number)
    python = [frame for frame in frames if frame.filename.endswith(".py")]
    own = [frame for frame in python if not _TORCH.search(frame.filename)]
    if own or python:
        return " < ".join(_call(frame) for frame in (own or python)[:2])
    found = [match[1] or match[2] for frame in frames if (match := _OPERATION.search(frame.name))]
    backward = [name for name in found if "Backward" in name]
    if backward or found:
        return (backward or found)[0]
    native = [frame for frame in frames if not _MACHINERY.match(frame.name)]
    return " < ".join(_call(frame) for frame in (native or list(frames))[:2])


def _call(frame: Frame) -> str:
    name = frame.name.replace("(anonymous namespace)::", "")
    name = name.partition("(")[0].partition("<")[0].strip() or frame.name
    if frame.filename.endswith(".py"):
        return f"{name} ({frame.filename.rpartition('/')[2]}:{frame.line})"
    return name
