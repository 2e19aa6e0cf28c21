"""Contention against a model that looks at every step by itself, the engine's sums, and by hand."""

from __future__ import annotations

from collections import defaultdict

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from streams import Stream, record, small_workload, streams

from kvatlas.engine import DriveConfig, EngineConfig
from kvatlas.events import CAUSES, Chunk, schema
from kvatlas.jit import COMPILED
from kvatlas.measure.contention import Contention, ContentionResult
from kvatlas.measure.figures import Figures
from kvatlas.workload import generate

NONE = -1


def measured(stream: Stream) -> Contention:
    contention = Contention(stream.header)
    for chunk in stream.resolved():
        contention.feed(chunk)
    return contention


class EveryStep:
    """The definitions: which steps had their head refused, and what preemptions threw away."""

    def __init__(self, stream: Stream) -> None:
        rows = stream.rows()
        self.head: dict[int, tuple[int, int]] = {}  # step: (who was refused, who would have fitted)
        for row in rows[rows["event"] == schema.ALLOCATION_FAILED]:
            if row["cause"] == schema.BY_ADMISSION:
                for step in range(row["step"], row["step"] + row["count"]):
                    assert step not in self.head
                    self.head[step] = int(row["request"]), int(row["other"])
        span_ms: dict[int, float] = {}
        for row in rows[rows["event"] == schema.STEP]:
            for step in range(row["step"], row["step"] + row["count"]):
                span_ms[step] = float(row["span_ms"])
        self.refused_ms: dict[int, float] = defaultdict(float)
        self.held_up_ms: dict[int, float] = defaultdict(float)
        self.stalls_ms: list[float] = []
        before: tuple[int, int] = (NONE, NONE)
        for step, (head, other) in sorted(self.head.items()):
            self.refused_ms[head] += span_ms[step]
            if other != NONE:
                self.held_up_ms[other] += span_ms[step]
            if before == (step - 1, head):
                self.stalls_ms[-1] += span_ms[step]
            else:
                self.stalls_ms.append(span_ms[step])
            before = step, head
        self.wasted: dict[int, int] = defaultdict(int)
        self.caused: dict[int, int] = defaultdict(int)
        self.thrown: list[int] = []
        self.queued_ms: dict[int, float] = {}
        self.again_ms: dict[int, float] = defaultdict(float)
        self.preemptions(rows)

    def preemptions(self, rows: np.ndarray) -> None:
        lost: dict[int, np.void] = {}
        arrived_ms: dict[int, float] = {}
        for row in rows:
            event, request = int(row["event"]), int(row["request"])
            if event == schema.ARRIVED:
                arrived_ms[request] = float(row["time_ms"])
            elif event == schema.PREEMPTED:
                lost[request] = row
                self.thrown.append(int(row["computed_tokens"]))
            elif event == schema.ADMITTED and row["cause"] == schema.BY_NEW:
                self.queued_ms[request] = float(row["time_ms"]) - arrived_ms[request]
            elif event == schema.ADMITTED:
                preempted = lost.pop(request)
                self.again_ms[request] += float(row["time_ms"] - preempted["time_ms"])
                wasted = max(0, int(preempted["computed_tokens"]) - int(row["computed_tokens"]))
                self.wasted[request] += wasted
                if preempted["other"] != request:
                    self.caused[int(preempted["other"])] += wasted


