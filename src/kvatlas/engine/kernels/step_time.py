"""The simulated clock: how long a step takes.

Owns: the step-time models, chosen by an integer code inside the compiled loop. Leaves to others:
when the clock is read (`drive`). A new model is one code, one branch and its parameters.
"""

from __future__ import annotations

from typing import NamedTuple

from kvatlas.jit import inlined

LINEAR = 0


class StepTime(NamedTuple):
    """A step-time model and its parameters, milliseconds."""

    code: int
    base_ms: float
    ms_per_ktok: float


@inlined
def step_ms(model: StepTime, tokens: int) -> float:
    """Return the duration of a step that computes `tokens` tokens, in milliseconds.

    LINEAR: base + slope * tokens / 1000; every sequence costs the same whatever its context. The
    order of the operations is part of the contract: clocks are compared with arrival times.
    """
    return model.base_ms + model.ms_per_ktok * tokens / 1000.0
