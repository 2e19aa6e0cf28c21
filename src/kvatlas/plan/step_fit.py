"""How long a step takes, learnt from recorded ones, and how wrong that is.

Owns: the fit of the linear step-time model and its error. Leaves to others: what the clock is for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["StepFit", "cycles_ms", "fit_steps"]

F64 = NDArray[np.float64]

_IDLE = 3.0  # times the step itself: what is longer than that was a pause
_ROUNDS = 20
_OUTLIER = 4.685  # Tukey's biweight: 95% as good as least squares where nothing is an outlier
_MAD_TO_SIGMA = 1.4826
_LEAST_STEPS = 8


@dataclass(frozen=True, slots=True)
class StepFit:
    """base_ms + per_ktok_ms * scheduled tokens / 1000, and how far off it is.

    Attributes:
        base_ms, per_ktok_ms: fitted to all steps.
        steps: how many there were.
        tested_steps: the later half, which the errors are of: predicted by a fit to the other.
        r2: share of their variance that is explained; None when all take the same time.
        median_error, p95_error: of the relative error of a step's time, 0 = none.
        total_error: of their total time, signed.
    """

    base_ms: float
    per_ktok_ms: float
    steps: int
    tested_steps: int
    r2: float | None
    median_error: float
    p95_error: float
    total_error: float

    def said(self) -> dict[str, float | int | None]:
        """Return it as the JSON says it."""
        return asdict(self)


def cycles_ms(began_ms: F64, span_ms: F64) -> F64:
    """Return (S,) how long the engine was busy with each step before the next one could begin.

    That is the time to the next step's beginning: it holds what happens between two steps, and
    counts steps that overlap (asynchronous scheduling) once. Where nobody was there to be served
    the next step is far away; then it is the step itself.
    """
    if not span_ms.size:
        return span_ms
    gaps = np.append(np.diff(began_ms), span_ms[-1])
    return np.where((gaps > 0) & (gaps <= _IDLE * span_ms), gaps, span_ms)


def fit_steps(took_ms: F64, tokens: F64) -> StepFit | None:
    """Fit the model to (S,) steps of so many scheduled tokens; None for too few. O(S).

    Robust: a step in which the machine did something else does not count. Steps without tokens are
    left out. Source: Holland and Welsch, Robust regression using iteratively reweighted
    least-squares, 1977.
    """
    ran = (tokens > 0) & (took_ms > 0) & np.isfinite(took_ms)
    took_ms, tokens = took_ms[ran], tokens[ran]
    if took_ms.size < _LEAST_STEPS:
        return None
    half = took_ms.size // 2
    base, slope = _line(tokens[:half], took_ms[:half])
    tested, real = base + slope * tokens[half:], took_ms[half:]
    off = np.abs(tested - real) / real
    around = float(((real - real.mean()) ** 2).sum())
    base, slope = _line(tokens, took_ms)
    return StepFit(
        base_ms=base,
        per_ktok_ms=1e3 * slope,
        steps=int(took_ms.size),
        tested_steps=int(real.size),
        r2=1.0 - float(((real - tested) ** 2).sum()) / around if around > 0 else None,
        median_error=float(np.median(off)),
        p95_error=float(np.percentile(off, 95)),
        total_error=float(tested.sum() / real.sum() - 1.0),
    )


def _line(x: F64, y: F64) -> tuple[float, float]:
    """Return intercept and slope, neither negative, of a robust line through (x, y).

    Scaled so that all steps together take as long as they did: who waits how long depends on that,
    and a robust line alone is blind to the tail.
    """
    weight = np.ones_like(y)
    base, slope = 0.0, 0.0
    for _ in range(_ROUNDS):
        before = base, slope
        base, slope = _weighted(x, y, weight)
        off = np.abs(y - base - slope * x)
        scale = _MAD_TO_SIGMA * float(np.median(off))
        if scale <= 1e-12:
            break
        weight = np.clip(1.0 - (off / (_OUTLIER * scale)) ** 2, 0.0, None) ** 2
        if np.allclose(before, (base, slope), rtol=1e-9, atol=1e-12):
            break
    fitted = float((base + slope * x).sum())
    scale = float(y.sum()) / fitted if fitted > 0 else 1.0
    return scale * base, scale * slope


def _weighted(x: F64, y: F64, weight: F64) -> tuple[float, float]:
    total = float(weight.sum())
    mean_x, mean_y = float((weight * x).sum()) / total, float((weight * y).sum()) / total
    spread = float((weight * (x - mean_x) ** 2).sum())
    slope = float((weight * (x - mean_x) * (y - mean_y)).sum()) / spread if spread > 0 else 0.0
    if slope < 0:
        return mean_y, 0.0
    base = mean_y - slope * mean_x
    if base < 0:
        # Through the origin: a step takes no less than no time.
        square = float((weight * x * x).sum())
        return 0.0, float((weight * x * y).sum()) / square
    return base, slope
