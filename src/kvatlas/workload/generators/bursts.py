"""`bursts`: requests that arrive in bursts, with one knob for how bursty.

Two shapes with the same mean rate `requests_per_s`:
* `gamma`: a renewal process with Gamma gaps of coefficient of variation `cv` (1: Poisson,
  above: clusters, below: more regular than Poisson).
* `on-off`: a Poisson process that is switched on for `on_s` and off for `off_s` (exponential, mean)
  in turn. Its gaps have the squared CV 1 + 2 * rate_on * a / (a + b)**2 with a = 1 / on_s,
  b = 1 / off_s and rate_on = requests_per_s * (on_s + off_s) / on_s (Kuczura 1973: an interrupted
  Poisson process is a hyperexponential renewal process): a CV of 16 with the defaults.

Every prompt is one of `num_templates` shared beginnings (Zipf) and a text of its own; lengths are
lognormal with the stated means. Checked in tests/workload/test_generators.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.workload.generators.draft import Draft, lognormal_tokens, zipf_choice
from kvatlas.workload.generators.knobs import knob

__all__ = ["BurstsKnobs", "bursts"]

_LONGEST_TOKENS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstsKnobs:
    """Knobs of `bursts`."""

    num_requests: int = knob(2000, "requests", "how many", at_least=1, at_most=50_000_000)
    requests_per_s: float = knob(8.0, "1/s", "mean rate", above=0)
    shape: str = knob("gamma", "", "of the bursts: gamma or on-off", choices=("gamma", "on-off"))
    cv: float = knob(3.0, "", "coefficient of variation of the gaps (gamma)", at_least=0.01)
    on_s: float = knob(5.0, "s", "mean length of a burst (on-off)", above=0)
    off_s: float = knob(20.0, "s", "mean pause between bursts (on-off)", at_least=0)
    num_templates: int = knob(20, "templates", "shared beginnings", at_least=1, at_most=10_000_000)
    template_exponent: float = knob(1.0, "", "Zipf exponent of the templates", at_least=0)
    template_tokens: float = knob(300.0, "tokens", "mean shared beginning", at_least=1)
    prompt_tokens: float = knob(700.0, "tokens", "mean text of a request's own", at_least=1)
    output_tokens: float = knob(200.0, "tokens", "mean length of an answer", at_least=1)
    sigma: float = knob(1.0, "", "spread of the lengths (of their logarithm)", at_least=0)


def bursts(knobs: BurstsKnobs, rng: np.random.Generator) -> Draft:
    """Draw the requests: O(N), some 1.5 s for a million with their 68 million ids."""
    rows, templates = knobs.num_requests, knobs.num_templates
    arrival_s = _gamma(knobs, rng) if knobs.shape == "gamma" else _on_off(knobs, rng)
    template_tokens = lognormal_tokens(rng, knobs.template_tokens, 0.5, templates, _LONGEST_TOKENS)
    template = zipf_choice(rng, templates, knobs.template_exponent, rows)
    own_tokens = lognormal_tokens(rng, knobs.prompt_tokens, knobs.sigma, rows, _LONGEST_TOKENS)
    return Draft(
        num_requests=rows,
        arrival_s=arrival_s,
        output_tokens=lognormal_tokens(
            rng, knobs.output_tokens, knobs.sigma, rows, _LONGEST_TOKENS
        ),
        leaf=templates + np.arange(rows),
        segment_parent=np.append(np.full(templates, -1), template),
        segment_tokens=np.append(template_tokens, own_tokens),
        note=f"synthetic bursts: {knobs.shape} arrivals",
    )


def _gamma(knobs: BurstsKnobs, rng: np.random.Generator) -> NDArray[np.float64]:
    shape = knobs.cv**-2
    return np.cumsum(rng.gamma(shape, 1 / (shape * knobs.requests_per_s), knobs.num_requests))


def _on_off(knobs: BurstsKnobs, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the arrivals on the clock of the on periods alone, then put the pauses back in."""
    on_rate = knobs.requests_per_s * (knobs.on_s + knobs.off_s) / knobs.on_s
    on_clock_s = np.cumsum(rng.exponential(1 / on_rate, knobs.num_requests))
    # Ends of on periods form a Poisson process on that clock; each brings one pause.
    pauses = int(rng.poisson(on_clock_s[-1] / knobs.on_s))
    pause_at_s = np.sort(rng.uniform(0, on_clock_s[-1], pauses))
    paused_s = np.append(0.0, np.cumsum(rng.exponential(knobs.off_s, pauses)))
    return np.asarray(on_clock_s + paused_s[np.searchsorted(pause_at_s, on_clock_s)])
