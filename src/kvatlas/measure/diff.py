"""Two runs held against each other: which settings and figures moved.

Owns: when two runs are of one workload, what counts as a change, better and worse. Leaves to
others: the figures of each run, for which requests it changed (`request_changes`), views.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvatlas.events import Header
from kvatlas.measure.figures import Figures, Number
from kvatlas.measure.outcomes import Outcomes

__all__ = [
    "FigureChange",
    "changed_figures",
    "changed_settings",
    "why_not_comparable",
]

_SAME_WORKLOAD = ("requests", "prompt_tokens", "output_tokens", "distinct_ids", "tokens_per_id")
_RELATIVE_NOISE = _ABSOLUTE_NOISE = 1e-9

# How a figure's name begins decides which way is better: +1 up, -1 down. What has no entry has no
# better: a larger pool keeps more idle blocks, and that is what it is for.
_BETTER = (
    ("prefix.token_hit_rate", 1), ("prefix.block_hit_rate", 1), ("prefix.readmission_", 1),
    ("prefix.request_", 1), ("prefix.evicted_", -1), ("prefix.pollution_", -1),
    ("prefix.stranded_", -1), ("prefix.duplicate_", -1), ("attribution.capacity", -1),
    ("attribution.missed_", -1), ("waste.internal_", -1), ("waste.never_used_", -1),
    ("preemption.", -1), ("allocation.failed_", -1), ("queue.", -1), ("latency.", -1),
    ("fragmentation.runs_per_request_", -1),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FigureChange:
    """A figure that moved.

    Attributes:
        name: the measurement.
        before, after: its values, None where one run does not know it.
        better: whether that is good; None where neither way is.
    """

    name: str
    before: Number | None
    after: Number | None
    better: bool | None

    @property
    def change(self) -> float | None:
        """Return after less before."""
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def relative(self) -> float | None:
        """Return the change as a share of `before`, None where that is 0."""
        return None if self.change is None or not self.before else self.change / abs(self.before)


def why_not_comparable(a: Header, b: Header, before: Outcomes, after: Outcomes) -> str:
    """Return why the requests of two runs cannot be compared, empty when they can."""
    for name in _SAME_WORKLOAD:
        one, other = a.workload.get(name), b.workload.get(name)
        if one is not None and other is not None and one != other:
            what = name.replace("_", " ")
            return f"not the same workload: {_said(one)} and {_said(other)} {what}"
    if before.prompt_tokens.size != after.prompt_tokens.size:
        sizes = f"{before.prompt_tokens.size:,} and {after.prompt_tokens.size:,}"
        return f"not the same workload: {sizes} requests"
    both = (before.prompt_tokens >= 0) & (after.prompt_tokens >= 0)
    differ = both & (before.prompt_tokens != after.prompt_tokens)
    if differ.any():
        row = int(differ.argmax())
        return (
            f"not the same workload: request {row} has {before.prompt_tokens[row]:,} and "
            f"{after.prompt_tokens[row]:,} prompt tokens"
        )
    if not both.any():
        return "no request arrived in both runs"
    return ""


def changed_settings(a: Header, b: Header) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ, by name; None where one run does not have it."""
    one, other = ({"engine": each.engine, **each.config} for each in (a, b))
    # The engine's own name says more than the flag's value.
    one["engine"], other["engine"] = a.engine, b.engine
    return {
        name: (one.get(name), other.get(name))
        for name in (*one, *(name for name in other if name not in one))
        if one.get(name) != other.get(name)
    }


def changed_figures(a: Figures, b: Figures) -> list[FigureChange]:
    """Return the figures that moved, in the order of the sheets."""
    names = (*a.values, *(name for name in b.values if name not in a.values))
    found = []
    for name in names:
        before, after = a.values.get(name), b.values.get(name)
        if before is None and after is None:
            continue
        if before is not None and after is not None:
            size = max(abs(before), abs(after))
            if abs(after - before) <= max(_ABSOLUTE_NOISE, _RELATIVE_NOISE * size):
                continue
            way = next((sign for start, sign in _BETTER if name.startswith(start)), 0)
            better = None if way == 0 else (after > before) == (way > 0)
        else:
            better = None
        found.append(FigureChange(name, before, after, better))
    return found


def _said(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
