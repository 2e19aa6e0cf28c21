"""Plans against trying everything: the outcome is there, and no plan copies less."""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import fewest_for_end, fewest_for_pages, fewest_for_run, fewest_for_table
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles_defrag import EXAMPLES

from kvatlas.defrag.compacting import plan_compaction, plan_sorted_compaction
from kvatlas.defrag.free_runs import plan_free_run
from kvatlas.defrag.moves import Blocks, Moves, complete
from kvatlas.defrag.pages import free_pages, plan_pages
from kvatlas.defrag.tables import plan_table, plan_tables
from kvatlas.errors import InputError, InvariantError

EMPTY, CACHED, USED = range(3)


@st.composite
def pools(draw: st.DrawFn, most: int = 9, pins: bool = True) -> Blocks:
    """Draw a small pool; block 0 is the null block."""
    states = np.array([USED, *draw(st.lists(st.integers(0, 2), min_size=2, max_size=most - 1))])
    pinned = np.zeros(states.size, bool)
    pinned[0] = True
    if pins:
        for block in draw(st.lists(st.integers(0, states.size - 1), max_size=2)):
            pinned[block] = True
    states[pinned] = USED
    return Blocks(states == USED, states == CACHED, pinned)


def carried_out(blocks: Blocks, moves: Moves) -> Blocks:
    """Return the pool after the moves, one at a time as they would be recorded."""
    state = np.where(blocks.used, USED, np.where(blocks.cached, CACHED, EMPTY)).tolist()
    content = [block if kind != EMPTY else None for block, kind in enumerate(state)]
    beside: tuple[int, int | None] | None = None
    for source, target in zip(*(ids.tolist() for ids in moves.in_order()), strict=True):
        taken = beside if source == 0 else (state[source], content[source])
        assert taken is not None and taken[0] != EMPTY
        if source == 0:
            beside = None
        else:
            state[source], content[source] = EMPTY, None
        if target == 0:
            assert beside is None
            beside = taken
        else:
            assert content[target] is None, "a content is overwritten"
            state[target], content[target] = taken
    assert beside is None
    new_id = moves.new_ids()
    assert sorted(new_id.tolist()) == list(range(blocks.used.size))
    for place, block in enumerate(content):
        if block is not None and place:
            assert new_id[block] == place
    after = np.array(state)
    expected = blocks.relabelled(new_id)
    assert np.array_equal(after == USED, expected.used)
    assert np.array_equal(after == CACHED, expected.cached)
    assert not blocks.pinned[moves.sources].any() and not blocks.pinned[moves.targets].any()
    return expected


@settings(max_examples=4 * EXAMPLES, deadline=None)
@given(
    blocks=pools(), per_page=st.integers(1, 4), pages=st.integers(0, 4), keep_cached=st.booleans()
)
def test_pages(blocks: Blocks, per_page: int, pages: int, keep_cached: bool) -> None:
    """GIVEN a pool WHEN pages are wanted THEN they are free, with (nearly) the fewest copies."""
    moves = plan_pages(blocks, per_page, pages, keep_cached=keep_cached)
    fewest = fewest_for_pages(blocks, per_page, pages, keep_cached)
    if moves is None:
        assert fewest is None
        return
    assert fewest is not None
    after = carried_out(blocks, moves)
    assert free_pages(after.live(keep_cached), per_page).sum() >= pages
    if keep_cached:
        assert moves.count == fewest
    else:
        assert fewest <= moves.count <= fewest + per_page


def test_pages_copy_no_more_than_needed_in_a_real_pool() -> None:
    """GIVEN random pools of 40 blocks WHEN pages are freed THEN a choice of pages beats ours by
    less than a page; without cached content or without empty blocks, none does."""
    rng = np.random.default_rng(5)
    beaten = 0
    for trial in range(300):
        share = [(0.3, 0.4, 0.3), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5)][trial % 3]
        state = rng.choice(3, 40, p=share)
        state[0] = USED
        pinned = np.arange(40) == 0
        blocks = Blocks(state == USED, state == CACHED, pinned)
        for pages in range(1, 6):
            moves = plan_pages(blocks, 4, pages)
            if moves is None:
                continue
            gap = moves.count - _best_choice(blocks, 4, pages)
            assert 0 <= gap <= (4 if trial % 3 == 0 else 0)
            beaten += gap > 0
    assert beaten < 15


def _best_choice(blocks: Blocks, per_page: int, pages: int) -> int:
    """Return the fewest copies over all choices of pages."""
    from itertools import combinations

    whole = blocks.used.size // per_page
    candidates = [
        page for page in range(whole) if not blocks.pinned[page * per_page :][:per_page].any()
    ]
    best = 10**9
    for chosen in combinations(candidates, pages):
        inside = np.zeros(blocks.used.size, bool)
        for page in chosen:
            inside[page * per_page : (page + 1) * per_page] = True
        moving = int((blocks.used & inside).sum())
        rooms = int((~blocks.used & ~inside & ~blocks.pinned).sum())
        empty = int((blocks.empty & ~inside & ~blocks.pinned).sum())
        if rooms >= moving:
            best = min(best, moving + max(0, moving - empty))
    return best


