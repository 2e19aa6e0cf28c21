"""Queue time, TTFT, TPOT and end-to-end on the simulated clock.

Owns: the percentiles over requests, and which of them a backlog does not have. Leaves to others:
the clock (the engine's step-time model), whose name and error stand beside these figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kvatlas.measure.figures import Figures
from kvatlas.workload.model import Workload

__all__ = ["PERCENTILES", "Times", "measure_latency"]

F64 = NDArray[np.float64]

PERCENTILES = (50, 99)

_BACKLOG = "requests wait in a backlog, not at times of their own: use --arrivals timed"


class Times(Protocol):
    """When things happened to each request: (N,) milliseconds, NaN where they did not."""

    @property
    def sums(self) -> Mapping[str, float]: ...
    @property
    def first_scheduled_ms(self) -> F64: ...
    @property
    def first_token_ms(self) -> F64: ...
    @property
    def finished_ms(self) -> F64: ...


def measure_latency(
    figures: Figures, times: Times, workload: Workload, timed: bool, max_model_len: int | None
) -> None:
    """Add the figures per request: mean, median and 99th percentile of those that got there.

    Queue time: arrival to first scheduled. TTFT: arrival to first token. E2E: arrival to last
    token. TPOT: first to last token, per token after the first. O(N log N).
    """
    arrival_ms = np.round(workload.arrival_s * 1e3, 6)
    nobody = "no request got that far"
    for name, until_ms in (
        ("queue.time", times.first_scheduled_ms),
        ("latency.ttft", times.first_token_ms),
        ("latency.e2e", times.finished_ms),
    ):
        if timed:
            _spread(figures, name, until_ms - arrival_ms, nobody)
        else:
            figures.lack(_BACKLOG, *_names(name))
    answers = workload.output_tokens.astype(np.int64)
    if max_model_len is not None:
        answers = np.minimum(answers, max_model_len - workload.prompt_tokens.astype(np.int64))
    longer = answers > 1
    decoding_ms = (times.finished_ms - times.first_token_ms)[longer]
    if times.sums["busy_ms"] > 0:
        _spread(figures, "latency.tpot", decoding_ms / (answers[longer] - 1), nobody)
    else:
        figures.lack("the simulated clock stood still", *_names("latency.tpot"))


def _names(name: str) -> tuple[str, ...]:
    return (f"{name}_mean_s", *(f"{name}_p{share}_s" for share in PERCENTILES))


def _spread(figures: Figures, name: str, spans_ms: F64, nobody: str) -> None:
    known = spans_ms[~np.isnan(spans_ms)]
    if known.size == 0:
        figures.lack(nobody, *_names(name))
        return
    values = (known.mean(), *np.percentile(known, PERCENTILES))
    for key, value in zip(_names(name), values, strict=True):
        figures.put(key, float(value) / 1e3)
