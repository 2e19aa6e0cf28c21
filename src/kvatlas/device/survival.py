"""How much memory the same requests need under each of several settings.

Owns: settings worth trying, the smallest capacity that suffices under each, their order. Leaves to
others: running (`twin`), what a setting means (`settings`), tables and verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvatlas.device.build import MOST_ADDRESSES, Limits
from kvatlas.device.results import Start, WhatIf
from kvatlas.device.settings import AllocatorSettings
from kvatlas.errors import InputError
from kvatlas.units import format_bytes

if TYPE_CHECKING:
    from kvatlas.device.twin import DeviceTwin

__all__ = [
    "CANDIDATES",
    "CAPACITY_STEP_BYTES",
    "COLLECTING_FRACTION",
    "Survival",
    "smallest_capacity",
    "survival",
    "survival_table",
    "survivals",
]

CANDIDATES = (
    "",
    "expandable_segments:True",
    "max_split_size_mb:64",
    "max_split_size_mb:128",
    "max_split_size_mb:256",
    "max_split_size_mb:512",
    "large_segment_size_mb:12",
    "large_segment_size_mb:32",
    "large_segment_size_mb:64",
    "large_segment_size_mb:128",
    "roundup_power2_divisions:4",
    "roundup_power2_divisions:8",
    "garbage_collection_threshold:0.6",
    "garbage_collection_threshold:0.8",
)
"""Settings worth trying, as PyTorch's variable writes them; what changes least comes first."""

CAPACITY_STEP_BYTES = 2 << 20
"""Capacities are told apart to this many bytes: what the driver hands out at least."""

COLLECTING_FRACTION = 0.99
"""The memory fraction that goes with a `garbage_collection_threshold`, which acts only under one:
`torch.cuda.set_per_process_memory_fraction(0.99)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """What one device's requests need under some settings.

    Attributes:
        settings: they, parsed.
        fraction: the memory fraction they ran under, None: none. `capacity_bytes` is the whole
            device's, of which the allocator uses this share.
        start: how the runs began, see `WhatIf`.
        capacity_bytes: the smallest capacity that suffices, to 2 MiB; one that was run.
        peak_reserved_bytes, peak_allocated_bytes, peak_active_bytes, peak_stuck_bytes: the highest
            values without a limit.
        retries: times that everything cached was released to go on, in that capacity.
        unverified: what the run in that capacity rests on that no recording has verified.
    """

    settings: AllocatorSettings
    fraction: float | None
    start: Start
    capacity_bytes: int
    peak_reserved_bytes: int
    peak_allocated_bytes: int
    peak_active_bytes: int
    peak_stuck_bytes: int
    retries: int
    unverified: tuple[str, ...]

    @property
    def text(self) -> str:
        """The settings as PyTorch's variable writes them; empty: the defaults."""
        return self.settings.text()

    @property
    def needed_beyond_active_bytes(self) -> int:
        """What the capacity exceeds the peak of active bytes by: the price of fragmentation."""
        return self.capacity_bytes - self.peak_active_bytes


def survival_table(
    twin: DeviceTwin,
    candidates: Iterable[str | AllocatorSettings] = CANDIDATES,
    *,
    start: Start | None = None,
    on_done: Callable[[Survival], object] | None = None,
) -> list[Survival]:
    """Return what each of `candidates` needs, least first; of equals, what was named first.

    Some twenty runs for each. All begin alike, else a difference would be the beginning's: with
    the blocks that were there allocated anew, unless `start` says otherwise.

    Args:
        on_done: is told of each as soon as it is known, in the order of `candidates`.

    Raises: InputError for a text that PyTorch refuses, before anything runs.
    """
    found = []
    for one in survivals(twin, candidates, start=start):
        found.append(one)
        if on_done is not None:
            on_done(one)
    return sorted(found, key=lambda one: one.capacity_bytes)


def survivals(
    twin: DeviceTwin,
    candidates: Iterable[str | AllocatorSettings] = CANDIDATES,
    *,
    start: Start | None = None,
) -> Iterator[Survival]:
    """Yield what each of `candidates` needs, in their order, so that a caller may stop between.

    Raises: InputError for a text that PyTorch refuses, before anything runs.
    """
    parsed = [
        each if isinstance(each, AllocatorSettings) else AllocatorSettings.parse(each)
        for each in candidates
    ]
    return (survival(twin, each, start=start or "rebuilt") for each in parsed)


def survival(
    twin: DeviceTwin,
    settings: AllocatorSettings,
    *,
    start: Start | None = None,
    fraction: float | None = None,
) -> Survival:
    """Return what the requests need under `settings`; some twenty runs.

    `fraction`: PyTorch's memory fraction; by default none, but 0.99 with garbage collection.
    """
    if fraction is None and settings.garbage_collection_threshold:
        fraction = COLLECTING_FRACTION
    free = twin.what_if(settings, start=start)
    _require_possible(twin)
    last = _smallest(twin, free, fraction)
    capacity = last.limits.capacity_bytes
    assert capacity is not None
    return Survival(
        settings=settings,
        fraction=fraction,
        start=free.start,
        capacity_bytes=capacity,
        peak_reserved_bytes=free.peak_reserved_bytes,
        peak_allocated_bytes=free.peak_allocated_bytes,
        peak_active_bytes=free.peak_active_bytes,
        peak_stuck_bytes=free.peak_stuck_bytes,
        retries=last.retries,
        unverified=last.unverified,
    )


def smallest_capacity(
    twin: DeviceTwin, settings: AllocatorSettings | None, *, start: Start | None = None
) -> int:
    """Return the smallest capacity in bytes, to 2 MiB, under which memory suffices.

    By bisection between the peak of active bytes and the peak of reserved ones without a limit.
    Survival is taken to be monotone in the capacity; the answer itself is one that survives.
    """
    free = twin.what_if(settings, start=start)
    _require_possible(twin)
    capacity = _smallest(twin, free, None).limits.capacity_bytes
    assert capacity is not None
    return capacity


def _require_possible(twin: DeviceTwin) -> None:
    """Refuse a recording with a failed request that no memory serves. Raises: InputError."""
    largest = int(twin.trace.nbytes[twin.trace.failures()].max(initial=0))
    if largest > MOST_ADDRESSES // 2:
        raise InputError(
            f"{format_bytes(largest)} were asked for at once, which no device holds",
            remedy="look for a shape or a length that is wrong where it was asked for",
        )


def _smallest(twin: DeviceTwin, free: WhatIf, fraction: float | None) -> WhatIf:
    """Return the run in the smallest capacity that suffices. `free`: the run without a limit."""
    share = fraction or 1.0

    def run(steps: int) -> WhatIf:
        limits = Limits.under(steps * CAPACITY_STEP_BYTES, fraction)
        return twin.what_if(free.settings, limits, start=free.start)

    low = int(free.peak_active_bytes / share) // CAPACITY_STEP_BYTES
    high = max(1, -(-int(free.peak_reserved_bytes / share + 1) // CAPACITY_STEP_BYTES))
    if fraction is None:
        high = max(1, -(-free.peak_reserved_bytes // CAPACITY_STEP_BYTES))
    best = run(high)
    if best.oom:
        # Collecting early led elsewhere. Where its threshold is never reached it leads nowhere.
        threshold = free.settings.garbage_collection_threshold or 1.0
        low, high = high + 1, int(high / threshold) + 1
        best = run(high)
    while low < high:
        middle = (low + high) // 2
        tried = run(middle) if middle else None
        if tried is None or tried.oom:
            low = middle + 1
        else:
            high, best = middle, tried
    return best