def assert_as_slow(stream: Stream, found: ContentionResult) -> None:
    slow = EveryStep(stream)
    assert found.refused_ms == pytest.approx(sum(slow.refused_ms.values()))
    assert found.head_of_line_ms == pytest.approx(sum(slow.held_up_ms.values()))
    worst = sorted(slow.stalls_ms, reverse=True)[:50]
    assert [stall.refused_s * 1e3 for stall in found.stalls] == pytest.approx(worst)
    assert sum(found.request_wasted_tokens.tolist()) == found.wasted_tokens
    wasted = {row: n for row, n in enumerate(found.request_wasted_tokens.tolist()) if n}
    assert wasted == {row: tokens for row, tokens in slow.wasted.items() if tokens}
    assert [failure.thrown_tokens for failure in found.failures] == sorted(
        slow.thrown, reverse=True
    )[:50]
    assert found.thrown_tokens == sum(slow.thrown)
    queued = {row: ms for row, ms in enumerate(found.queued_ms.tolist()) if ms == ms}
    assert queued == pytest.approx(slow.queued_ms)
    assert {r.request: r.held_up_s * 1e3 for r in found.top_held_up} == pytest.approx(
        {row: ms for row, ms in slow.held_up_ms.items() if ms}
    )
    assert {r.request: r.caused_wasted_tokens for r in found.top_causes} == {
        row: tokens for row, tokens in slow.caused.items() if tokens
    }
    for waits in (*found.top_queued, *found.top_wasted):
        assert waits.refused_s * 1e3 == pytest.approx(slow.refused_ms[waits.request])
        assert waits.waited_again_s * 1e3 == pytest.approx(slow.again_ms[waits.request])


@given(streams())
@settings(max_examples=80)
def test_like_looking_at_every_step(stream: Stream) -> None:
    assert_as_slow(stream, measured(stream).result())


@given(streams())
@settings(max_examples=60)
def test_adds_up_to_the_sums_of_the_engine(stream: Stream) -> None:
    found, sums = measured(stream).result(), stream.replay.sums()
    decisions = stream.replay.result().decisions
    assert found.refused_ms == pytest.approx(sums["refused_ms"])
    assert found.wasted_tokens == sums["recomputed_tokens"]
    assert found.preemptions == sums["preemptions"] == found.request_preemptions.sum()
    assert found.failed_admission == sums["failed_waiting"]
    assert found.failed_prefill + found.failed_decode == sums["failed_running"]
    assert found.computed_tokens == decisions["scheduled_tokens"]
    assert 0 <= found.head_of_line_ms <= found.refused_ms


@given(streams())
@settings(max_examples=20)
def test_cut_anywhere(stream: Stream) -> None:
    # GIVEN the same rows one by one THEN the same result
    whole, cut = measured(stream).result(), Contention(stream.header)
    for chunk in stream.resolved():
        for at in range(len(chunk.rows)):
            cut.feed(Chunk(chunk.rows[at : at + 1], chunk.ids))
    assert repr(cut.result()) == repr(whole)


def crowded() -> Stream:
    """A pool of 9 blocks of 4; requests of 20, 16 and 4 tokens at once; a step takes 10 ms."""
    workload = small_workload(0, rows=3).with_(
        arrival_s=np.zeros(3),
        prompt_tokens=np.array([20, 16, 4], np.int32),
        output_tokens=np.array([8, 2, 2], np.int32),
        ids=np.arange(10, dtype=np.int32),
        id_offsets=np.array([0, 5, 9, 10]),
        num_ids=10,
    )
    config = EngineConfig(num_blocks=9, block_size=4, max_num_seqs=4)
    return record(workload, config, DriveConfig(step_ms_base=10.0, step_ms_per_ktok=0.0))


def test_head_of_line_by_hand() -> None:
    # GIVEN the first takes 5 of 8 blocks: the second needs 4 and is refused, the third needs 1
    found = measured(crowded()).result()
    # THEN 7 of the first one's 8 tokens pass while the third would have fitted
    stall = found.stalls[0]
    assert (stall.request, stall.needed, stall.free, stall.overtaking) == (1, 4, 3, 2)
    assert (stall.step, stall.steps, stall.time_s) == (1, 8, 0.0)
    assert stall.refused_s == pytest.approx(0.08)
    assert stall.head_of_line_s == pytest.approx(0.08)
    assert found.head_of_line_ms == pytest.approx(80)
    (held_up,) = found.top_held_up
    assert held_up.request == 2
    assert held_up.held_up_s == pytest.approx(0.08)
    assert found.queued_ms.tolist() == pytest.approx([0, 80, 80])


