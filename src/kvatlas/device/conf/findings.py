"""One thing that a text of settings does not do as it says.

Owns: the shape of a finding. Leaves to others: finding it (`reading`, `rules`, `environment`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Level"]

Level = Literal["refused", "trap", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A trap in a text of settings.

    Attributes:
        level: `refused`: PyTorch stops at it; `trap`: it starts, but does not do what the text
            says; `note`: it does, but not everywhere or not for long.
        rule: a short name of its own.
        column: where in the text it begins, from 1; None where it is about no single place.
        what, consequence, remedy: what stands there, what PyTorch makes of it, what to write.
    """

    level: Level
    rule: str
    column: int | None
    what: str
    consequence: str
    remedy: str
