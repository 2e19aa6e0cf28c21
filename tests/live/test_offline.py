"""Offline runs (`LLM.generate`) recorded: sync and async, full and hybrid, spawned and forked."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from load import Asked
from offline import Offline
from seen import seen, verified

from kvatlas.errors import InputError
from kvatlas.events import open_recording
from kvatlas.events.live.folders import engine_folders, read_facts


@dataclass(frozen=True)
class Way:
    """A way to run vLLM."""

    name: str
    model: str = "llama"
    stand_in: str = ""
    in_process: bool = True
    engine: dict[str, object] = field(default_factory=dict)


ASYNC: dict[str, object] = {"async_scheduling": True}
WAYS = [
    Way("sync"),
    Way("async", stand_in="async", engine=ASYNC),
    Way("hybrid-sync", "hybrid"),
    Way("hybrid-async", "hybrid", "async", engine=ASYNC),
    Way("async-forked", stand_in="async,fork", in_process=False, engine=ASYNC),
    Way("priority", engine={"scheduling_policy": "priority"}),
    Way("no-prefix-cache", engine={"enable_prefix_caching": False}),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_a_recorded_run_answers_the_same_and_verifies(
    way: Way,
    offline: Offline,
    models: dict[str, Path],
    requests_150: list[Asked],
    plain_answers: dict[str, dict[str, tuple[int, ...]]],
    tmp_path: Path,
) -> None:
    offline.start(
        models[way.model],
        requests_150,
        record=tmp_path,
        stand_in=way.stand_in,
        in_process=way.in_process,
        engine=way.engine,
    )
    assert offline.finish() == plain_answers[way.model]

    (engine,) = engine_folders(tmp_path)
    facts = read_facts(engine).live
    asynchronous = way.engine.get("async_scheduling", False)
    assert facts["scheduler"] == ("AsyncScheduler" if asynchronous else "Scheduler")
    assert len(read_facts(engine).header.groups) == (2 if way.model == "hybrid" else 1)

    moment = seen(tmp_path)
    assert moment.health.lost_events == moment.health.errors == 0
    assert moment.requests.arrived == moment.requests.finished == len(requests_150)
    assert moment.requests.preemptions > 0
    assert moment.pool.used_blocks == 0
    if way.in_process:  # vLLM kills the process of an engine that does not end at once
        assert moment.health.state == "ended"
        assert open_whole(engine) == ""

    result = verified(tmp_path)
    assert result.identical, result.text
    assert result.calls > len(requests_150)


def test_resets_of_the_cache_are_recorded(
    offline: Offline,
    models: dict[str, Path],
    requests_150: list[Asked],
    plain_answers: dict[str, dict[str, tuple[int, ...]]],
    tmp_path: Path,
) -> None:
    offline.start(models["llama"], requests_150, record=tmp_path, parts=3)
    assert offline.finish() == plain_answers["llama"]
    moment = seen(tmp_path)
    assert moment.evictions.resets == 3
    assert moment.pool.evictable_blocks == moment.pool.used_blocks == 0
    result = verified(tmp_path)
    assert result.identical, result.text


def test_a_sample_of_the_steps_says_that_it_is_one(
    offline: Offline,
    models: dict[str, Path],
    requests_150: list[Asked],
    plain_answers: dict[str, dict[str, tuple[int, ...]]],
    tmp_path: Path,
) -> None:
    offline.start(
        models["llama"], requests_150, record=tmp_path, parts=3, KVATLAS_RECORD_SAMPLE="0.4"
    )
    assert offline.finish() == plain_answers["llama"]
    moment = seen(tmp_path)
    assert moment.health.state == "ended"
    assert "40" in moment.health.partial
    assert moment.health.errors == moment.health.lost_events == 0
    assert moment.step > 0
    with pytest.raises(InputError, match="sample"):
        verified(tmp_path)


def test_prompts_do_not_leave(
    offline: Offline, models: dict[str, Path], requests_150: list[Asked], tmp_path: Path
) -> None:
    few = requests_150[:20]
    offline.start(models["llama"], few, record=tmp_path)
    answers = offline.finish()
    (engine,) = engine_folders(tmp_path)
    recorded = b"".join(path.read_bytes() for path in engine.iterdir())
    assert len(recorded) > 1000
    for tokens in [*(one.prompt for one in few), *answers.values()]:
        for code in "hiq":
            assert array(code, tokens[:4]).tobytes() not in recorded


def open_whole(engine: Path) -> str:
    """Read a recording to its end and return what it says is missing."""
    recording = open_recording(str(engine))
    for _ in recording.chunks():
        pass
    return recording.partial
