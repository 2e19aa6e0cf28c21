"""The allocators alone: against the naive searches, a million calls, and what they refuse."""

from __future__ import annotations

import random

import numpy as np
import pytest
from tests.placement.naive_placed_pool import SEARCHES, choose_pieces, runs_of

from kvatlas.errors import InputError, InvariantError
from kvatlas.jit import COMPILED
from kvatlas.placement import BestFitAllocator, BuddyAllocator, FirstFitAllocator

ALLOCATORS = (FirstFitAllocator, BestFitAllocator, BuddyAllocator)
Allocator = FirstFitAllocator | BestFitAllocator | BuddyAllocator
BY_NAME = {kind.policy: kind for kind in ALLOCATORS}


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("num_ids", [1, 2, 7, 63, 64, 65, 200])
def test_every_choice_is_the_naive_one(name: str, num_ids: int) -> None:
    """GIVEN any pool size WHEN ids come and go THEN each choice is what a linear search finds."""
    rng = random.Random(num_ids)
    allocator = BY_NAME[name](num_ids)
    taken: list[list[int]] = []
    for _ in range(200 if COMPILED else 40):
        members = np.flatnonzero(allocator.free_ids()).tolist()
        assert allocator.num_free == len(members)
        assert [list(range(a, a + n)) for a, n in allocator.free_runs()] == runs_of(members)
        what = rng.random()
        count = rng.randint(1, max(1, rng.choice([3, num_ids // 4, num_ids])))
        if what < 0.4:
            ids = allocator.allocate(count)
            expected = choose_pieces(SEARCHES[name], members, min(count, len(members)))
            assert ids == (expected if count <= len(members) else None)
            if ids:
                taken.append(ids)
        elif what < 0.55:
            first = allocator.allocate_run(count)
            piece = SEARCHES[name](members, count) if members else []
            assert first == (piece[0] if len(piece) == count else None)
            if first is not None:
                taken.append(list(range(first, first + count)))
        elif taken:
            ids = taken.pop(rng.randrange(len(taken)))
            if rng.random() < 0.5:
                rng.shuffle(ids)
            if rng.random() < 0.3 and len(ids) > 1:
                half = len(ids) // 2
                taken.append(ids[half:])
                ids = ids[:half]
            allocator.free(ids)
        allocator.check()
    for ids in taken:
        allocator.free(ids)
    allocator.check()
    # All is merged again: the whole pool is one run, or the largest piece of it.
    whole = num_ids if name != "buddy" else 1 << (num_ids.bit_length() - 1)
    assert allocator.allocate_run(whole) == 0


@pytest.mark.parametrize("kind", ALLOCATORS)
def test_what_is_refused(kind: type[Allocator]) -> None:
    """GIVEN an allocator WHEN asked for too much or given what is free THEN it says so."""
    allocator = kind(10)
    assert allocator.allocate(11) is None
    assert allocator.allocate_run(11) is None
    assert allocator.allocate(0) == []
    assert allocator.allocate(10) == list(range(10))
    assert allocator.allocate(1) is None and allocator.allocate_run(1) is None
    allocator.free([3, 4])
    for bad in ([3], [5, 5], [10], [-1]):
        with pytest.raises(InputError, match="nobody has"):
            allocator.free(bad)
    for bad_count in (-1, 0):
        with pytest.raises(InputError):
            allocator.allocate_run(bad_count)
    with pytest.raises(InputError):
        allocator.allocate(-1)
    for size in (0, 2**27):
        with pytest.raises(InputError):
            kind(size)
    for odd in (2.5, float("nan"), True, "8"):
        for call in (kind, allocator.allocate, allocator.allocate_run):
            with pytest.raises(InputError, match="must be a whole number"):
                call(odd)  # type: ignore[arg-type]
    allocator.check()
    assert allocator.free_runs() == [(3, 2)]


def test_a_wrong_book_is_found() -> None:
    """GIVEN an allocator WHEN its flags and its state differ THEN `check` says so."""
    for kind in ALLOCATORS:
        allocator = kind(100)
        first = allocator.allocate_run(30)
        allocator.check()
        allocator._free[first] = True
        with pytest.raises(InvariantError):
            allocator.check()
