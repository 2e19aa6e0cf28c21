"""The Perfetto trace: the rules of the Trace Event Format, and what a run must look like in it."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from run_builders import NASTY, time_series

from kvatlas.events import Chunk, Header, schema
from kvatlas.report.run_perfetto import POOL, REQUESTS, SCHEDULER, run_perfetto

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "measure"))

from streams import Stream, streams

_PHASES = {"M", "C", "b", "e", "n", "i"}


def events_of(header: Header, chunks: Iterable[Chunk], **more: Any) -> list[dict[str, Any]]:
    trace = json.loads(b"".join(run_perfetto(header, chunks, **more)))
    assert set(trace) == {"displayTimeUnit", "otherData", "traceEvents"}
    events: list[dict[str, Any]] = trace["traceEvents"]
    return events


def check_format(events: list[dict[str, Any]]) -> None:
    """Check the rules of the format that a viewer relies on."""
    last_us = 0.0
    open_slices: dict[tuple[str, str], list[str]] = defaultdict(list)
    for event in events:
        assert event["ph"] in _PHASES
        for key, kind in (("name", str), ("pid", int), ("tid", int)):
            assert isinstance(event[key], kind), event
        assert isinstance(event["ts"], (int, float))
        assert event["ts"] >= 0
        if event["ph"] == "M":
            continue
        assert event["ts"] >= last_us, "sorted by time"
        last_us = event["ts"]
        if event["ph"] == "C":
            assert all(isinstance(value, (int, float)) for value in event["args"].values())
        elif event["ph"] == "i":
            assert event["s"] in "gpt"
        else:
            assert isinstance(event["id"], str)
            stack = open_slices[event["cat"], event["id"]]
            if event["ph"] == "b":
                stack.append(event["name"])
            elif event["ph"] == "e":
                assert stack.pop() == event["name"], "ends match begins, innermost first"
            else:
                assert stack, "an instant lies within its request"
    assert not any(open_slices.values()), "everything that begins ends"


@settings(max_examples=15)
@given(streams())
def test_any_run_keeps_the_rules_and_the_counts(stream: Stream) -> None:
    events = events_of(stream.header, stream.raw)
    check_format(events)
    rows = stream.rows()
    happened = Counter(rows["event"].tolist())
    shown = Counter((event["ph"], event["name"]) for event in events)
    assert shown["b", "request"] == happened[schema.ARRIVED]
    assert shown["b", "prefill"] == happened[schema.ADMITTED]
    assert shown["n", "preempted"] == shown["i", "preempted"] == happened[schema.PREEMPTED]
    assert shown["i", "allocation failed"] == happened[schema.ALLOCATION_FAILED]
    # Who was preempted waits again.
    assert shown["b", "queued"] == happened[schema.ARRIVED] + happened[schema.PREEMPTED]


@settings(max_examples=10)
@given(streams(timed=True))
def test_counters_say_what_steps_said(stream: Stream) -> None:
    # GIVEN counters, which hold their value until the next one
    events = events_of(stream.header, stream.raw)
    steps = stream.rows()
    steps = steps[steps["event"] == schema.STEP]
    for name, pid, values in (
        ("used blocks", POOL, stream.header.usable_blocks - steps["free_blocks"]),
        ("running", SCHEDULER, steps["running"]),
        ("waiting", SCHEDULER, steps["waiting"]),
        ("wasted slots", POOL, steps["wasted_slots"]),
    ):
        track = [event for event in events if event["ph"] == "C" and event["name"] == name]
        assert all(event["pid"] == pid for event in track)
        times = np.array([event["ts"] for event in track])
        at = np.searchsorted(times, np.round(1e3 * steps["time_ms"], 3), side="right") - 1
        # THEN at each step the last one is what the step says
        assert [track[i]["args"]["value"] for i in at.tolist()] == values.tolist()


def rows_of(*events: dict[str, Any]) -> Chunk:
    rows = np.zeros(len(events), schema.EVENT)
    for column in schema.COLUMNS:
        rows[column.name] = column.absent
    rows["blocks_at"] = schema.NONE
    for row, event in zip(rows, events, strict=True):
        for name, value in event.items():
            row[name] = value
    return Chunk(rows, np.empty(0, np.int32))


def by_hand() -> Chunk:
    """Request 0 arrives at 1.5 ms, is prefilled in two steps of 10 ms, decodes one more."""
    return rows_of(
        {"event": schema.ARRIVED, "time_ms": 1.5, "request": 0, "tokens": 6},
        {"event": schema.ADMITTED, "time_ms": 2, "request": 0, "tokens": 6, "computed_tokens": 0},
        {"event": schema.SCHEDULED, "time_ms": 2, "request": 0, "tokens": 4, "computed_tokens": 4},
        {"event": schema.STEP, "time_ms": 2, "count": 1, "tokens": 4, "running": 1, "waiting": 0,
         "free_blocks": 5, "wasted_slots": 2, "span_ms": 10},
        {"event": schema.SCHEDULED, "time_ms": 12, "request": 0, "tokens": 2, "computed_tokens": 6},
        {"event": schema.STEP, "time_ms": 12, "count": 1, "tokens": 2, "running": 1, "waiting": 0,
         "free_blocks": 5, "wasted_slots": 0, "span_ms": 10},
        {"event": schema.STEP, "time_ms": 22, "count": 1, "tokens": 1, "running": 1, "waiting": 0,
         "free_blocks": 4, "wasted_slots": 3, "span_ms": 10},
        {"event": schema.FREED, "time_ms": 32, "request": 0, "count": 3, "ref_count": 0,
         "position": 2},
        {"event": schema.FINISHED, "time_ms": 32, "request": 0, "tokens": 8,
         "cause": schema.BY_LENGTH},
    )  # fmt: skip


def header(requests: int = 1) -> Header:
    from kvatlas.events import Group

    return Header(
        schema=1, kvatlas="1", producer="live", engine="vLLM", num_blocks=8, has_null=True,
        caching=True, groups=(Group("FullAttentionSpec", 4),), hash_block_size=4, max_num_seqs=4,
        max_table_blocks=8, num_requests=requests,
    )  # fmt: skip


def test_a_life_by_hand() -> None:
    events = events_of(header(), [by_hand()], name_of={0: NASTY}.get)
    check_format(events)
    life = [(e["ph"], e["name"], e["ts"]) for e in events if e["pid"] == REQUESTS and "id" in e]
    assert life == [
        ("b", "request", 1500),
        ("b", "queued", 1500),
        ("e", "queued", 2000),
        ("b", "prefill", 2000),
        ("e", "prefill", 22000),
        ("b", "decode", 22000),
        ("e", "decode", 32000),
        ("e", "request", 32000),
    ]
    begin = next(e for e in events if e["name"] == "request")
    assert begin["args"] == {"request": 0, "id": NASTY, "prompt_tokens": 6}
    used = [(e["ts"], e["args"]["value"]) for e in events if e["name"] == "used blocks"]
    assert used == [(2000, 2), (22000, 3), (32000, 0)]
    running = [(e["ts"], e["args"]["value"]) for e in events if e["name"] == "running"]
    assert running == [(2000, 1), (32000, 0)]
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert names == {POOL: "KV pool", SCHEDULER: "Scheduler", REQUESTS: "Requests"}


@pytest.mark.parametrize("rows", range(1, 9))
def test_a_cut_closes_what_is_open(rows: int) -> None:
    chunk = by_hand()
    check_format(events_of(header(), [Chunk(chunk.rows[:rows], chunk.ids)]))
    # And one that began before the recording.
    check_format(events_of(header(), [Chunk(chunk.rows[rows:], chunk.ids)]))


def test_means_come_from_the_series_and_are_called_means() -> None:
    events = events_of(header(), [by_hand()], series=time_series(3))
    check_format(events)
    track = [e for e in events if e["name"] == "evictable blocks (mean of the interval)"]
    assert len(track) == 3


def test_the_trace_comes_in_pieces() -> None:
    chunk = by_hand()
    many = [Chunk(chunk.rows.copy(), chunk.ids) for _ in range(3000)]
    for number, each in enumerate(many):
        each.rows["time_ms"] += 100.0 * number
        each.rows["request"][each.rows["request"] == 0] = number
    pieces = list(run_perfetto(header(3000), many))
    assert len(pieces) > 5
    assert max(map(len, pieces)) < 1 << 20
    check_format(json.loads(b"".join(pieces))["traceEvents"])
