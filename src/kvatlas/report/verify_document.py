"""What `kvatlas verify` found, engine by engine.

Owns: the document and its JSON. Leaves to others: finding it (`kvatlas.engine.verifying`), showing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvatlas.engine.verifying import Divergence, Verification

__all__ = ["VerifiedEngine", "VerifyDocument"]

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class VerifiedEngine:
    """One engine's recording.

    Attributes:
        name: its folder.
        engine: whose rules, for people.
        found: how far both sides agree.
        notes: what a reader must know beside it.
    """

    name: str
    engine: str
    found: Verification
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VerifyDocument:
    """All engines of a recording; at least one."""

    recording: str
    engines: tuple[VerifiedEngine, ...]

    @property
    def identical(self) -> bool:
        """Whether every call of every engine did the same on both sides."""
        return all(engine.found.identical for engine in self.engines)

    @property
    def calls(self) -> int:
        """Calls compared in all."""
        return sum(engine.found.calls for engine in self.engines)

    @property
    def first_divergence(self) -> Divergence | None:
        """The first engine's that diverges."""
        for engine in self.engines:
            if engine.found.divergence is not None:
                return engine.found.divergence
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return it as `--json` says it."""
        engines = [
            {
                "name": engine.name,
                "engine": engine.engine,
                **engine.found.said(),
                "notes": list(engine.notes),
            }
            for engine in self.engines
        ]
        firsts = (said["first_divergence"] for said in engines)
        return {
            "schema": _SCHEMA,
            "recording": self.recording,
            "calls": self.calls,
            "identical": self.identical,
            "first_divergence": next((first for first in firsts if first is not None), None),
            "engines": engines,
        }
