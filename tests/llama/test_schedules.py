"""Tokens equal Hugging Face's greedy ones over random schedules, whatever is done to the blocks."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from random import Random

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed here")
pytest.importorskip("transformers", reason="the comparison needs transformers")

from hf_reference import SHAPES, reference
from operations import EVERY
from schedules import Schedule, draw_config

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

PER_TEST, TESTS = 10, 20
HAPPENED = (
    "finished",
    "aborted",
    "preemptions",
    "hits",
    "restored",
    "spoiled",
    "evacuated",
    "moved for Shuffle",
    "moved for ContiguousTables",
    "moved for Compact",
    "moved for FreeRun",
    "moved for ReleasePages",
)


@dataclass
class Course:
    """What happened in some schedules, how far the logits were apart, and the closest call."""

    counts: Counter[str] = field(default_factory=Counter)
    widest_error: float = 0.0
    narrowest_margin: float = math.inf

    def add(self, other: Course | Schedule) -> None:
        """Take in what happened elsewhere."""
        self.counts += other.counts
        self.widest_error = max(self.widest_error, other.widest_error)
        self.narrowest_margin = min(self.narrowest_margin, other.narrowest_margin)


@cache
def course(test: int) -> Course:
    """Run the schedules of one test."""
    model, course = reference(sorted(SHAPES)[test % len(SHAPES)]), Course()
    for number in range(PER_TEST):
        rng = Random(1000 * test + number)
        schedule = Schedule(model, draw_config(rng), rng, EVERY)
        schedule.run(requests=rng.randrange(4, 16))
        course.add(schedule)
    return course


@pytest.mark.parametrize("test", range(TESTS))
def test_tokens_are_right_whatever_happens(test: int) -> None:
    # GIVEN random settings, requests and operations WHEN everything is interleaved at random
    # THEN every token is right as soon as it is sampled (`Schedule`), and nobody is lost
    assert course(test).counts["finished"] > 0


def test_equality_is_no_luck(capsys: pytest.CaptureFixture[str]) -> None:
    # GIVEN all schedules WHEN they have run
    total = Course()
    for test in range(TESTS):
        total.add(course(test))
    # THEN everything that could happen did
    assert {name: total.counts[name] for name in HAPPENED if total.counts[name] < 50} == {}
    # and the closest choice between two tokens was far from what rounding can turn
    assert total.widest_error < total.narrowest_margin / 4
    with capsys.disabled():
        print(f"\n{TESTS * PER_TEST} schedules: {dict(sorted(total.counts.items()))}")  # noqa: T201
        print(  # noqa: T201
            f"logits at most {total.widest_error:.1e} from Hugging Face's; "
            f"closest two tokens {total.narrowest_margin:.1e} apart"
        )
