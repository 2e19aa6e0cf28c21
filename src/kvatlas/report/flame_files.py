"""Bytes by stack as files that flame graph viewers open.

Owns: speedscope's form (https://www.speedscope.app/file-format-schema.json) and the collapsed one
(`outer;inner bytes`, one stack a line). Leaves to others: whose bytes they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvatlas.device.snapshot import Frame
from kvatlas.report.plain_text import plain

__all__ = ["StackWeight", "collapsed", "speedscope"]

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
_UNKNOWN = Frame("stack not known", "", 0)
_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class StackWeight:
    """The bytes of one stack; its calls, the innermost first."""

    calls: tuple[Frame, ...]
    nbytes: int


def speedscope(
    title: str, exporter: str, profiles: Sequence[tuple[str, Sequence[StackWeight]]]
) -> bytes:
    """Return a file for https://www.speedscope.app; O(calls).

    Args:
        title: of the file; exporter: who wrote it.
        profiles: names and stacks; stacks without bytes are left out.
    """
    numbers: dict[Frame, int] = {}
    shown = []
    for name, weights in profiles:
        kept = [one for one in weights if one.nbytes > 0]
        samples = [
            [numbers.setdefault(call, len(numbers)) for call in (one.calls or (_UNKNOWN,))[::-1]]
            for one in kept
        ]
        shown.append(
            {
                "type": "sampled",
                "name": name,
                "unit": "bytes",
                "startValue": 0,
                "endValue": sum(one.nbytes for one in kept),
                "samples": samples,
                "weights": [one.nbytes for one in kept],
            }
        )
    frames = [
        {"name": call.name, "file": call.filename, "line": call.line}
        if call.filename
        else {"name": call.name}
        for call in numbers
    ]
    document = {
        "$schema": _SCHEMA,
        "name": title,
        "exporter": exporter,
        "activeProfileIndex": 0,
        "shared": {"frames": frames},
        "profiles": shown,
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def collapsed(weights: Iterable[StackWeight]) -> bytes:
    """Return one line for each stack, the outermost call first; stacks without bytes are left out.

    Semicolons part the calls, so those in names become commas.
    """
    lines = [
        f"{';'.join(_text(call) for call in (one.calls or (_UNKNOWN,))[::-1])} {one.nbytes}\n"
        for one in weights
        if one.nbytes > 0
    ]
    return "".join(sorted(lines)).encode("utf-8", errors="replace")


def _text(call: Frame) -> str:
    place = f" ({call.filename}:{call.line})" if call.filename else ""
    return plain(f"{call.name}{place}".replace(";", ","), _LONGEST)
