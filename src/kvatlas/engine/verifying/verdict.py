"""What a verification says: identical over so many calls, or the first difference in words.

Owns: the result, frozen. Leaves to others: finding it (`verifier`), showing it (`kvatlas.cli`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Difference", "DifferenceFound", "Divergence", "Verification"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same: what, and how either side has it."""

    what: str
    recorded: str
    twin: str


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first call on which the recording and the twin do not agree.

    Attributes:
        call: its number among the manager's calls, from 1.
        step: the scheduler's step, 0 before the first.
        request: its row in the recording, None for a call that is about no request.
        name: the request's own id, empty for none.
        made: what was called, under vLLM's name.
        differences: every thing that differs in this call.
        before: the last calls before it, oldest first, in words.
    """

    call: int
    step: int
    request: int | None
    name: str
    made: str
    differences: tuple[Difference, ...]
    before: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verification:
    """How far recording and twin agree.

    Attributes:
        calls: calls of the manager made on both sides, the divergent one included.
        steps: scheduler steps whose counts were compared.
        requests: requests that arrived.
        blocks: block ids compared, by what happened to them.
        divergence: the first difference, None where all is identical.
    """

    calls: int
    steps: int
    requests: int
    blocks: dict[str, int] = field(default_factory=dict)
    divergence: Divergence | None = None

    @property
    def identical(self) -> bool:
        """Whether every call did the same on both sides."""
        return self.divergence is None

    def said(self) -> dict[str, Any]:
        """Return it as the JSON of `kvatlas verify` says it."""
        return {
            "calls": self.calls,
            "identical": self.identical,
            "first_divergence": None if self.divergence is None else asdict(self.divergence),
            "steps": self.steps,
            "requests": self.requests,
            "blocks_compared": dict(self.blocks),
        }


class DifferenceFound(Exception):
    """Carries differences out of the call in which they were found."""

    def __init__(self, *differences: Difference) -> None:
        super().__init__(*differences)
        self.differences = differences
