"""The course so far, and the last minute, from samples of running sums.

Owns: means and shares per interval, differences over a window. Leaves to others: taking the samples
(`_tally_kernel`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvatlas.watch.moment import History

__all__ = ["Window", "history_of", "window_of"]

F64 = NDArray[np.float64]
Samples = NDArray[np.void]

_FAILURES = ("failed_admission", "failed_prefill", "failed_decode")
_EVICTIONS = ("evicted_prefill", "evicted_decode", "evicted_explicit", "evicted_replaced")


class Window:
    """What grew between two moments: `window["tokens"]`.

    Attributes:
        span_s: how long it is; shorter than asked for when the recording is.
    """

    def __init__(self, samples: Samples, start_ms: float, end_ms: float) -> None:
        self._samples = samples
        self._bounds = np.array([start_ms, end_ms])
        self.span_s = max(0.0, end_ms - start_ms) / 1e3

    def __getitem__(self, name: str) -> float:
        values = self._samples[name].astype(np.float64)
        first, last = np.interp(self._bounds, self._samples["time_ms"], values)
        return float(last - first)

    def total(self, *names: str) -> float:
        """Return the sum of what several grew by."""
        return sum(self[name] for name in names)

    @property
    def evictions(self) -> float:
        """Cached blocks evicted, for whatever cause."""
        return self.total(*_EVICTIONS)

    @property
    def failures(self) -> float:
        """Refused attempts to allocate."""
        return self.total(*_FAILURES)

    def per_s(self, grown: float) -> float | None:
        """Return a rate; None when no time passed."""
        return grown / self.span_s if self.span_s > 0 else None

    def ratio(self, part: str, whole: str) -> float | None:
        """Return how much of what `whole` grew by `part` did; None when it did not grow."""
        grown = self[whole]
        return self[part] / grown if grown > 0 else None


def window_of(samples: Samples, now_ms: float, span_s: float) -> Window:
    """Return the last `span_s` before `now_ms`, or as much of it as was recorded. O(K).

    Args:
        samples: (K,) at least one, `LiveTally.samples`.
        now_ms: the clock may be past the last sample: nothing happened since.
    """
    start_ms = max(float(samples["time_ms"][0]), now_ms - 1e3 * span_s)
    return Window(samples, start_ms, now_ms)


def history_of(samples: Samples, total_blocks: int) -> History:
    """Return the course of (K,) samples as K - 1 intervals; O(K)."""
    time_ms = samples["time_ms"]
    last = np.append(time_ms[1:] > time_ms[:-1], True)  # of several at one moment, the newest
    samples = samples[last]
    time_s = samples["time_ms"] / 1e3
    span_s = np.diff(time_s)
    grown = {name: np.diff(samples[name].astype(np.float64)) for name in samples.dtype.names or ()}
    block_ms = 1e3 * span_s * total_blocks
    return History(
        start_s=time_s[:-1].tolist(),
        end_s=time_s[1:].tolist(),
        usage=_over(grown["used_ms"], block_ms),
        evictable=_over(grown["evictable_ms"], block_ms),
        waste=_over(grown["wasted_ms"], grown["held_ms"]),
        hit_rate=_over(grown["hits"], grown["queries"]),
        running=_over(grown["running_ms"], 1e3 * span_s),
        waiting=_over(grown["waiting_ms"], 1e3 * span_s),
        tokens_per_s=_over(grown["tokens"], span_s),
        preemptions=grown["preemptions"].tolist(),
        evictions=sum(grown[name] for name in _EVICTIONS).tolist(),  # type: ignore[union-attr]
        failures=sum(grown[name] for name in _FAILURES).tolist(),  # type: ignore[union-attr]
    )


def _over(parts: F64, wholes: F64) -> list[float | None]:
    return [
        round(part / whole, 9) if whole > 0 else None
        for part, whole in zip(parts.tolist(), wholes.tolist(), strict=True)
    ]
