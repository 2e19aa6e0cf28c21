"""Temporal fragmentation against a model that looks at every slot in every step, and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from every_slot import EverySlot
from hypothesis import given, settings
from streams import Stream, record, small_workload, streams

from kvatlas.engine import DriveConfig, EngineConfig
from kvatlas.engine.nano.config import NanoConfig
from kvatlas.engine.nano.replay import NanoReplay
from kvatlas.engine.recorded import recording_header
from kvatlas.events import Chunk, schema
from kvatlas.measure.figures import Figures
from kvatlas.measure.temporal import TemporalResult, TemporalUse
from kvatlas.workload import generate

NONE = -1


def measured(stream: Stream) -> TemporalUse:
    use = TemporalUse(stream.header)
    for chunk in stream.resolved():
        use.feed(chunk)
    return use


def assert_as_slow(stream: Stream, found: TemporalResult) -> None:
    slow = EverySlot(stream)
    assert found.never_used_slot_ms == pytest.approx(slow.never_ms)
    assert found.idle_cached_slot_ms == pytest.approx(slow.idle_ms)
    assert found.owned_slot_ms == pytest.approx(slow.owned_ms)
    assert found.prefill.blocks == slow.blocks[schema.BY_PREFILL]
    assert found.decode.blocks == slow.blocks[schema.BY_DECODE]
    ends = dict(enumerate(found.request_end_slots.tolist()))
    assert {row: slots for row, slots in ends.items() if slots != NONE} == slow.end_slots
    if stream.replay.config.async_scheduling or len(stream.header.groups) > 1:
        return
    # A request's own waste is exact where it decodes in every step: not while its last token is in
    # flight.
    assert found.prefill.wasted_slot_ms == pytest.approx(slow.prefill_ms)
    wasted = {row: ms for row, ms in enumerate(found.request_wasted_slot_ms.tolist()) if ms > 1e-6}
    assert wasted == pytest.approx({row: ms for row, ms in slow.wasted_ms.items() if ms > 0})


@given(streams())
@settings(max_examples=60)
def test_like_looking_at_every_slot(stream: Stream) -> None:
    assert_as_slow(stream, measured(stream).result())


@given(streams(hybrid=True))
@settings(max_examples=15)
def test_like_looking_at_every_slot_of_every_group(stream: Stream) -> None:
    assert_as_slow(stream, measured(stream).result())


@given(streams())
@settings(max_examples=60)
def test_adds_up_to_the_sums_of_the_engine(stream: Stream) -> None:
    found, sums = measured(stream).result(), stream.replay.sums()
    assert found.internal_slot_ms == pytest.approx(sums["wasted_slot_ms"])
    assert found.owned_block_ms == pytest.approx(sums["used_block_ms"])
    assert found.busy_ms == pytest.approx(sums["busy_ms"])
    assert found.prefill.blocks + found.decode.blocks == sums["allocations"]
    assert found.prefill.evictions + found.decode.evictions == sums["evictions"]
    assert found.prefill.preemptions + found.decode.preemptions == sums["preemptions"]
    assert found.prefill.failures + found.decode.failures == sums["failed_running"]
    assert found.prefill.refusals == sums["failed_waiting"]
    split = found.prefill.wasted_slot_ms + found.decode.wasted_slot_ms
    assert split == pytest.approx(found.internal_slot_ms)
    assert found.not_yet_used_slot_ms >= -1e-6
    if not stream.replay.config.async_scheduling:
        assert found.request_wasted_slot_ms.sum() == pytest.approx(found.internal_slot_ms)
    sessions = sum(session.wasted_slot_ms for session in found.top_sessions)
    assert sessions == pytest.approx(found.request_wasted_slot_ms.sum())


@given(streams())
@settings(max_examples=20)
def test_shares_add_up(stream: Stream) -> None:
    sheet = Figures()
    measured(stream).figures(sheet)
    parts = [sheet[f"waste.{name}_share"] for name in ("never_used", "not_yet_used", "idle_cached")]
    assert sum(part or 0 for part in parts) == pytest.approx(sheet["waste.temporal"])
    usage = (sheet["usage.resident_time_weighted"] or 0) * stream.header.usable_blocks
    found = measured(stream).result()
    size = stream.header.groups[0].block_size
    assert usage * size * found.span_ms == pytest.approx(found.resident_slot_ms)


def lonely(output_tokens: int) -> Stream:
    """Two requests of 5 tokens, one after the other, in blocks of 4; a step takes 10 ms."""
    workload = small_workload(0, rows=2).with_(
        arrival_s=np.array([0.0, 0.05]),
        prompt_tokens=np.full(2, 5, np.int32),
        output_tokens=np.full(2, output_tokens, np.int32),
        ids=np.arange(4, dtype=np.int32),
        id_offsets=np.array([0, 2, 4]),
        num_ids=4,
        session=np.array([7, NONE], np.int32),
    )
    drive = DriveConfig(arrivals="timed", step_ms_base=10.0, step_ms_per_ktok=0.0)
    return record(workload, EngineConfig(num_blocks=20, block_size=4), drive)


def test_by_hand() -> None:
    # GIVEN 3 steps in which 5, 6 and 7 of 8 slots are filled: the eighth never is
    found = measured(lonely(3)).result()
    # THEN each request leaves one slot unused for 30 ms, and two for a while
    assert found.never_used_slot_ms == pytest.approx(2 * 30)
    assert found.not_yet_used_slot_ms == pytest.approx(2 * (2 + 1) * 10)
    assert found.owned_slot_ms == pytest.approx(2 * 8 * 30)
    # The first one's full block stays cached from 30 to 90 ms, the second one's from 80 to 90: the
    # engine steps once more, empty, after its last request.
    assert found.idle_cached_slot_ms == pytest.approx(4 * 60 + 4 * 10)
    assert found.span_ms == pytest.approx(90)
    assert (found.prefill.blocks, found.decode.blocks) == (4, 0)
    assert found.prefill.wasted_slot_ms == pytest.approx(2 * 3 * 10)
    assert found.decode.wasted_slot_ms == pytest.approx(2 * (2 + 1) * 10)
    first, second = found.top_requests
    assert (first.request, first.session, first.end_slots) == (0, 7, 1)
    assert first.wasted_slot_ms == pytest.approx(60)
    assert first.mean_slots == pytest.approx(2)
    assert second.session is None
    assert [(s.session, s.requests) for s in found.top_sessions] == [(7, 1)]


def test_a_last_block_that_is_filled_wastes_nothing_for_ever() -> None:
    found = measured(lonely(4)).result()
    assert found.never_used_slot_ms == 0
    assert found.not_yet_used_slot_ms == pytest.approx(2 * (3 + 2 + 1) * 10)


def test_the_comb_leaves_what_its_lengths_say() -> None:
    # GIVEN prompts of 512 tokens; every second one answers with 1,024 tokens, the others with 8
    workload = generate("comb", num_requests=20)
    found = measured(record(workload, EngineConfig(num_blocks=4000, block_size=16))).result()
    # THEN 519 tokens leave 9 of 528 slots, and 1,535 leave 1 of 1,536
    assert found.request_end_slots.tolist() == [9, 1] * 10
    assert found.decode.blocks == 10 * (1536 - 512) // 16 + 10


@pytest.mark.parametrize("seed", range(6))
def test_steps_without_decoding_fill_no_slot(seed: int) -> None:
    # GIVEN nano-vLLM, where a step either prefills or decodes
    chunks: list[Chunk] = []
    workload, config = small_workload(seed), NanoConfig(num_blocks=40, block_size=4)
    replay = NanoReplay(workload, config, on_events=lambda chunk: chunks.append(chunk.copy()))
    for _ in replay.slices():
        pass
    header = recording_header(replay, version="test", engine="nano-vLLM")
    found, sums = measured(Stream(header, tuple(chunks), replay)).result(), replay.sums()
    # THEN the requests' waste adds up to the engine's
    assert found.internal_slot_ms == pytest.approx(sums["wasted_slot_ms"])
    assert found.owned_block_ms == pytest.approx(sums["used_block_ms"])
    assert found.request_wasted_slot_ms.sum() == pytest.approx(sums["wasted_slot_ms"])


def told(*events: dict[str, Any]) -> TemporalResult:
    """Measure events told by hand, in a pool of 8 blocks of 4 slots."""
    rows = np.zeros(len(events), schema.EVENT)
    ids: list[int] = []
    for at, event in enumerate(events):
        for column in schema.COLUMNS:
            rows[at][column.name] = event.get(column.name, column.absent)
        rows[at]["time_ms"] = event.get("time_ms", 0.0)
        blocks = event.get("blocks", [])
        rows[at]["blocks_at"] = len(ids) if blocks else NONE
        rows[at]["count"] = event.get("count", len(blocks) or NONE)
        ids += blocks
    header = lonely(3).header
    use = TemporalUse(header)
    use.feed(Chunk(rows, np.array(ids, np.int32)))
    return use.result()


def step(number: int, wasted_slots: int) -> dict[str, Any]:
    times = {"step": number, "time_ms": 10.0 * (number - 1), "span_ms": 10.0}
    return {"event": schema.STEP, "count": 1, "wasted_slots": wasted_slots, "tokens": 0, **times}


def test_moves_resets_and_explicit_evictions() -> None:
    who = {"request": 0, "group": 0}
    found = told(
        {"event": schema.ALLOCATED, "cause": schema.BY_PREFILL, "blocks": [1, 2, 3], "position": 0,
         "ref_count": 1, "computed_tokens": 10, **who},
        {"event": schema.CACHED, "blocks": [1, 2], "position": 0, "key": 0, "key_stride": 1, **who},
        {"event": schema.ADMITTED, "tokens": 10, "computed_tokens": 0, **who},
        {"event": schema.SCHEDULED, "tokens": 10, "computed_tokens": 10, **who},
        step(1, 2),
        {"event": schema.MOVED, "blocks": [1, 2, 3], "to_block": 5, "time_ms": 10.0},
        step(2, 2),
        {"event": schema.FREED, "cause": schema.BY_FINISHED, "blocks": [7, 6, 5], "position": 2,
         "ref_count": 0, "time_ms": 20.0, **who},
        {"event": schema.FINISHED, "computed_tokens": 10, "time_ms": 20.0, **who},
        step(3, 0),
        {"event": schema.EVICTED, "cause": schema.BY_EXPLICIT, "blocks": [6], "time_ms": 30.0,
         "key": 1, "group": 0},
        step(4, 0),
        {"event": schema.RESET, "count": 1, "time_ms": 40.0},
        step(5, 0),
    )  # fmt: skip
    # THEN 2 of 12 slots are never used in 20 ms, wherever they are
    assert found.owned_slot_ms == 12 * 20
    assert found.never_used_slot_ms == 2 * 20
    assert found.not_yet_used_slot_ms == 0
    # THEN two blocks are cached for 10 ms, one for 10 more, none after the reset
    assert found.idle_cached_slot_ms == 8 * 10 + 4 * 10
    assert found.evictable_block_ms == 2 * 10 + 10
    assert found.span_ms == 50
    assert found.request_end_slots[0] == 2


def test_states_have_no_slots() -> None:
    from kvatlas.engine.specs import MambaSpec

    config = EngineConfig(
        num_blocks=60,
        kv_cache_groups=(MambaSpec(block_size=16, mamba_cache_mode="none"),),
        enable_prefix_caching=False,
    )
    sheet = Figures()
    measured(record(small_workload(1), config)).figures(sheet)
    assert sheet["waste.temporal"] is None
    assert "one piece" in sheet.unavailable["waste.decode_mean_slots"]


def test_the_same_names_whatever_can_be_known() -> None:
    names = []
    for rows in (2, 14):
        sheet = Figures()
        measured(record(small_workload(3, rows=rows), EngineConfig(num_blocks=60))).figures(sheet)
        names.append(list(sheet.values))
    assert names[0] == names[1]
