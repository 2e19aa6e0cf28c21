"""What to read first about a trace's capacity: the knee, the gap to the optimum, the bottleneck.

Owns: the sentences. Leaves to others: every figure.
"""

from __future__ import annotations

import numpy as np

from kvatlas.measure.curves import CurveTable
from kvatlas.report.curve_document import Bounds
from kvatlas.report.numbers import blocks
from kvatlas.units import format_bytes

__all__ = ["headline"]

_SMALL_GAP = 0.01


def headline(
    table: CurveTable, knee: Bounds, focus: Bounds | None, bytes_per_block: int | None = None
) -> tuple[str, ...]:
    """Return two to four sentences, the most important first."""
    if knee.content <= 0:
        return ("No prompt repeats the beginning of an earlier one: no cache can help here.",)
    if knee.ceiling <= 0:
        return (
            f"{knee.content:.1%} of the prompt tokens were seen before, but never a whole block of "
            "them: smaller blocks could help, more memory cannot.",
        )
    sentences = []
    if focus is not None:
        sentences.append(_bounds_sentence("At", focus, bytes_per_block))
        sentences.append(f"What limits it: {focus.bottleneck}: {focus.reason}.")
    sentences.append(_bounds_sentence("The knee of the curve is at", knee, bytes_per_block))
    sentences.append(_gap_sentence(table, knee))
    return tuple(sentences)


def _bounds_sentence(opening: str, bounds: Bounds, bytes_per_block: int | None) -> str:
    size = ""
    if bytes_per_block is not None:
        size = f" ({format_bytes(bounds.capacity_blocks * bytes_per_block)})"
    reached = (
        f"LRU hits {bounds.lru:.1%} of the prompt tokens, {bounds.lru / bounds.ceiling:.0%} of the "
        f"{bounds.ceiling:.1%} that no limit of capacity would allow"
        if bounds.ceiling
        else "nothing is hit"
    )
    engine = "" if bounds.engine is None else f"; the engine as configured hits {bounds.engine:.1%}"
    return f"{opening} {blocks(bounds.capacity_blocks)}{size}: {reached}{engine}."


def _gap_sentence(table: CurveTable, knee: Bounds) -> str:
    """Say what a better eviction policy could gain at most: at the knee, and where it is most."""
    gap = table.policy_tokens / max(1, table.queried_tokens)
    at_knee = knee.optimum - knee.lru
    widest = int(np.argmax(gap)) if gap.size else 0
    said = f"A perfect eviction policy would gain {100 * at_knee:.1f} points there"
    if gap.size and gap[widest] > at_knee:
        said += (
            f", and {100 * gap[widest]:.1f} points at most, at "
            f"{blocks(int(table.capacity_blocks[widest]))}"
        )
    if max(at_knee, float(gap.max(initial=0.0))) < _SMALL_GAP:
        said += ": another policy is not worth the trouble"
    return said + "."
