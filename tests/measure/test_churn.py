"""Churn, working sets and trends against slow obvious ones, and by hand."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import Stream, record, small_workload, streams

from kvatlas.engine import DriveConfig, EngineConfig
from kvatlas.events import schema
from kvatlas.jit import COMPILED
from kvatlas.measure.churn import Churn
from kvatlas.measure.figures import Figures
from kvatlas.workload import generate

WINDOWS_S = (0.016, 0.064, 0.256)


def measured(stream: Stream, most_intervals: int = 8) -> Churn:
    churn = Churn(
        stream.header,
        windows_s=WINDOWS_S,
        most_intervals=most_intervals,
        shortest_interval_s=0.002,
    )
    for chunk in stream.resolved():
        churn.feed(chunk)
    return churn


def end_ms(rows: np.ndarray) -> float:
    """Return when the last step ends (or the last row is, in an idle pool)."""
    steps = rows[rows["event"] == schema.STEP]
    ends = steps["time_ms"] + steps["count"] * steps["span_ms"]
    others = rows["time_ms"][rows["event"] != schema.ARRIVED]
    return float(max(ends.max(initial=0.0), others.max(initial=0.0)))


def slow_windows(stream: Stream, width_ms: float) -> dict[int, tuple[int, int]]:
    """Return blocks and contents touched per window, from sets."""
    blocks: dict[int, set[int]] = defaultdict(set)
    contents: dict[int, set[tuple[int, int]]] = defaultdict(set)
    generation: dict[int, int] = defaultdict(int)
    first_ms = float(stream.rows()["time_ms"][0])
    for chunk in stream.resolved():
        for row in chunk.rows:
            if row["event"] not in (schema.TOUCHED, schema.ALLOCATED):
                continue
            window = int((row["time_ms"] - first_ms) // width_ms)
            for block in chunk.ids[row["blocks_at"] : row["blocks_at"] + row["count"]].tolist():
                if row["event"] == schema.ALLOCATED:
                    generation[block] += 1
                blocks[window].add(block)
                contents[window].add((block, generation[block]))
    return {window: (len(blocks[window]), len(contents[window])) for window in blocks}


@given(streams(timed=True), st.sampled_from([2, 8, 64]))
@settings(max_examples=50)
def test_windows_and_intervals_like_slow_ones(stream: Stream, most_intervals: int) -> None:
    rows = stream.rows()
    first_ms, last_ms = float(rows["time_ms"][0]), end_ms(rows)
    found = measured(stream, most_intervals).result()
    assert found.span_s == pytest.approx((last_ms - first_ms) / 1e3)
    # THEN every window counts what sets count
    for working_set in found.working_sets:
        width_ms = working_set.window_s * 1e3
        slow = slow_windows(stream, width_ms)
        whole = int((last_ms - first_ms) // width_ms)
        assert working_set.windows == whole
        assert working_set.most_blocks == max(blocks for blocks, _ in slow.values())
        assert working_set.most_contents == max(contents for _, contents in slow.values())
        if whole:
            over = [counts for window, counts in slow.items() if window < whole]
            assert working_set.mean_blocks == pytest.approx(sum(b for b, _ in over) / whole)
            assert working_set.mean_contents == pytest.approx(sum(c for _, c in over) / whole)
    # THEN every interval counts its rows, however often the intervals doubled
    series, width_ms = found.series, found.interval_s * 1e3
    assert 0 < series.start_s.size <= most_intervals
    bins = ((rows["time_ms"] - first_ms) // width_ms).astype(int)
    spans_s = series.end_s - series.start_s
    for name, event, weights in (
        ("arrivals", schema.ARRIVED, np.ones(len(rows))),
        ("preemptions", schema.PREEMPTED, np.ones(len(rows))),
        ("failures", schema.ALLOCATION_FAILED, np.ones(len(rows))),
        ("allocated", schema.ALLOCATED, rows["count"]),
        ("evicted", schema.EVICTED, rows["count"]),
        ("freed", schema.FREED, np.where(rows["ref_count"] == 0, rows["count"], 0)),
    ):
        chosen = rows["event"] == event
        slow_counts = np.bincount(
            bins[chosen], weights=weights[chosen], minlength=series.start_s.size
        )
        counts = getattr(series, name)
        if name in ("allocated", "evicted", "freed"):
            counts = counts * spans_s
        assert counts.tolist() == pytest.approx(slow_counts.tolist()), name


@given(streams())
@settings(max_examples=50)
def test_adds_up_to_the_sums_of_the_engine(stream: Stream) -> None:
    churn = measured(stream)
    found, sums = churn.result(), stream.replay.sums()
    assert found.allocated_blocks == sums["allocations"]
    assert found.evicted_blocks == sums["evictions"]
    assert found.preemptions.events == sums["preemptions"] or found.series.start_s.size > 1
    intervals = churn._flow.intervals
    assert intervals["used_block_ms"].sum() == pytest.approx(sums["used_block_ms"])
    assert intervals["wasted_slot_ms"].sum() == pytest.approx(sums["wasted_slot_ms"])
    assert intervals["hit_tokens"].sum() == sums["hits"]
    assert intervals["queried_tokens"].sum() == sums["queries"]
    assert intervals["preemptions"].sum() == sums["preemptions"]
    held = sums["used_block_ms"] * stream.header.groups[0].block_size
    assert intervals["used_slot_ms"].sum() == pytest.approx(held)
    usage = np.nansum(found.series.usage * (found.series.end_s - found.series.start_s))
    if found.span_s > 0:
        assert usage * stream.header.usable_blocks * 1e3 == pytest.approx(sums["used_block_ms"])
        assert found.pinned_mean_blocks == pytest.approx(
            sums["used_block_ms"] / (found.span_s * 1e3)
        )


def test_working_set_by_hand() -> None:
    # GIVEN prompts of 12 tokens in blocks of 4, the second one 0.5 s later and equal but for its
    # last block; a step takes 100 ms
    workload = small_workload(0, rows=2).with_(
        arrival_s=np.array([0.0, 0.5]),
        prompt_tokens=np.full(2, 12, np.int32),
        output_tokens=np.full(2, 4, np.int32),
        ids=np.array([0, 1, 2, 0, 1, 3], np.int32),
        id_offsets=np.array([0, 3, 6]),
        num_ids=4,
    )
    drive = DriveConfig(arrivals="timed", step_ms_base=100.0, step_ms_per_ktok=0.0)
    stream = record(workload, EngineConfig(num_blocks=20, block_size=4), drive)
    churn = Churn(stream.header, windows_s=(0.5, 1.0))
    for chunk in stream.resolved():
        churn.feed(chunk)
    half, whole = churn.result().working_sets
    # THEN 3 + 1 blocks are new in the first half second, and the second touches 2 of them again
    # and takes 2 new places (the one that the first request's answer left, and another)
    assert (half.windows, half.mean_blocks, half.most_blocks) == (2, 4.0, 4)
    assert (whole.windows, whole.mean_blocks) == (1, 5.0)
    assert (whole.most_contents, half.most_contents) == (6, 4)
    found = churn.result()
    assert found.pinned_most_blocks == 4
    assert found.allocated_blocks == 6
    assert found.series.hit_rate[~np.isnan(found.series.hit_rate)].tolist() == [0.0, 8 / 12]


@pytest.mark.skipif(not COMPILED, reason="takes minutes uncompiled")
def test_bursts_are_seen_and_an_even_stream_is_not() -> None:
    found = {}
    for name, knobs in (("bursts", {}), ("comb", {"requests_per_s": 20})):
        workload = generate(name, num_requests=400, **knobs)
        config, drive = EngineConfig(num_blocks=20_000), DriveConfig(arrivals="timed")
        stream = record(workload, config, drive)
        churn = Churn(stream.header)
        for chunk in stream.resolved():
            churn.feed(chunk)
        found[name] = churn.result().arrivals
    assert found["bursts"].verdict == "clustered"
    assert found["comb"].verdict == "spread"


def test_figures_have_the_same_names_whatever_can_be_known() -> None:
    names = []
    for step_ms in (0.0, 9000.0):
        drive = DriveConfig(step_ms_base=step_ms, step_ms_per_ktok=0.0)
        stream = record(small_workload(2), EngineConfig(num_blocks=200), drive)
        churn, sheet = Churn(stream.header), Figures()
        for chunk in stream.resolved():
            churn.feed(chunk)
        churn.figures(sheet)
        names.append(list(sheet.values))
        if step_ms == 0:
            assert sheet["churn.freed_blocks_per_s"] is None
            assert "shorter than 600 s" in sheet.unavailable["working_set.w600s_mean_blocks"]
    assert names[0] == names[1]


def test_windows_must_nest() -> None:
    with pytest.raises(ValueError, match="multiples"):
        Churn(record(small_workload(0), EngineConfig(num_blocks=60)).header, windows_s=(2, 3))
