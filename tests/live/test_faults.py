"""What goes wrong on real machines: vLLM answers as if nothing were, and the losses are told.

Each test runs a real vLLM with one fault. Its answers must be those of the run that nobody records,
what was recorded before the fault must read, and what was lost must be counted where people look.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from load import Asked, draw_requests, draw_short_requests
from offline import Offline
from seen import Viewer, seen, verified

from kvatlas.events.live.folders import engine_folders

Answers = dict[str, tuple[int, ...]]

# Some 1.8 MB of records, in segments of 256 kB where 1 MiB is the bound.
MANY = draw_short_requests(4000)
FEW = 20


@pytest.fixture(scope="module")
def many_answers(offline: Offline, models: dict[str, Path]) -> Answers:
    """Return the answers to many short requests when nothing records."""
    offline.start(models["llama"], MANY, record=None)
    return offline.finish()


def test_an_engine_killed_leaves_all_that_was_recorded(
    offline: Offline, models: dict[str, Path], tmp_path: Path
) -> None:
    offline.start(models["llama"], draw_requests(600), record=tmp_path)
    viewer = Viewer(tmp_path)
    viewer.wait_for(lambda moments: bool(moments) and moments[0].requests.finished > 40)
    offline.kill()

    (before,) = viewer.moments()
    (after,) = viewer.wait_for(lambda moments: moments[0].health.state == "cut off")
    viewer.close()
    again = seen(tmp_path)
    assert again.events == after.events >= before.events
    assert again.step == after.step >= before.step > 0
    assert again.health.errors == again.health.lost_events == 0
    assert again.requests.running > 0  # they were running when it died
    result = verified(tmp_path)
    assert result.identical, result.text


def test_a_ring_that_overflows_drops_the_oldest_and_counts(
    offline: Offline, models: dict[str, Path], many_answers: Answers, tmp_path: Path
) -> None:
    offline.start(models["llama"], MANY, record=tmp_path, KVATLAS_RECORD_BYTES="1MiB")
    fast, slow = Viewer(tmp_path), Viewer(tmp_path, interval_s=2.0, budget_events=500)
    assert offline.finish() == many_answers

    (engine,) = engine_folders(tmp_path)
    segments = sorted(engine.glob("*.kvseg"))
    assert sum(segment.stat().st_size for segment in segments) <= 1 << 20
    assert segments[0].name > "000000.kvseg"

    (seen_fast,) = fast.wait_for(lambda moments: moments[0].health.state == "ended")
    fast.close()
    slow.close()
    (seen_slow,) = slow.moments()
    # Who keeps up loses nothing of what is dropped later; who does not, is told.
    whole = seen_fast.requests.arrived == len(MANY) and not seen_fast.health.partial
    assert whole == (seen_fast.health.lost_segments == 0)
    assert seen_slow.health.lag_events > 0 or seen_slow.health.lost_segments > 0
    assert seen_slow.events < seen_fast.events

    late = seen(tmp_path)
    assert late.health.lost_segments > 0
    assert "dropped" in late.health.partial
    assert late.pool == seen_fast.pool
    assert late.requests.running == late.requests.waiting == 0


def test_a_full_disk_loses_records_until_there_is_room(
    offline: Offline, models: dict[str, Path], many_answers: Answers, tmp_path: Path
) -> None:
    offline.start(
        models["llama"],
        MANY,
        record=tmp_path,
        stand_in="disk-full-for-a-while",
        KVATLAS_RECORD_BYTES="2MiB",
    )
    viewer = Viewer(tmp_path)
    assert offline.finish() == many_answers
    assert offline.log.read_text().count("recording waits for room") == 1

    (watched,) = viewer.wait_for(lambda moments: moments[0].health.state == "ended")
    viewer.close()
    again = seen(tmp_path)
    for moment in (watched, again):
        assert moment.health.lost_events > 0
        assert "missing" in moment.health.partial
        assert moment.pool.used_blocks == 0
        assert moment.requests.arrived > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 600 kB: room for two segments of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=600k", "kvatlas-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode != 0:
        pytest.skip("this user may not mount a disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_small_disk_keeps_what_fitted(
    offline: Offline, models: dict[str, Path], many_answers: Answers, small_disk: Path
) -> None:
    offline.start(models["llama"], MANY, record=small_disk, KVATLAS_RECORD_BYTES="1MiB")
    viewer = Viewer(small_disk)
    viewer.wait_for(lambda moments: bool(moments) and moments[0].health.lost_events > 0)
    assert offline.finish() == many_answers

    # The whole load is 1.8 MB of records; a third of them fits.
    after = seen(small_disk)
    assert after.health.lost_events > 1000
    assert after.events > 1000
    # The viewer gets there too, however late it last looked while the engine ran.
    viewer.wait_for(lambda moments: moments[0].health.lost_events == after.health.lost_events)
    viewer.close()
    (watched,) = viewer.moments()
    assert watched.events == after.events


def test_a_clock_that_goes_backwards_stands_still(
    offline: Offline,
    models: dict[str, Path],
    requests_150: list[Asked],
    plain_answers: dict[str, Answers],
    tmp_path: Path,
) -> None:
    offline.start(models["llama"], requests_150, record=tmp_path, stand_in="clock-backwards")
    assert offline.finish() == plain_answers["llama"]
    moment = seen(tmp_path)
    assert moment.health.state == "ended"
    assert moment.requests.finished == len(requests_150)
    assert 0 < moment.time_s < 60
    result = verified(tmp_path)
    assert result.identical, result.text


def test_errors_in_the_recorder_are_counted_and_vllm_goes_on(
    offline: Offline,
    models: dict[str, Path],
    requests_150: list[Asked],
    plain_answers: dict[str, Answers],
    tmp_path: Path,
) -> None:
    offline.start(models["llama"], requests_150, record=tmp_path, stand_in="hook-errors")
    assert offline.finish() == plain_answers["llama"]
    assert offline.log.read_text().count("error while recording, vLLM is not affected") == 1
    moment = seen(tmp_path)
    assert moment.health.state == "ended"
    assert moment.health.errors > 2
    assert "a fault of the test's" in moment.health.last_error
    assert moment.pool.used_blocks == 0  # it found its way back


def test_a_recorder_that_always_fails_gives_up(
    offline: Offline,
    models: dict[str, Path],
    requests_150: list[Asked],
    plain_answers: dict[str, Answers],
    tmp_path: Path,
) -> None:
    offline.start(models["llama"], requests_150, record=tmp_path, stand_in="hook-always-fails")
    assert offline.finish() == plain_answers["llama"]
    assert offline.log.read_text().count("recording stops after 100 errors") == 1
    moment = seen(tmp_path)
    assert moment.health.errors == 100
    assert moment.health.lost_events > 0


@pytest.mark.parametrize(
    ("stand_in", "said"),
    [("unknown-version", "kvatlas does not record: it knows vLLM 0.32, this is 0.99.0"),
     ("", "kvatlas does not record: KVATLAS_RECORD: must name a folder")],
)  # fmt: skip
def test_what_cannot_be_recorded_is_one_line(
    stand_in: str,
    said: str,
    offline: Offline,
    models: dict[str, Path],
    requests_150: list[Asked],
    plain_answers: dict[str, Answers],
    tmp_path: Path,
) -> None:
    record = tmp_path / "recording"
    if not stand_in:
        record.write_text("a file where a folder should be")
    offline.start(models["llama"], requests_150[:FEW], record=record, stand_in=stand_in)
    answers = offline.finish()
    assert answers == {one.name: plain_answers["llama"][one.name] for one in requests_150[:FEW]}
    lines = [line for line in offline.log.read_text().splitlines() if "kvatlas" in line]
    assert len([line for line in lines if said in line]) == 1
    assert not engine_folders(record)


def test_a_folder_that_cannot_be_made_is_one_line(
    offline: Offline,
    models: dict[str, Path],
    requests_150: list[Asked],
    plain_answers: dict[str, Answers],
) -> None:
    offline.start(models["llama"], requests_150[:FEW], record=Path("/proc/nowhere"))
    answers = offline.finish()
    assert answers == {one.name: plain_answers["llama"][one.name] for one in requests_150[:FEW]}
    assert offline.log.read_text().count("kvatlas does not record") == 1
