"""What a workload is like, before any replay: lengths, sharing, sessions, arrivals.

Owns: `describe` and the frozen results. It computes and never prints; `report` renders. A figure
that the workload cannot give is `None`, never 0 (see `docs` on metrics); the reason is in `notes`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.workload.model import Workload
from kvatlas.workload.readers.columns import LENGTH_ONLY_NOTE
from kvatlas.workload.sharing import Sharing, describe_sharing

__all__ = ["Arrivals", "Description", "Distribution", "Sessions", "describe"]

_DISPERSION_WINDOWS_S = (1, 10, 60)
_FEWEST_WINDOWS = 10


@dataclass(frozen=True, slots=True)
class Distribution:
    """A column of numbers in six figures; the unit is the column's."""

    total: int | float
    mean: float
    p50: float
    p90: float
    p99: float
    max: int | float


@dataclass(frozen=True, slots=True)
class Sessions:
    """Conversations: rows of one session number, linked by `parent` to the turn before.

    `gap_s` is the time from a turn's arrival to the next one's (the answer's time is in it);
    None where no row names its previous turn.
    """

    count: int
    requests: int
    turns: Distribution
    gap_s: Distribution | None


@dataclass(frozen=True, slots=True)
class Arrivals:
    """How bursty the arrivals are; a Poisson process has CV 1 and every dispersion 1.

    `gap_cv`: standard deviation over mean of the gaps between arrivals. `peak_to_mean_per_minute`:
    the busiest whole minute over the mean of the whole minutes. `dispersion`: variance over mean of
    the counts in windows of 1, 10 and 60 seconds (the Fano factor), None below 10 windows.
    """

    requests_per_s: float | None
    gap_cv: float | None
    peak_to_mean_per_minute: float | None
    dispersion: dict[int, float | None]


@dataclass(frozen=True, slots=True)
class Description:
    """Everything `describe` found; `to_dict` is the documented JSON form."""

    name: str
    source: str
    requests: int
    span_s: float
    prompt_tokens: Distribution
    output_tokens: Distribution
    total_tokens: int
    sharing: Sharing | None
    sessions: Sessions | None
    arrivals: Arrivals
    priorities: dict[int, int]
    salts: dict[int, int]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types: nested dicts by field name, counts keyed by text."""
        return _jsonable(dataclasses.asdict(self))  # type: ignore[no-any-return]


def describe(workload: Workload, *, block_size: int = 16) -> Description:
    """Measure a workload under blocks of `block_size` tokens. O(N log N + M).

    The block size matters for the sharing alone: it must divide `tokens_per_id` or be a multiple of
    it, since only there the identities say whether two blocks are equal. Prefix sharing is None for
    a length-only trace, sessions are None where none are known.

    Raises: InputError for an empty workload or a block size that does not fit.
    """
    if workload.num_requests == 0:
        raise InputError("the workload has no requests", value=workload.source)
    return Description(
        name=workload.name,
        source=workload.source,
        requests=workload.num_requests,
        span_s=float(workload.arrival_s[-1] - workload.arrival_s[0]),
        prompt_tokens=_distribution(workload.prompt_tokens),
        output_tokens=_distribution(workload.output_tokens),
        total_tokens=workload.total_prompt_tokens + int(workload.output_tokens.sum(dtype=np.int64)),
        sharing=describe_sharing(workload, block_size) if workload.prefix_known else None,
        sessions=_sessions(workload),
        arrivals=_arrivals(workload.arrival_s),
        priorities=_counts(workload.priority),
        salts=_counts(workload.salt),
        notes=workload.notes + _missing(workload),
    )


def _distribution(values: NDArray[Any]) -> Distribution:
    p50, p90, p99 = np.percentile(values, (50, 90, 99))
    return Distribution(
        total=values.sum(dtype=np.result_type(values, np.int64)).item(),
        mean=float(values.mean(dtype=np.float64)),
        p50=float(p50),
        p90=float(p90),
        p99=float(p99),
        max=values.max().item(),
    )


def _sessions(workload: Workload) -> Sessions | None:
    known = workload.session[workload.session >= 0]
    if known.size == 0:
        return None
    turns = np.bincount(known)
    child = np.flatnonzero(workload.parent >= 0)
    gap_s = workload.arrival_s[child] - workload.arrival_s[workload.parent[child]]
    return Sessions(
        count=int(turns.size),
        requests=int(known.size),
        turns=_distribution(turns),
        gap_s=_distribution(gap_s) if child.size else None,
    )


def _arrivals(arrival_s: NDArray[np.float64]) -> Arrivals:
    gaps_s = np.diff(arrival_s)
    mean_gap_s = float(gaps_s.mean()) if gaps_s.size else 0.0
    per_minute = _window_counts(arrival_s, 60)
    return Arrivals(
        requests_per_s=1 / mean_gap_s if mean_gap_s > 0 else None,
        gap_cv=float(gaps_s.std()) / mean_gap_s if mean_gap_s > 0 else None,
        peak_to_mean_per_minute=(
            float(per_minute.max() / per_minute.mean()) if per_minute.size >= 2 else None
        ),
        dispersion={
            window_s: _dispersion(arrival_s, window_s) for window_s in _DISPERSION_WINDOWS_S
        },
    )


def _window_counts(arrival_s: NDArray[np.float64], window_s: int) -> NDArray[np.int64]:
    """Return the arrivals in each whole window from the first arrival on; the rest is left out."""
    since_s = arrival_s - arrival_s[0]
    windows = int(since_s[-1] // window_s)
    inside = since_s[: np.searchsorted(since_s, windows * window_s, side="left")]
    return np.bincount((inside // window_s).astype(np.int64), minlength=windows)[:windows]


def _dispersion(arrival_s: NDArray[np.float64], window_s: int) -> float | None:
    counts = _window_counts(arrival_s, window_s)
    if counts.size < _FEWEST_WINDOWS:
        return None
    return float(counts.var() / counts.mean())


def _counts(values: NDArray[np.int32]) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return {int(value): int(count) for value, count in zip(found, counts, strict=True)}


def _missing(workload: Workload) -> tuple[str, ...]:
    missing = []
    if not workload.prefix_known and LENGTH_ONLY_NOTE not in workload.notes:
        missing.append("sharing is unknown: the trace has lengths only")
    if not (workload.session >= 0).any():
        missing.append("sessions are unknown: no request names one")
    return tuple(missing)


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return value
