"""The block map's cells and the free runs, against counting one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kvatlas.events import FragmentationSnapshot
from kvatlas.measure.map_cells import NOBODY, SEVERAL, free_runs, holders, map_cells


def snapshot(
    states: str, tables: dict[tuple[int, int], list[int]] | None = None, null: bool = False
) -> FragmentationSnapshot:
    """Return a pool from one letter per block: u used, e evictable, anything else empty."""
    tables = tables or {}
    lengths = [len(blocks) for blocks in tables.values()]
    return FragmentationSnapshot(
        event=7,
        step=3,
        time_s=1.5,
        has_null=null,
        ref_count=np.array([int(state == "u") for state in states], np.int32),
        key=np.array([5 if state == "e" else -1 for state in states], np.int64),
        table_request=np.array([request for request, _ in tables], np.int32),
        table_group=np.array([group for _, group in tables], np.int32),
        table_offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        table_blocks=np.array([b for blocks in tables.values() for b in blocks], np.int32),
    )


@given(st.text("ue.", min_size=1, max_size=40), st.integers(1, 7), st.booleans(), st.data())
def test_cells_count_every_block_once(
    states: str, per_cell: int, null: bool, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(states) - 1))
    stop = data.draw(st.integers(first + 1, len(states)))
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(states),
                                         max_size=len(states))), np.int32)  # fmt: skip
    cells = map_cells(snapshot(states, null=null), labels, first, stop, per_cell)
    for at, start in enumerate(range(first, stop, per_cell)):
        inside = range(start, min(start + per_cell, stop))
        shown = [states[block] for block in inside if not (null and block == 0)]
        counts = (int(cells.used[at]), int(cells.evictable[at]), int(cells.empty[at]))
        assert counts == (shown.count("u"), shown.count("e"), shown.count("."))
        owners = {
            int(labels[block]) for block in inside
            if states[block] == "u" and not (null and block == 0)
        }  # fmt: skip
        want = NOBODY if not owners else SEVERAL if len(owners) > 1 else owners.pop()
        assert cells.label[at] == want
    assert cells.used.size == at + 1


@given(st.text("ue.", min_size=1, max_size=40), st.booleans())
def test_free_runs_as_split_says(states: str, empty_only: bool) -> None:
    runs = free_runs(snapshot(states), empty_only=empty_only)
    marked = "".join("." if s == "." or (s == "e" and not empty_only) else "|" for s in states)
    lengths = sorted(len(run) for run in marked.split("|") if run)
    assert runs.lengths.tolist() == lengths
    assert runs.free == sum(lengths)
    assert runs.largest == max(lengths, default=0)
    if lengths:
        assert runs.external_index == 1 - max(lengths) / sum(lengths)
    else:
        assert runs.external_index is None


def test_the_null_block_is_not_free() -> None:
    runs = free_runs(snapshot("...u", null=True))
    assert runs.lengths.tolist() == [2]


def test_holders_by_hand() -> None:
    tables = {(4, 0): [1, 2, 3, 7], (4, 1): [-1, 8, 9], (2, 0): [5, 1], (9, 0): []}
    found = holders(snapshot("." * 12, tables), 8)
    assert [(each.request, each.blocks, each.runs) for each in found] == [(4, 6, 3), (2, 2, 2)]
    assert [each.request for each in holders(snapshot("." * 12, tables), 1)] == [4]
    assert holders(snapshot("...."), 3) == []
