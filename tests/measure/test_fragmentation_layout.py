"""The layout of one moment, and its pattern: by hand and against counting."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from fragmentation_model import ORDERS, by_order, efi, lengths_of, runs_of, table_runs, ufsi
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from streams import Stream, streams

from kvatlas.errors import InputError
from kvatlas.events.snapshot import snapshot_of
from kvatlas.events.state import PoolState
from kvatlas.jit import COMPILED
from kvatlas.measure.fragmentation import BlockLayoutAnalyzer, FragmentationTracker, Layout, RunSet

pytestmark = pytest.mark.slow

FEW, SOME = (15, 60) if COMPILED else (3, 8)


@dataclass
class Moment:
    """A snapshot by hand."""

    ref_count: NDArray[np.int32]
    key: NDArray[np.int64]
    tables: list[list[int]] = field(default_factory=list)
    has_null: bool = False

    @property
    def table_request(self) -> NDArray[np.int32]:
        return np.arange(len(self.tables), dtype=np.int32)

    @property
    def table_group(self) -> NDArray[np.int32]:
        return np.zeros(len(self.tables), np.int32)

    @property
    def table_offsets(self) -> NDArray[np.int64]:
        return np.cumsum([0, *map(len, self.tables)]).astype(np.int64)

    @property
    def table_blocks(self) -> NDArray[np.int32]:
        return np.array([block for table in self.tables for block in table], np.int32)


def drawn(picture: str, tables: list[list[int]] | None = None, *, null: bool = False) -> Layout:
    """Return the layout of a picture: `#` used, `o` evictable, `.` empty."""
    moment = Moment(
        np.array([mark == "#" for mark in picture], np.int32),
        np.array([7 if mark == "o" else -1 for mark in picture], np.int64),
        tables or [],
        null,
    )
    return BlockLayoutAnalyzer(moment).layout()


def agree(found: RunSet, members: set[int]) -> None:
    runs, lengths = runs_of(members), lengths_of(members)
    assert list(zip(found.starts.tolist(), found.lengths.tolist(), strict=True)) == runs
    assert (found.count, found.blocks) == (len(runs), len(members))
    assert found.largest == max(lengths, default=0)
    assert found.by_order.tolist() == [by_order(lengths, order) for order in range(ORDERS)]
    if not lengths:
        assert np.isnan(found.efi) and np.isnan(found.mean) and np.isnan(found.ufsi).all()
        assert (found.p50, found.p99) == (0, 0)
        return
    assert found.mean == pytest.approx(sum(lengths) / len(lengths))
    for share, value in ((0.5, found.p50), (0.99, found.p99)):
        covered = [length for length in sorted(lengths) if length <= value]
        assert len(covered) >= share * len(lengths)
        assert sum(length < value for length in lengths) < share * len(lengths)
    assert found.efi == pytest.approx(efi(lengths), abs=1e-12)
    assert found.ufsi == pytest.approx([ufsi(lengths, order) for order in range(ORDERS)], abs=1e-12)


@given(
    picture=st.text(alphabet="#o.", min_size=1, max_size=150),
    seed=st.integers(0, 1000),
    null=st.booleans(),
)
@settings(max_examples=SOME, deadline=None)
def test_against_counting(picture: str, seed: int, null: bool) -> None:
    rng = np.random.default_rng(seed)
    used = [b for b, mark in enumerate(picture) if mark == "#" and b >= null]
    # Three tables of used blocks in any order, some shared, with places that blocks have left.
    tables = [rng.permutation([-1, *used])[: len(used) // 2].tolist() for _ in range(3)]
    layout = drawn(picture, tables, null=null)
    free = {b for b, mark in enumerate(picture) if mark != "#" and b >= null}
    empty = {b for b in free if picture[b] == "."}
    agree(layout.free, free)
    agree(layout.empty_only, empty)
    assert layout.used + layout.evictable + layout.empty == layout.usable_blocks
    assert (layout.used, layout.empty) == (len(used), len(empty))
    for at, table in enumerate(tables):
        held = [block if block >= 0 else None for block in table]
        blocks = {block for block in held if block is not None}
        assert layout.tables.blocks[at] == len(blocks)
        assert layout.tables.runs[at] == table_runs(held)
        assert layout.tables.fewest_runs[at] == len(runs_of(blocks))
        edges = sum((b - 1 in free) + (b + 1 in free) for b in blocks)
        assert layout.tables.free_edges[at] == edges
    for per_page in (1, 2, 8):
        pinned = {block // per_page for block in used}
        assert layout.pinned_pages(per_page) == (len(pinned), -(-len(used) // per_page))


@given(stream=streams())
@settings(max_examples=FEW, deadline=None)
def test_a_snapshot_agrees_with_the_tracker(stream: Stream) -> None:
    """GIVEN a recording WHEN stopped anywhere THEN snapshot and tracker say the same."""
    state, tracker = PoolState(stream.header), FragmentationTracker(stream.header, mode="exact")
    for raw, chunk in zip(stream.raw, stream.resolved(), strict=False):
        state.advance(raw)
        tracker.feed(chunk)
        layout, result = BlockLayoutAnalyzer(snapshot_of(state)).layout(), tracker.result()
        assert (layout.used, layout.evictable, layout.empty) == (
            result.used, result.evictable, result.empty,
        )  # fmt: skip
        for runs, shape in ((layout.free, result.free), (layout.empty_only, result.empty_only)):
            assert (runs.count, runs.largest) == (shape.runs, shape.largest)
            assert runs.efi == pytest.approx(shape.efi, nan_ok=True)
        held = dict.fromkeys(range(stream.header.num_requests), 0)
        for request, count in zip(layout.tables.request, layout.tables.runs, strict=True):
            held[int(request)] += int(count)
        assert held == {request: tracker.runs_of(request) for request in held}


def test_a_comb_in_hand() -> None:
    """Five walls of 3 with holes of 2 between them: 8 free in 4 runs."""
    layout = drawn("###..###..###..###..###")
    assert (layout.free.count, layout.free.blocks, layout.free.largest) == (4, 8, 2)
    assert layout.free.efi == 0.75
    assert layout.free.ufsi[:3].tolist() == [0, 0, 1]
    assert (layout.free.mean, layout.free.p50, layout.free.p99) == (2, 2, 2)
    assert layout.pattern.name == "comb"
    assert layout.pattern.numbers["holes"] == 4
    assert layout.pattern.numbers["mean_hole_blocks"] == 2
    assert layout.pattern.numbers["mean_wall_blocks"] == 3
    assert layout.pattern.numbers["cv_holes"] == layout.pattern.numbers["cv_walls"] == 0


def test_a_sawtooth_in_hand() -> None:
    """Holes of 1 2 3 4 5, twice, each behind a wall of 2: 30 free in 10 runs."""
    tooth = "".join("##" + "." * length for length in range(1, 6))
    layout = drawn(tooth * 2 + "##")
    assert (layout.free.count, layout.free.blocks, layout.free.largest) == (10, 30, 5)
    assert layout.free.efi == pytest.approx(25 / 30)
    # Pieces of 2: 0 + 2 + 2 + 4 + 4, twice; pieces of 4: 4 + 4, twice.
    assert layout.free.ufsi[:4].tolist() == pytest.approx([0, 6 / 30, 14 / 30, 1])
    assert layout.pattern.name == "sawtooth"
    assert layout.pattern.numbers["rising_share"] == pytest.approx(8 / 9)
    assert layout.pattern.numbers["collapses"] == 1
    assert drawn((tooth * 2 + "##")[::-1]).pattern.name == "sawtooth"


def test_survivors_in_hand() -> None:
    """Two single blocks between 20, 30 and 14 free ones."""
    layout = drawn("." * 20 + "#" + "o" * 30 + "#" + "." * 14)
    assert (layout.free.count, layout.free.largest) == (3, 30)
    assert layout.free.efi == pytest.approx(1 - 30 / 64)
    assert layout.empty_only.efi == pytest.approx(1 - 20 / 34)
    # Pieces of 16: one of 20, one of 30, none of 14.
    assert layout.free.ufsi[4] == pytest.approx(1 - 32 / 64)
    assert layout.pattern.name == "survivors"
    assert layout.pattern.numbers["mean_wall_blocks"] == 1


@pytest.mark.parametrize("picture", [".", "#", "....", "##..", "..##", "#.##...#", "#..####...#."])
def test_nothing_to_name(picture: str) -> None:
    assert drawn(picture).pattern.name == "none"


def test_the_null_block_is_no_wall() -> None:
    layout = drawn("." * 12 + "#" + "." * 12 + "#" + "." * 12, null=True)
    assert layout.free.lengths.tolist() == [11, 12, 12]
    assert layout.usable_blocks == 37
    assert layout.pattern.numbers["holes"] == 1


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="table_blocks"):
        drawn("##", [[0, 2]])
    with pytest.raises(InputError, match="blocks_per_page"):
        drawn("##").pinned_pages(0)
