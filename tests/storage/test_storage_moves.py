"""Moves in place: every partial permutation of few blocks, and what is staged for cycles."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest

from kvatlas.storage import LAYOUTS, KVCacheMemoryPool
from kvatlas.storage.moves import IdBook, ordered_runs, runs


def cycles_of(sources: tuple[int, ...], targets: tuple[int, ...]) -> int:
    """Count the cycles of two and more blocks by following each."""
    follows = dict(zip(sources, targets, strict=True))
    found = set()
    for start in sources:
        seen, at = [start], follows[start]
        while at in follows and at != start:
            if at in seen:
                break
            seen.append(at)
            at = follows[at]
        if at == start and len(seen) > 1:
            found.add(frozenset(seen))
    return len(found)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_partial_permutation_of_four_blocks(layout: str) -> None:
    # GIVEN four numbered blocks WHEN they are moved in every way there is
    pool = KVCacheMemoryPool(4, num_layers=1, block_size=1, kv_heads=1, head_size=1, layout=layout)
    for count in range(5):
        for sources in combinations(range(4), count):
            for targets in permutations(range(4), count):
                pool.layers[0][:, :, 0, 0, 0] = np.arange(8).reshape(4, 2)
                wanted = pool.layers[0].copy()
                wanted[list(targets)] = wanted[list(sources)]
                before = pool.stats()
                pool.move(sources, targets)
                # THEN all was read before it was written, and one block per cycle was staged
                assert (pool.layers[0] == wanted).all(), (sources, targets)
                staged = pool.stats().staged_bytes - before.staged_bytes
                assert staged == cycles_of(sources, targets) * pool.bytes_per_block


def carried_out(found: list[tuple[int, int, int]], num_blocks: int) -> list[int]:
    """Carry out runs one by one on a list; return who lies where."""
    held, stage = list(range(num_blocks)), -1
    for source, target, length in found:
        if target == -1:
            stage = held[source]
        elif source == -1:
            held[target] = stage
        else:
            assert abs(source - target) >= length  # its two ends do not overlap
            held[target : target + length] = held[source : source + length]
    return held


def test_the_order_of_large_random_moves() -> None:
    # GIVEN moves of hundreds of blocks WHEN their runs are carried out one after the other
    rng = np.random.default_rng(5)
    book = IdBook(600)
    for _ in range(200):
        count = int(rng.integers(0, 600))
        sources = rng.permutation(600)[:count]
        targets = rng.permutation(sources if rng.random() < 0.3 else 600)[:count]
        moves = book.moves(sources, targets)
        todo = ordered_runs(moves)
        wanted = np.arange(600)
        wanted[targets] = sources
        # THEN the outcome is that of reading first, and levels are independent of each other
        steps = list(zip(*(row.tolist() for row in todo[:3]), strict=True))
        assert carried_out(steps, 600) == wanted.tolist()
        for each_sources, each_targets in moves.by_level():
            assert not set(each_sources.tolist()) & set(each_targets.tolist())
        assert book.check()


def test_a_shift_is_one_run_where_the_ends_are_apart() -> None:
    # GIVEN a gap of 100 below 60 blocks WHEN they close it THEN one run does
    book = IdBook(200)
    moves = book.moves(np.arange(140, 200), np.arange(40, 100))
    assert moves.independent
    assert [row.tolist() for row in ordered_runs(moves)] == [[140], [40], [60], [0]]


@pytest.mark.parametrize("most", [1, 3, 7, 100])
def test_runs_cover_every_copy_once(most: int) -> None:
    # GIVEN copies with stretches that follow on WHEN they are joined
    rng = np.random.default_rng(most)
    sources = np.cumsum(rng.choice((1, 1, 1, 5), 80))
    targets = np.cumsum(rng.choice((1, 1, 1, 4), 80))
    found = runs(sources, targets, most=most)
    # THEN each is there once, in order, and no run is too long
    pairs = [
        (source + step, target + step)
        for source, target, length, _ in zip(*(row.tolist() for row in found), strict=True)
        for step in range(length)
    ]
    assert pairs == list(zip(sources.tolist(), targets.tolist(), strict=True))
    assert found.lengths.max() <= most
