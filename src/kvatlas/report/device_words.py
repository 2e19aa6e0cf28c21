"""Words that every view of a memory snapshot uses.

Owns: how settings, outcomes and what is not verified are said. Leaves to others: figures, looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvatlas.device.results import RecordedReplay, WhatIf
from kvatlas.device.settings import AllocatorSettings
from kvatlas.report.numbers import count

__all__ = ["outcome", "settings_name", "subtitle", "unverified_note"]

_LABEL = ": not verified on recordings"


def settings_name(text: str, fraction: float | None = None) -> str:
    """Return settings as PyTorch's variable holds them; the defaults by that name."""
    parts = [text] if text else []
    if fraction is not None:
        parts.append(f"per_process_memory_fraction:{fraction:g}")
    return ",".join(parts) or "the defaults"


def subtitle(recorded: RecordedReplay, settings: AllocatorSettings) -> str:
    """Return what a snapshot is: device, events, settings, whether it replays."""
    replays = "replays to the byte" if recorded.identical else "does not replay to the byte"
    return (
        f"device {recorded.device} · {count(recorded.events)} events · recorded under "
        f"{settings_name(settings.text())} · {replays}"
    )


def outcome(run: WhatIf) -> str:
    """Return whether memory sufficed, and where not."""
    if not run.oom:
        return "passes"
    at = run.ran_out_at
    return "OOM at the start" if at is None or at < 0 else f"OOM at event {at:,}"


def unverified_note(unverified: Sequence[str]) -> Iterator[str]:
    """Yield the one sentence that says what is not verified, nothing where all is."""
    names = [text.removesuffix(_LABEL) for text in unverified]
    if names:
        yield f"not verified on recordings, only read from PyTorch's source: {', '.join(names)}"