def test_preemption_by_hand() -> None:
    # GIVEN two requests of 8 tokens that grow beyond 6 blocks of 4: the second gives way
    workload = small_workload(0, rows=2).with_(
        arrival_s=np.zeros(2),
        prompt_tokens=np.full(2, 8, np.int32),
        output_tokens=np.full(2, 9, np.int32),
        ids=np.arange(4, dtype=np.int32),
        id_offsets=np.array([0, 2, 4]),
        num_ids=4,
    )
    config = EngineConfig(num_blocks=7, block_size=4, enable_prefix_caching=False)
    found = measured(record(workload, config)).result(lambda event: event)
    # THEN all 12 tokens that it had computed are computed again, for the first one
    assert (found.preemptions, found.thrown_tokens, found.wasted_tokens) == (1, 12, 12)
    failure = found.failures[0]
    assert (failure.request, failure.preempted, failure.cause) == (0, 1, "decode")
    assert (failure.needed, failure.free, failure.thrown_tokens) == (1, 0, 12)
    assert failure.largest_free_run == failure.event
    cause = found.top_causes[0]
    assert (cause.request, cause.caused_preemptions, cause.caused_wasted_tokens) == (0, 1, 12)
    assert found.most_preemptions == 1
    assert found.preempted_again == 0
    # THEN nothing is left of the prefill, and 28 + 12 tokens were computed
    assert found.computed_tokens == 2 * (8 + 8) + 12


@pytest.mark.skipif(not COMPILED, reason="takes a minute uncompiled")
def test_only_the_costliest_are_kept() -> None:
    workload = generate("survivors", num_requests=300, requests_per_s=40)
    stream = record(workload, EngineConfig(num_blocks=600, max_num_seqs=64))
    found = measured(stream).result()
    slow = EveryStep(stream)
    assert len(slow.stalls_ms) > 50 == len(found.stalls)
    assert [stall.refused_s * 1e3 for stall in found.stalls] == pytest.approx(
        sorted(slow.stalls_ms, reverse=True)[:50]
    )
    rows = stream.rows()
    for stall in found.stalls:
        row = rows[stall.event]
        assert row["event"] == schema.ALLOCATION_FAILED
        assert CAUSES[row["cause"]] == "admission"
        assert (int(row["request"]), int(row["step"])) == (stall.request, stall.step)


def test_queue_time_is_that_of_the_engine() -> None:
    # GIVEN a timed run THEN queue times are those from arrival to the first step
    workload = small_workload(3)
    config = EngineConfig(num_blocks=30, block_size=4, max_num_seqs=2)
    stream = record(workload, config, DriveConfig(arrivals="timed"))
    header = msgspec.structs.replace(stream.header, config={"arrivals": "timed"})
    contention, backlog = Contention(header), measured(stream)
    for chunk in stream.resolved():
        contention.feed(chunk)
    queued_s = stream.replay.result().first_scheduled_ms / 1e3 - workload.arrival_s
    found, sheet, lacking = contention.result(), Figures(), Figures()
    assert found.queued_ms / 1e3 == pytest.approx(queued_s)
    worst = [waits.queued_s for waits in found.top_queued]
    assert worst == pytest.approx(sorted(queued_s[queued_s > 0], reverse=True))
    contention.figures(sheet)
    assert sheet["queue.time_mean_s"] == pytest.approx(queued_s.mean())
    assert sheet["queue.time_p50_s"] == pytest.approx(np.median(queued_s))
    # THEN a backlog has none
    backlog.figures(lacking)
    assert "backlog" in lacking.unavailable["queue.time_p99_s"]
    assert backlog.result().top_queued == ()


def test_figures() -> None:
    sheet = Figures()
    measured(crowded()).figures(sheet)
    assert sheet["queue.head_of_line_s"] == pytest.approx(0.08)
    assert sheet["queue.head_refused_s"] == pytest.approx(0.08)
    assert sheet["queue.longest_stall_s"] == pytest.approx(0.08)
    assert sheet["allocation.failed_admission"] == 8
    assert sheet["preemption.waste"] == 0
    calm = Figures()
    measured(record(small_workload(1), EngineConfig(num_blocks=900))).figures(calm)
    assert list(calm.values) == list(sheet.values)
    assert "never refused" in calm.unavailable["queue.longest_stall_s"]
