"""The same requests tried under several settings, in memory of one size.

Owns: which settings are tried where none are named, limits that a text of settings holds. Leaves to
others: running (`twin`), the smallest memory (`survival`), tables.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kvatlas.device.build import Limits
from kvatlas.device.results import RecordedReplay, Start, WhatIf
from kvatlas.device.settings import AllocatorSettings
from kvatlas.device.survival import CANDIDATES, COLLECTING_FRACTION, Survival, survival
from kvatlas.device.twin import DeviceTwin
from kvatlas.errors import InputError

__all__ = ["Asked", "Trial", "asked_settings", "memory_at_failure", "trials"]

_FRACTION = "per_process_memory_fraction"
_PAIR = re.compile(rf"(^|,)\s*{_FRACTION}\s*:\s*([^,\[\]]*?)\s*(?=,|$)")


@dataclass(frozen=True, slots=True)
class Asked:
    """Settings to try, and PyTorch's memory fraction with them, None for none."""

    settings: AllocatorSettings
    fraction: float | None = None

    def __post_init__(self) -> None:
        share = self.fraction
        if share is not None and not (math.isfinite(share) and 0.0 < share <= 1.0):
            raise InputError("not a share above 0, up to 1", field=_FRACTION, value=share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How one of several settings fared.

    Attributes:
        asked: the settings.
        run: in the memory that there is.
        survival: in how little memory they pass.
    """

    asked: Asked
    run: WhatIf
    survival: Survival


def asked_settings(
    texts: Sequence[str], recorded: AllocatorSettings, fraction: float | None = None
) -> list[Asked]:
    """Return what to try: each of `texts`, or else the recorded settings and `CANDIDATES`.

    A text may hold `per_process_memory_fraction`, as PyTorch's variable may; `fraction` is for
    those that do not. Garbage collection acts only under a fraction, and gets 0.99 where none is
    named. Raises: InputError.
    """
    named = [_asked(text, fraction) for text in texts]
    if not named:
        tried = dict.fromkeys([recorded, *(AllocatorSettings.parse(each) for each in CANDIDATES)])
        named = [_with_fraction(each, fraction) for each in tried]
    return list(dict.fromkeys(named))


def trials(
    twin: DeviceTwin,
    asked: Iterable[Asked],
    *,
    memory_bytes: int | None = None,
    start: Start | None = None,
) -> Iterator[Trial]:
    """Yield how each fares, one after the other, so that a caller may stop between them.

    Some twenty runs for each. All begin alike: with the blocks that were there allocated anew,
    unless `start` says otherwise.

    Args:
        memory_bytes: what the driver can give; None: no limit.
    """
    start = start or "rebuilt"
    for each in asked:
        limits = Limits.under(memory_bytes, each.fraction)
        yield Trial(
            asked=each,
            run=twin.what_if(each.settings, limits, start=start),
            survival=survival(twin, each.settings, start=start, fraction=each.fraction),
        )


def memory_at_failure(twin: DeviceTwin, recorded: RecordedReplay) -> int | None:
    """Return what this process had where the recording ran out of memory first, None if never.

    Bytes that it held then, and those that the device had left; not what other processes held.
    """
    failures = twin.trace.failures()
    if not failures.size:
        return None
    first = int(failures[0])
    return int(recorded.timeline.reserved_bytes[first] + twin.trace.address[first])


def _asked(text: str, fraction: float | None) -> Asked:
    found = _PAIR.search(text)
    if found is not None:
        text = (text[: found.start()] + text[found.end() :]).lstrip(",")
        if _PAIR.search(text):
            raise InputError("named twice", field=_FRACTION)
        try:
            fraction = float(found[2])
        except ValueError:
            raise InputError("not a number", field=_FRACTION, value=found[2]) from None
    return _with_fraction(AllocatorSettings.parse(text), fraction)


def _with_fraction(settings: AllocatorSettings, fraction: float | None) -> Asked:
    if fraction is None and settings.garbage_collection_threshold:
        fraction = COLLECTING_FRACTION
    return Asked(settings, fraction)
