"""Which settings would have survived in the same memory, and what each costs.

Owns: the comparison with a capacity, the choice of the one to recommend. Leaves to others: the runs
(`kvatlas.device.survival`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from kvatlas.device import DeviceTwin, Limits
from kvatlas.device.survival import Survival
from kvatlas.oom.kv_block import KvBlock

__all__ = ["SettingOutcome", "choose", "clearly_better", "conf_text", "outcome"]

_CLEARLY = 0.01
"""Settings whose needs differ by less than this share cost the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingOutcome:
    """The recorded requests under one setting.

    Attributes:
        text: as PyTorch's variable writes it, "" for the defaults; recorded: whether it is the
            recording's own. fraction: the memory fraction that goes with it, None: none.
        needs_bytes: the smallest memory in which they pass. survives: whether they pass in what
            there was: as a rule where that is as much, but that is run.
        spare_bytes: what there was beyond it, below 0: what lacked.
        more_bytes: what it needs beyond what PyTorch held at the failure.
        kv_blocks: KV blocks to give up so that they pass, 0 where they do; None: size not known.
    """

    text: str
    recorded: bool
    fraction: float | None
    needs_bytes: int
    survives: bool
    spare_bytes: int
    more_bytes: int
    kv_blocks: int | None
    unverified: tuple[str, ...]


def outcome(
    twin: DeviceTwin,
    one: Survival,
    *,
    capacity_bytes: int,
    reserved_bytes: int,
    block: KvBlock | None,
) -> SettingOutcome:
    """Return a setting beside the memory that there was. One run.

    More memory is not always better: a segment that is not given back, because it need not be, can
    lie badly later. So that it passes in less does not say that it passes here; that is run.
    """
    limits = Limits.under(capacity_bytes, one.fraction)
    survives = not twin.what_if(one.settings, limits, start=one.start).oom
    needs = min(one.capacity_bytes, capacity_bytes) if survives else one.capacity_bytes
    blocks: int | None = 0
    if not survives:
        lacks = needs - capacity_bytes
        blocks = None if block is None or lacks <= 0 else block.blocks(lacks)
    return SettingOutcome(
        text=one.text,
        recorded=one.settings == twin.settings,
        fraction=one.fraction,
        needs_bytes=needs,
        survives=survives,
        spare_bytes=capacity_bytes - needs,
        more_bytes=max(0, needs - reserved_bytes),
        kv_blocks=blocks,
        unverified=one.unverified,
    )


def choose(rows: tuple[SettingOutcome, ...], order: Iterable[str]) -> SettingOutcome | None:
    """Return the setting to recommend: the least memory, or nearly, with the least change.

    `order`: texts, what changes least first. What the recording ran under is never recommended;
    None where nothing else passes.
    """
    passed = [row for row in rows if row.survives and not row.recorded]
    if not passed:
        return None
    least = min(row.needs_bytes for row in passed)
    alike = [row for row in passed if row.needs_bytes <= least * (1 + _CLEARLY)]
    places = {text: at for at, text in enumerate(order)}
    return min(alike, key=lambda row: (row.fraction is not None, places.get(row.text, len(places))))


def clearly_better(
    rows: tuple[SettingOutcome, ...], order: tuple[str, ...]
) -> SettingOutcome | None:
    """Return the setting that needs clearly less than the recording's own, None where none does.

    All rows begin alike, so that the difference is the setting's.
    """
    own = next((row for row in rows if row.recorded), None)
    if own is None:
        return None
    less = tuple(row for row in rows if row.needs_bytes <= own.needs_bytes * (1 - _CLEARLY))
    return choose(tuple(replace(row, survives=True) for row in less), order)


def conf_text(row: SettingOutcome, rows: tuple[SettingOutcome, ...]) -> str:
    """Return what to type for a setting; the defaults are typed by taking away what is set."""
    if row.text:
        return f"PYTORCH_CUDA_ALLOC_CONF={row.text}"
    own = next((each.text for each in rows if each.recorded), "")
    return f"PYTORCH_CUDA_ALLOC_CONF without {own}"
