"""Tokens equal Hugging Face's greedy ones over random schedules, whatever is done to the blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed here")
pytest.importorskip("transformers", reason="the comparison needs transformers")

from hf_reference import SHAPES, reference
from operations import EVERY
from schedules import Schedule, draw_config

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

SCHEDULES_PER_TEST, TESTS = 10, 30


@pytest.mark.parametrize("test", range(TESTS))
def test_tokens_are_right_whatever_happens(
    test: int, record_property: Callable[[str, object], None]
) -> None:
    # GIVEN random settings, requests and operations WHEN everything is interleaved at random
    model = reference(sorted(SHAPES)[test % len(SHAPES)])
    counts: Counter[str] = Counter()
    errors, margins = [], []
    for number in range(SCHEDULES_PER_TEST):
        rng = Random(1000 * test + number)
        schedule = Schedule(model, draw_config(rng), rng, EVERY)
        # THEN every token is right as soon as it is sampled (`Schedule`), and nobody is lost
        schedule.run(requests=rng.randrange(4, 16))
        counts += schedule.counts
        errors.append(schedule.widest_error)
        margins.append(schedule.narrowest_margin)
    # and what should have happened did
    assert counts["preemptions"] > SCHEDULES_PER_TEST / 2
    assert counts["aborted"] > 0
    assert max(errors) < min(margins) / 4
    for name, value in {
        **counts,
        "widest_error": max(errors),
        "narrowest_margin": min(margins),
    }.items():
        record_property(name, value)