@settings(max_examples=4 * EXAMPLES, deadline=None)
@given(blocks=pools(), length=st.integers(1, 8), keep_cached=st.booleans())
def test_free_runs(blocks: Blocks, length: int, keep_cached: bool) -> None:
    """GIVEN a pool WHEN a run is wanted THEN it is free, with the fewest copies."""
    moves = plan_free_run(blocks, length, keep_cached=keep_cached)
    fewest = fewest_for_run(blocks, length, keep_cached)
    if moves is None:
        assert fewest is None
        return
    assert fewest is not None
    after = carried_out(blocks, moves).live(keep_cached)
    assert any(not after[start : start + length].any() for start in range(after.size - length + 1))
    assert moves.count == fewest


@settings(max_examples=4 * EXAMPLES, deadline=None)
@given(blocks=pools(), data=st.data())
def test_tables(blocks: Blocks, data: st.DataObject) -> None:
    """GIVEN a block table WHEN it is to be one run THEN it is, with the fewest copies."""
    held = np.flatnonzero(blocks.used)[1:].tolist()
    table = data.draw(st.lists(st.sampled_from(held), unique=True)) if held else []
    moves = plan_table(blocks, np.array(table, np.int64))
    fewest = fewest_for_table(blocks, table) if table else 0
    if moves is None:
        assert fewest is None
        return
    assert moves.count == fewest
    carried_out(blocks, moves)
    after = moves.new_ids()[table]
    assert (np.diff(after) == 1).all()


@settings(max_examples=4 * EXAMPLES, deadline=None)
@given(blocks=pools(most=14), data=st.data())
def test_many_tables(blocks: Blocks, data: st.DataObject) -> None:
    """GIVEN tables that share blocks WHEN all are to be runs THEN the first one is, and no content
    is lost; without sharing and pins all are runs when there is room between them."""
    held = np.flatnonzero(blocks.used)[1:].tolist()
    tables = [
        np.array(table, np.int64)
        for table in data.draw(st.lists(st.lists(st.sampled_from(held), unique=True), max_size=3))
    ] if held else []  # fmt: skip
    moves = plan_tables(blocks, tables)
    carried_out(blocks, moves)
    if tables and plan_table(blocks, tables[0]) is not None:
        assert (np.diff(moves.new_ids()[tables[0]]) == 1).all()


@settings(max_examples=4 * EXAMPLES, deadline=None)
@given(blocks=pools(), keep_cached=st.booleans())
def test_compaction(blocks: Blocks, keep_cached: bool) -> None:
    """GIVEN a pool WHEN compacted THEN nothing occupied lies behind a gap, at the fewest copies."""
    moves = plan_compaction(blocks, keep_cached=keep_cached)
    carried_out(blocks, moves)
    assert moves.count == fewest_for_end(blocks, keep_cached)


@settings(max_examples=4 * EXAMPLES, deadline=None)
@given(blocks=pools(most=30), keep_cached=st.booleans(), data=st.data())
def test_sorted_compaction(blocks: Blocks, keep_cached: bool, data: st.DataObject) -> None:
    """GIVEN tables without common blocks, no pins WHEN laid out THEN all are runs from block 1."""
    held = np.flatnonzero(blocks.used & ~blocks.pinned)
    order = data.draw(st.permutations(held.tolist()))
    cut = data.draw(st.integers(0, len(order)))
    tables = [np.array(part, np.int64) for part in (order[:cut], order[cut:]) if part]
    moves = plan_sorted_compaction(blocks, tables, keep_cached=keep_cached)
    after = carried_out(blocks, moves)
    if not blocks.pinned[1:].any():
        new_id = moves.new_ids()
        for table in tables:
            assert (np.diff(new_id[table]) == 1).all()
        assert after.used[1 : 1 + held.size].all()


@settings(max_examples=4 * EXAMPLES, deadline=None)
@given(size=st.integers(2, 200), seed=st.integers(0, 10_000), full=st.floats(0, 1))
def test_any_moves_have_an_order(size: int, seed: int, full: float) -> None:
    """GIVEN a random partial permutation WHEN told one by one THEN nothing is overwritten."""
    rng = np.random.default_rng(seed)
    state = np.where(rng.random(size) < full, rng.integers(1, 3, size), EMPTY)
    state[0] = USED
    blocks = Blocks(state == USED, state == CACHED, np.arange(size) == 0)
    content = 1 + np.flatnonzero(state[1:] != EMPTY)
    sources = rng.permutation(content)[: rng.integers(0, content.size + 1)]
    targets = 1 + rng.permutation(size - 1)[: sources.size]
    carried_out(blocks, complete(blocks, sources, targets))


def test_what_no_plan_may_do() -> None:
    blocks = Blocks(
        np.array([True, True, False, True]), np.zeros(4, bool), np.array([True, False, False, True])
    )
    for sources, targets, what in (
        ([1, 1], [2, 3], "twice"),
        ([2], [1], "an empty block"),
        ([3], [2], "a pinned block"),
        ([1], [3], "a pinned block"),
    ):
        with pytest.raises(InvariantError, match=what):
            complete(blocks, np.array(sources), np.array(targets))
    with pytest.raises(InputError, match="blocks_per_page"):
        plan_pages(blocks, 0)
    with pytest.raises(InputError, match="pages"):
        plan_pages(blocks, 1, -1)
    with pytest.raises(InputError, match="length"):
        plan_free_run(blocks, 0)
