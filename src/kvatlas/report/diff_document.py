"""What a comparison of two runs has to say, complete and frozen.

Owns: the parts and their JSON form (docs/reference/diff-json.md). Leaves to others: what changed
(`kvatlas.measure`), looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from kvatlas.measure.diff import FigureChange
from kvatlas.measure.request_changes import QuantityChange, SizeClass

__all__ = ["SCHEMA", "DiffDocument", "Side"]

SCHEMA = 1
"""Raised when a key is renamed or changes its meaning; new keys do not raise it."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs: its file, title, why it is only a part, its requests' own ids."""

    path: str
    title: str
    partial: str
    names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DiffDocument:
    """Two runs, side by side.

    Attributes:
        version: kvatlas's.
        before, after: the runs.
        not_comparable: why requests are not compared, empty when they are.
        settings: those that differ: name, and its value in either run.
        figures: those that moved.
        figures_same: how many did not.
        requests: how each quantity moved over the requests.
        sizes: the same by length of the prompt.
        notes: plain sentences that a reader must see.
    """

    version: str
    before: Side
    after: Side
    not_comparable: str
    settings: Mapping[str, tuple[Any, Any]]
    figures: tuple[FigureChange, ...]
    figures_same: int
    requests: tuple[QuantityChange, ...] = ()
    sizes: tuple[SizeClass, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON form, in plain types."""
        return {
            "schema": SCHEMA,
            "kvatlas": self.version,
            "runs": [_side(self.before), _side(self.after)],
            "comparable": not self.not_comparable,
            "not_comparable_because": self.not_comparable or None,
            "settings": {
                name: {"before": before, "after": after}
                for name, (before, after) in self.settings.items()
            },
            "measurements": {
                each.name: {
                    "before": each.before,
                    "after": each.after,
                    "change": each.change,
                    "relative": each.relative,
                    "better": each.better,
                }
                for each in self.figures
            },
            "measurements_same": self.figures_same,
            "requests": {each.quantity.name: _quantity(each) for each in self.requests},
            "prompt_sizes": [
                {
                    "least_tokens": each.least,
                    "most_tokens": each.most,
                    "requests": each.requests,
                    "means": {
                        name: None if pair is None else {"before": pair[0], "after": pair[1]}
                        for name, pair in each.means.items()
                    },
                }
                for each in self.sizes
            ],
            "notes": list(self.notes),
        }


def _side(side: Side) -> dict[str, Any]:
    return {
        "path": side.path,
        "title": side.title,
        "partial": bool(side.partial),
        "partial_reason": side.partial or None,
    }


def _quantity(change: QuantityChange) -> dict[str, Any]:
    said = asdict(change)
    del said["quantity"]
    for key in ("winners", "losers"):
        said[key] = [
            {"request": request, "before": before, "after": after}
            for request, before, after in said[key]
        ]
    return {"higher_is_better": change.quantity.better > 0, **said}
