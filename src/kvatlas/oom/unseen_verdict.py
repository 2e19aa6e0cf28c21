"""A recording without a failure: in how much memory there would be one.

Owns: that verdict. Leaves to others: recordings that fail (`scene_verdict`).
"""

from __future__ import annotations

from kvatlas.device import DeviceTwin, Timeline
from kvatlas.oom.settings_table import SettingOutcome, clearly_better, conf_text
from kvatlas.oom.verdict import OomVerdict, Remedy
from kvatlas.units import format_bytes

__all__ = ["unseen_verdict"]


def unseen_verdict(
    twin: DeviceTwin,
    *,
    capacity: int | None,
    own: int,
    rows: tuple[SettingOutcome, ...],
    order: tuple[str, ...],
) -> OomVerdict:
    """Return what a recording that does not fail says. One replay of the trace.

    Args:
        capacity: bytes in which it passes; None: nothing was asked.
        own: the smallest memory in which the recorded settings pass.
        rows: other settings, replayed; order: their texts, what changes least first.
    """
    replayed = twin.replay_recorded()
    chosen = clearly_better(rows, order)
    recorded = next((row for row in rows if row.recorded), None)
    unverified = tuple(
        dict.fromkeys(
            (
                *replayed.unverified,
                *(() if recorded is None else recorded.unverified),
                *(() if chosen is None else chosen.unverified),
            )
        )
    )
    reasons = [_peaks(replayed.timeline)]
    remedies = []
    if chosen is not None and recorded is not None:
        less = recorded.needs_bytes - chosen.needs_bytes
        remedies.append(
            Remedy(
                text=f"The same requests then need {format_bytes(chosen.needs_bytes)}, "
                f"{format_bytes(less)} less.",
                setting=conf_text(chosen, rows),
                basis="replayed",
            )
        )
    if capacity is not None:
        line = (
            f"In {format_bytes(capacity)} these requests pass: the smallest memory that suffices "
            f"is {format_bytes(own)}."
        )
        return OomVerdict(
            cause="none",
            line=line,
            reasons=tuple(reasons),
            remedies=tuple(remedies),
            unverified=unverified,
        )
    return OomVerdict(
        cause="unseen",
        line=f"No out-of-memory error is in this trace: with less than {format_bytes(own)} for "
        "PyTorch there would be one.",
        reasons=tuple(reasons),
        remedies=tuple(remedies),
        notes=(
            "A snapshot taken before the failure, or a trace whose ring lost it, looks like this. "
            "--memory SIZE shows where it would fail in less; a log's message can be explained on "
            "its own.",
        ),
        unverified=unverified,
    )


def _peaks(timeline: Timeline) -> str:
    """Return what was recorded: other memory, or none that ends, gives other peaks."""
    reserved, active, stuck = (
        format_bytes(int(series.max(initial=0)))
        for series in (timeline.reserved_bytes, timeline.active_bytes, timeline.stuck_bytes)
    )
    return (
        f"In the recording PyTorch held {reserved} at most, and live blocks {active} at most; up "
        f"to {stuck} were stuck."
    )
