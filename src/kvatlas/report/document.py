"""What a replay has to say, complete and frozen: every view shows a part of it.

Owns: the parts and their JSON form (docs/reference/replay-json.md). Leaves to others: numbers
(`kvatlas.measure`) and looks (the other files here).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kvatlas.measure.figures import Figures, Number
from kvatlas.measure.prediction import Prediction

__all__ = ["SCHEMA", "Refused", "ReplayDocument"]

SCHEMA = 1
"""Raised when a key is renamed or changes its meaning; new keys do not raise it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that is never served: its row in the trace, its size, and why."""

    row: int
    prompt_tokens: int
    output_tokens: int
    blocks_needed: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayDocument:
    """One replay.

    Attributes:
        engine: the engine's name for people, such as "vLLM 0.32".
        config: every setting by the name of its flag.
        workload: what was replayed.
        decisions: exact counts by the recorded names.
        figures: what they mean.
        timing: seconds of our own time, and rates.
        exact, modelled: one sentence each, on what to believe.
        never_served: requests set aside.
        blocked: the request that blocks the queue for ever, if one does.
        partial: stopped before the end.
        notes: plain sentences that a user must read.
        prediction: the recording that was replayed, held against this replay.
        block_size_choice: the block size that was chosen for the trace, and why.
        hybrid: the budget that device and host share, and how it was divided.
    """

    version: str
    engine: str
    config: Mapping[str, Any]
    workload: Mapping[str, Any]
    decisions: Mapping[str, Any]
    figures: Figures
    timing: Mapping[str, float | bool]
    exact: str
    modelled: str
    never_served: tuple[Refused, ...] = ()
    blocked: Refused | None = None
    partial: bool = False
    notes: tuple[str, ...] = ()
    prediction: Prediction | None = None
    block_size_choice: Mapping[str, Any] | None = None
    hybrid: Mapping[str, Any] | None = None

    def figure(self, name: str) -> Number | None:
        """Return a figure, None where it cannot be had."""
        return self.figures[name]

    def known(self, name: str) -> Number:
        """Return a figure that can be had. Raises: KeyError when it cannot."""
        value = self.figures[name]
        if value is None:
            raise KeyError(name)
        return value

    def why(self, name: str) -> str:
        """Return why a figure is `None`."""
        return self.figures.unavailable[name]

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON form, in plain types."""
        said = {
            "schema": SCHEMA,
            "kvatlas": self.version,
            "partial": self.partial,
            "config": dict(self.config),
            "workload": dict(self.workload),
            "decisions": dict(self.decisions),
            "measurements": dict(self.figures.values),
            "unavailable": dict(self.figures.unavailable),
            "never_served": [asdict(request) for request in self.never_served],
            "blocked": None if self.blocked is None else asdict(self.blocked),
            "timing": dict(self.timing),
            "exactness": {"exact": self.exact, "modelled": self.modelled},
            "notes": list(self.notes),
        }
        for name in ("block_size_choice", "hybrid"):
            if getattr(self, name) is not None:
                said[name] = dict(getattr(self, name))
        return said if self.prediction is None else {**said, "prediction": self.prediction.said()}
