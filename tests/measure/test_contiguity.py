"""Contiguity against a slow, obvious model, and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from streams import Stream, streams

from kvatlas.errors import InputError
from kvatlas.events import Chunk
from kvatlas.events.schema import (
    ADMITTED,
    ALLOCATED,
    BY_FINISHED,
    BY_NEW,
    CACHED,
    EVICTED,
    FINISHED,
    FREED,
    LOOKED_UP,
    PREEMPTED,
    STEP,
    TOUCHED,
)
from kvatlas.measure.contiguity import Contiguity, ContiguityResult
from kvatlas.measure.fragmentation.layout import run_set

_PAGE, _CUT = 4, 3


def measured(stream: Stream, **options: Any) -> ContiguityResult:
    """What the analyser says of a stream."""
    found = Contiguity(stream.header, **options)
    for chunk in stream.resolved():
        found.feed(chunk)
    return found.result()


def runs_of(table: list[int]) -> list[int]:
    """The lengths of the maximal ascending runs of ids, in order; a hole (-1) ends one."""
    lengths: list[int] = []
    before = -2
    for block in table:
        if block >= 0 and block == before + 1:
            lengths[-1] += 1
        elif block >= 0:
            lengths.append(1)
        before = block if block >= 0 else -2
    return lengths


def cut(lengths: list[int], most: int | None) -> int:
    return sum(1 if most is None else -(-length // most) for length in lengths)


class Model:
    """Block tables as lists, the pool as two sets; everything counted anew each time."""

    def __init__(self, stream: Stream, most: int | None) -> None:
        self.tables: dict[tuple[int, int], dict[int, int]] = {}
        self.owners = np.zeros(stream.header.num_blocks, np.int64)
        self.cached: set[int] = set()
        self.ends: dict[int, list[int]] = {}
        self.hits: dict[int, tuple[int, int]] = {}
        self.looks: list[tuple[Any, ...]] = []
        every = max(1, -(-stream.header.num_requests // 8))
        admitted, look_at = 0, every
        for chunk in stream.resolved():
            for row in chunk.rows:
                self._happen(row, chunk.ids, most)
                admitted += int(row["event"] == ADMITTED)
                if row["event"] == STEP and admitted >= look_at:
                    self._look(stream)
                    look_at = admitted + every

    def _happen(self, row: Any, ids: np.ndarray, most: int | None) -> None:
        event, request, group = int(row["event"]), int(row["request"]), int(row["group"])
        blocks: list[int] = []
        if row["blocks_at"] >= 0:
            blocks = ids[row["blocks_at"] : row["blocks_at"] + row["count"]].tolist()
        if event == LOOKED_UP and row["cause"] == BY_NEW:
            found = max(0, int(row["computed_tokens"]))
            self.hits[request] = (found, int(row["tokens"]))
        elif event in (TOUCHED, ALLOCATED):
            table = self.tables.setdefault((request, group), {})
            for i, block in enumerate(blocks):
                table[int(row["position"]) + i] = block
                self.owners[block] += 1
        elif event == FREED:
            if row["cause"] == BY_FINISHED and (request, group) in self.tables:
                self._end(request, self.tables.pop((request, group)), most)
            for i, block in enumerate(blocks):
                self.tables.get((request, group), {}).pop(int(row["position"]) - i, None)
                self.owners[block] -= 1
        elif event == CACHED:
            self.cached.update(blocks)
        elif event == EVICTED:
            self.cached.difference_update(blocks)
        elif event in (PREEMPTED, FINISHED):
            for key in [key for key in self.tables if key[0] == request]:
                del self.tables[key]

    def _end(self, request: int, table: dict[int, int], most: int | None) -> None:
        if not table:
            return
        line = [table.get(at, -1) for at in range(max(table) + 1)]
        ordered, by_id = runs_of(line), runs_of(sorted(table.values()))
        said = [len(table), len(ordered), len(by_id), cut(ordered, most), cut(by_id, most)]
        before = self.ends.get(request, [0] * 5)
        self.ends[request] = [a + b for a, b in zip(before, said, strict=True)]

    def _look(self, stream: Stream) -> None:
        free = self.owners == 0
        if stream.header.has_null:
            free[0] = False
        lengths = runs_of([block if free[block] else -1 for block in range(free.size)])
        pages = [
            sum(
                all(free[at] and (not empty or at not in self.cached) for at in range(p, p + _PAGE))
                for p in range(0, free.size - _PAGE + 1, _PAGE)
            )
            for empty in (False, True)
        ]
        whole = run_set(free)
        self.looks.append((int(free.sum()), lengths, pages, whole.efi, whole.ufsi))


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("most", [None, _CUT])
def test_it_says_what_the_model_says(hybrid: bool, most: int | None) -> None:
    @settings(max_examples=25, deadline=None)
    @given(streams(hybrid=hybrid))
    def holds(stream: Stream) -> None:
        model = Model(stream, most)
        found = measured(stream, blocks_per_page=_PAGE, blocks_per_copy=most, looks=8)
        tables, free = found.tables, found.free
        assert np.flatnonzero(tables.finished).tolist() == sorted(model.ends)
        for request, said in model.ends.items():
            names = ("blocks", "runs", "any_order_runs", "copies", "any_order_copies")
            assert [int(getattr(tables, name)[request]) for name in names] == said
        for request, (hit, queried) in model.hits.items():
            assert int(tables.hit_tokens[request]) == hit
            assert int(tables.queried_tokens[request]) == queried
        assert free.looks == len(model.looks)
        if not model.looks:
            return
        counts, lengths, pages, efi, ufsi = zip(*model.looks, strict=True)
        assert free.free_blocks == pytest.approx(np.mean(counts))
        assert free.runs == pytest.approx(np.mean([len(each) for each in lengths]))
        assert free.largest == pytest.approx(np.mean([max(each, default=0) for each in lengths]))
        assert free.packed_pages == pytest.approx(np.mean([count // _PAGE for count in counts]))
        assert (free.free_pages, free.empty_pages) == tuple(np.mean(pages, axis=0))
        together = [length for each in lengths for length in each]
        assert free.by_length.tolist() == np.bincount(together, minlength=1).tolist()
        assert free.efi == pytest.approx(np.nanmean(efi))
        assert free.ufsi == pytest.approx(np.nanmean(ufsi, axis=0))

    holds()


@settings(max_examples=10, deadline=None)
@given(streams())
def test_it_does_not_matter_where_chunks_end(stream: Stream) -> None:
    """GIVEN a stream WHEN it is fed step by step THEN nothing changes."""
    whole, pieces = Contiguity(stream.header, looks=8), Contiguity(stream.header, looks=8)
    for chunk in stream.resolved():
        whole.feed(chunk)
        ends = (np.flatnonzero(chunk.rows["event"] == STEP) + 1).tolist()
        for start, stop in zip([0, *ends], [*ends, len(chunk.rows)], strict=True):
            pieces.feed(Chunk(chunk.rows[start:stop], chunk.ids))
    one, other = whole.result(), pieces.result()
    assert one.tables.runs.tolist() == other.tables.runs.tolist()
    assert one.free.looks == other.free.looks
    assert one.free.by_length.tolist() == other.free.by_length.tolist()


def ended(*runs: int) -> ContiguityResult:
    """A result in which requests ended with so many runs."""
    from streams import record, small_workload

    from kvatlas.engine import EngineConfig

    made = record(small_workload(1), EngineConfig(num_blocks=400, block_size=4))
    found = measured(made)
    tables = found.tables
    tables.runs[:] = 0
    tables.finished[:] = False
    tables.runs[: len(runs)] = runs
    tables.finished[: len(runs)] = True
    return found


def test_shares_and_quantiles_by_hand() -> None:
    found = ended(1, 1, 2, 10)
    assert found.tables.requests == 4
    assert found.tables.mean("runs") == 3.5
    assert (found.tables.runs_quantile(0.5), found.tables.runs_quantile(0.99)) == (1, 10)
    assert found.tables.share_within(np.array([1, 2, 9, 10])).tolist() == [0.5, 0.75, 0.75, 1.0]
    free = found.free
    free.by_length[:] = 0
    free.by_length[[1, 3]] = 2, 1
    assert (free.quantile(0.5), free.quantile(0.99)) == (1, 3)
    assert free.share_in_runs_of(np.array([1, 2, 3, 4])).tolist() == [1.0, 0.6, 0.6, 0.0]


def test_nothing_ended_is_nan_and_not_zero() -> None:
    found = ended()
    assert np.isnan(found.tables.mean("runs"))
    assert np.isnan(found.tables.share_within(np.array([1]))).all()
    assert found.tables.runs_quantile(0.5) == 0


def test_nothing_seen_is_nan_and_not_zero() -> None:
    from streams import record, small_workload

    from kvatlas.engine import EngineConfig

    made = record(small_workload(1), EngineConfig(num_blocks=400, block_size=4))
    free = Contiguity(made.header).result().free
    assert free.looks == 0
    assert np.isnan([free.efi, free.runs, free.largest, free.free_pages]).all()
    assert np.isnan(free.ufsi).all()
    assert np.isnan(free.share_in_runs_of(np.array([1]))).all()


@pytest.mark.parametrize("name", ["blocks_per_page", "blocks_per_copy", "looks"])
def test_numbers_below_one_are_refused(name: str) -> None:
    from streams import record, small_workload

    from kvatlas.engine import EngineConfig

    made = record(small_workload(1), EngineConfig(num_blocks=400, block_size=4))
    with pytest.raises(InputError, match=name):
        Contiguity(made.header, **{name: 0})
