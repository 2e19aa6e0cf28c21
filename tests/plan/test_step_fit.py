"""The step-time model: it finds the line, is not moved by stalls, and says how wrong it is."""

from __future__ import annotations

import numpy as np
import pytest

from kvatlas.plan.step_fit import cycles_ms, fit_steps

RNG = np.random.default_rng(5)


def test_a_line_is_found() -> None:
    """GIVEN steps of 3 ms and 20 ms per 1,000 tokens WHEN fitted THEN that is the model."""
    tokens = RNG.integers(1, 4000, 400).astype(float)
    fit = fit_steps(3.0 + 0.02 * tokens, tokens)
    assert fit is not None
    assert fit.base_ms == pytest.approx(3.0, rel=1e-6)
    assert fit.per_ktok_ms == pytest.approx(20.0, rel=1e-6)
    assert fit.r2 == pytest.approx(1.0)
    assert fit.p95_error < 1e-9
    assert (fit.steps, fit.tested_steps) == (400, 200)


def test_stalls_do_not_turn_the_line() -> None:
    """GIVEN a few steps a hundred times as long WHEN fitted THEN base and slope keep their ratio.

    And all steps together take what they took, stalls included.
    """
    tokens = RNG.integers(1, 4000, 1000).astype(float)
    took = (3.0 + 0.02 * tokens) * RNG.normal(1.0, 0.02, 1000)
    took[::97] *= 100
    fit = fit_steps(took, tokens)
    assert fit is not None
    assert fit.per_ktok_ms / fit.base_ms == pytest.approx(20 / 3, rel=0.05)
    total = (fit.base_ms + fit.per_ktok_ms * tokens / 1e3).sum()
    assert total == pytest.approx(took.sum())


def test_the_error_is_of_steps_not_fitted() -> None:
    """GIVEN steps that become twice as long midway WHEN fitted THEN the error tells half."""
    tokens = RNG.integers(1, 4000, 600).astype(float)
    took = 3.0 + 0.02 * tokens
    took[300:] *= 2
    fit = fit_steps(took, tokens)
    assert fit is not None
    assert fit.median_error == pytest.approx(0.5, abs=0.01)
    assert fit.total_error == pytest.approx(-0.5, abs=0.01)


def test_neither_part_is_negative() -> None:
    """GIVEN steps that get shorter with more tokens, or start below zero WHEN fitted THEN >= 0."""
    tokens = np.linspace(1, 1000, 100)
    falling = fit_steps(10.0 - 0.005 * tokens, tokens)
    assert falling is not None
    assert falling.per_ktok_ms == 0.0
    below = fit_steps(np.maximum(0.02 * tokens - 1.0, 0.001), tokens)
    assert below is not None
    assert below.base_ms == 0.0
    assert below.per_ktok_ms > 0


def test_too_few_steps_make_no_model() -> None:
    """GIVEN seven steps with tokens WHEN fitted THEN there is no model."""
    assert fit_steps(np.ones(20), np.r_[np.zeros(13), np.ones(7)]) is None


def test_equal_steps_have_no_variance() -> None:
    """GIVEN equal steps WHEN fitted THEN R2 is not known and nothing is off."""
    fit = fit_steps(np.full(50, 4.0), np.full(50, 8.0))
    assert fit is not None
    assert fit.r2 is None
    assert fit.base_ms + 0.008 * fit.per_ktok_ms == pytest.approx(4.0)


def test_a_cycle_holds_the_pause_between_steps_but_not_idling() -> None:
    """GIVEN a short pause, an overlap and a long pause WHEN measured THEN only the last is out."""
    began = np.array([0.0, 12.0, 16.0, 500.0])
    span = np.array([10.0, 8.0, 10.0, 10.0])
    assert cycles_ms(began, span).tolist() == [12.0, 4.0, 10.0, 10.0]
    assert cycles_ms(np.empty(0), np.empty(0)).size == 0
