"""Decision streams as something to read: steps decoded, two of them side by side.

Owns: decoding the words of the decision stream and showing the first step on which two streams
differ. Needs no vLLM: the recorded fixtures are compared with it too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np

from kvatlas.engine.kernels.stream import (
    ADMIT_WORD,
    GROUP_WORD,
    GROW_WORD,
    PREEMPT_WORD,
    SCHEDULED_WORD,
    STEP_WORD,
)

_WIDTH = 58


@dataclass
class Decisions:
    """What one step decided, as `name: value` lines in the order of the stream."""

    number: int
    lines: list[str] = field(default_factory=list)


def split_steps(words: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> list[list[int]]:
    """Return the words of each step of a whole stream."""
    starts = np.flatnonzero(words == STEP_WORD)
    return [step.tolist() for step in np.split(words, starts[1:])] if starts.size else []


def without_schedule(words: list[int]) -> list[int]:
    """Return a step's words without free blocks and scheduled tokens: what a checksum covers."""
    return words[: words.index(SCHEDULED_WORD)]


def words_sha256(words: Iterable[int]) -> str:
    """Return the digest of words as little-endian 32-bit numbers."""
    return hashlib.sha256(np.fromiter(words, "<u4").tobytes()).hexdigest()


def decode(words: Sequence[int]) -> Decisions:
    """Return the decisions of one step's words, readable."""
    assert words[0] == STEP_WORD, f"a step starts with {STEP_WORD}, not {words[0]}"
    step = Decisions(number=words[1])
    at = 2
    while at < len(words):
        end = at + 1
        while end < len(words) and (words[end] < SCHEDULED_WORD or words[end] == GROUP_WORD):
            end += 1
        step.lines += _lines(words[at], list(words[at + 1 : end]))
        at = end
    return step


def _lines(kind: int, words: list[int]) -> list[str]:
    match kind:
        case _ if kind == ADMIT_WORD:
            return [f"admit {words[0]}: hit {words[1]} tokens, blocks {_groups(words[2:])}"]
        case _ if kind == GROW_WORD:
            return [f"grow {words[0]}: blocks {_groups(words[1:])}"]
        case _ if kind == PREEMPT_WORD:
            return [f"preempt {words[0]}"]
    scheduled = zip(words[1::2], words[2::2], strict=True)
    return [
        f"free blocks {words[0]}",
        *(f"schedule {row}: {tokens} tokens" for row, tokens in scheduled),
    ]


def _groups(words: list[int]) -> str:
    groups: list[list[int]] = [[]]
    for word in words:
        if word == GROUP_WORD:
            groups.append([])
        else:
            groups[-1].append(word)
    return " | ".join(_runs(blocks) for blocks in groups)


def _runs(blocks: list[int]) -> str:
    """Return block ids with runs shortened: 4 5 6 7 0 0 0 -> 4-7 0x3."""
    parts: list[str] = []
    at = 0
    while at < len(blocks):
        end = at + 1
        step = 0 if end < len(blocks) and blocks[end] == blocks[at] else 1
        while end < len(blocks) and blocks[end] == blocks[end - 1] + step:
            end += 1
        length = end - at
        if length > 2:
            parts.append(f"{blocks[at]}-{blocks[end - 1]}" if step else f"{blocks[at]}x{length}")
        else:
            parts += [str(block) for block in blocks[at:end]]
        at = end
    return " ".join(parts) or "none"


def explain(
    case: object,
    expected: Sequence[Sequence[int]],
    actual: Sequence[Sequence[int]],
    at: int,
    *,
    names: tuple[str, str] = ("vLLM", "twin"),
) -> str:
    """Return the case, the step before step `at` (0-based) and step `at` side by side.

    `expected` may be shorter than `actual` or end at `at`; a missing step shows as an empty side.
    """
    parts = [f"{names[0]} and {names[1]} differ at step {at + 1} of", str(case), ""]
    for index in range(max(0, at - 1), at + 1):
        left, right = _step_lines(expected, index), _step_lines(actual, index)
        parts.append(f"--- step {index + 1} {'-' * 100}")
        parts.append(f"    {names[0]:{_WIDTH}} | {names[1]}")
        for one, other in zip_longest(left, right, fillvalue=""):
            parts += _side_by_side(one, other)
    return "\n".join(parts)


def _step_lines(steps: Sequence[Sequence[int]], index: int) -> list[str]:
    return decode(steps[index]).lines if index < len(steps) else ["(no such step)"]


def _side_by_side(one: str, other: str) -> list[str]:
    """Return one row, wrapped, marked when the sides differ."""
    mark = "   " if one == other else " ! "
    rows = []
    for at in range(0, max(len(one), len(other), 1), _WIDTH):
        left, right = one[at : at + _WIDTH], other[at : at + _WIDTH]
        rows.append(f"{mark} {left:{_WIDTH}} | {right}".rstrip())
    return rows
