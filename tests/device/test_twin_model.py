"""The twin beside the naive allocator: every address, every sum, every retry, on random courses."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from courses import Course, random_course
from naive_allocator import write

from kvatlas.device import DeviceTwin, WhatIf, read_snapshot

COURSES = int(os.environ.get("KVATLAS_DEVICE_COURSES", "250"))
BATCH = 250


def twin_of(course: Course, path: Path, last: int | None = None) -> DeviceTwin:
    """Return the twin of what a naive allocator recorded."""
    return DeviceTwin(read_snapshot(write(course.naive.dump(last=last), path)))


def same_run(found: WhatIf, course: Course) -> None:
    """The free run ends as the naive one."""
    naive = course.naive
    assert found.oom is course.failed
    assert found.retries == naive.retries
    assert found.peak_reserved_bytes == course.peak_reserved
    assert found.reserved_bytes == naive.reserved
    assert found.allocated_bytes == naive.sizes("held")
    assert found.releasable_bytes == naive.releasable
    assert found.idle_bytes == naive.sizes("free") - naive.sizes("free", pool=0)


@pytest.mark.parametrize("first", range(0, COURSES, BATCH))
def test_random_courses(first: int, tmp_path: Path) -> None:
    """GIVEN a naive allocator's recording THEN the twin decides the same, from the same driver."""
    kinds = {"failed": 0, "retried": 0, "expandable": 0, "unseen tails": 0}
    for seed in range(first, min(first + BATCH, COURSES)):
        course, check = random_course(seed), seed % 4 == 0
        path = tmp_path / "snapshot.pickle"
        twin = twin_of(course, path)
        replayed = twin.replay_recorded(check=check)
        assert replayed.identical, (seed, replayed)
        if not course.ambiguous:
            found = twin.what_if(limits=course.limits, check=check)
            same_run(found, course)
        kinds["failed"] += course.failed
        kinds["retried"] += course.naive.retries > 0
        kinds["expandable"] += course.naive.settings.expandable_segments
        if seed % 2:  # the ring has lost the beginning
            last = 1 + int(len(course.naive.events) * np.random.default_rng(seed).random())
            late = twin_of(course, path, last).replay_recorded(check=check)
            # How long a block was may be nowhere to be seen; mostly it does not matter.
            assert late.identical or late.unseen_tails, (seed, last, late)
            kinds["unseen tails"] += late.unseen_tails > 0 and late.identical
    assert COURSES < BATCH or min(kinds.values()) > 0, kinds
