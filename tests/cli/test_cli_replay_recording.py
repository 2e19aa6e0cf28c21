"""`kvatlas replay RECORDING`: the recorded load under its own settings, held against the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from command import kvatlas, replayed
from docs.draw_prediction import picture
from recordings import change_config, recording


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replay of a trace file, recorded: small pool, own settings and clock."""
    folder = tmp_path_factory.mktemp("recorded")
    trace = folder / "trace.jsonl"
    rows = (
        {
            "timestamp": 40 * i,
            "input_length": 600 + 40 * (i % 7),
            "output_length": 80 + i % 30,
            "hash_ids": [0, 1 + i % 5],
        }
        for i in range(60)
    )
    trace.write_text("".join(json.dumps(row) + "\n" for row in rows))
    replayed(
        trace, "--blocks", 96, "--max-num-seqs", 12, "--arrivals", "timed",
        "--max-num-batched-tokens", 700, "--step-ms-base", 6, "--events", folder / "run.arrows",
    )  # fmt: skip
    return folder / "run.arrows"


def decisions(said: Any) -> Any:
    """What was decided."""
    return said["decisions"]


def test_a_recorded_replay_predicts_itself_exactly(run: Path) -> None:
    """GIVEN a replay's recording WHEN replayed without flags THEN nothing differs."""
    said = replayed(run)
    prediction = said["prediction"]
    assert prediction["changed"] == []
    assert prediction["step_time"] is None
    for name, error in prediction["error"].items():
        assert error["worst"] == pytest.approx(0.0, abs=1e-9), name
    for name, total in prediction["totals"].items():
        assert total["predicted"] == pytest.approx(total["recorded"]), name
    assert prediction["totals"]["preemptions"]["recorded"] > 0
    assert prediction["totals"]["token_hit_rate"]["recorded"] > 0.3
    config = said["config"]
    assert (config["num_blocks"], config["max_num_seqs"], config["step_ms_base"]) == (96, 12, 6)
    assert config["arrivals"] == "timed"
    assert len(prediction["bounds_s"]) == len(prediction["recorded"]["usage"]) + 1


def test_a_flag_makes_it_a_what_if(run: Path) -> None:
    """GIVEN a recording WHEN replayed with --blocks THEN that alone changes, and is said."""
    said = replayed(run, "--blocks", 400)
    assert said["prediction"]["changed"] == ["--blocks 400"]
    assert said["config"]["num_blocks"] == 400
    assert said["config"]["max_num_batched_tokens"] == 700
    totals = said["prediction"]["totals"]["preemptions"]
    assert totals["predicted"] < totals["recorded"]
    done = kvatlas("replay", run, "--blocks", 400)
    assert done.code == 0
    assert "a what-if: --blocks 400" in done.out


def test_a_flag_that_says_what_was_recorded_changes_nothing(run: Path) -> None:
    """GIVEN the recorded value as a flag WHEN replayed THEN it is still a test."""
    assert replayed(run, "--blocks", 96)["prediction"]["changed"] == []


def test_without_its_trace_the_events_are_the_load(run: Path, tmp_path: Path) -> None:
    """GIVEN a recording whose trace is gone WHEN replayed THEN the same decisions, and a note."""
    copy = tmp_path / "run.arrows"
    copy.write_bytes(run.read_bytes())
    whole = replayed(copy)
    trace = run.with_name("trace.jsonl")
    kept = trace.read_bytes()
    trace.unlink()
    try:
        alone = replayed(copy)
    finally:
        trace.write_bytes(kept)
    assert decisions(alone) == decisions(whole)
    assert any("the load is what the events tell" in note for note in alone["notes"])


def test_a_served_recording_is_replayed_on_its_own_clock(tmp_path: Path) -> None:
    """GIVEN a recorded vLLM WHEN replayed THEN its settings, arrivals and fitted steps are used."""
    folder = recording("full", tmp_path / "full")
    header = json.loads((folder / "header.json").read_text())
    said = replayed(folder)
    assert said["config"]["num_blocks"] == header["num_blocks"]
    assert said["config"]["arrivals"] == "timed"
    fit = said["prediction"]["step_time"]
    assert fit["steps"] > 20
    assert said["config"]["step_ms_base"] == fit["base_ms"]
    assert said["config"]["step_ms_per_ktok"] == fit["per_ktok_ms"]
    assert "fitted to" in said["exactness"]["modelled"]
    other = replayed(folder, "--step-ms-base", 3)
    assert other["config"]["step_ms_base"] == 3
    assert other["prediction"]["changed"] == ["--step-ms-base 3"]


def test_windows_keep_their_groups(tmp_path: Path) -> None:
    """GIVEN a recorded model with windows WHEN replayed THEN its groups are those recorded."""
    folder = recording("window", tmp_path / "window")
    groups = json.loads((folder / "header.json").read_text())["groups"]
    said = replayed(folder)["config"]["kv_cache_groups"]
    assert [group["kind"] for group in said] == [group["kind"] for group in groups]
    done = kvatlas("replay", folder, "--block-size", groups[0]["block_size"] * 2)
    windowed = groups[0]["kind"] != "FullAttentionSpec" or len(groups) > 1
    assert done.code == (2 if windowed else 0)


def test_another_block_size_keeps_the_memory(run: Path) -> None:
    """GIVEN one group of full attention WHEN --block-size is halved THEN twice the blocks."""
    said = replayed(run, "--block-size", 8)
    assert said["config"]["num_blocks"] == 192
    assert said["config"]["block_sizes"] == [8]


def test_the_load_may_be_cut(run: Path) -> None:
    """GIVEN --limit WHEN replayed THEN only so many requests of the load are."""
    assert replayed(run, "--limit", 7)["decisions"]["requests"] == 7
    assert kvatlas("replay", run, "--limit", 0).code == 2


@pytest.mark.parametrize("flag", [("--format", "mooncake"), ("--seed", "3"), ("--sort",)])
def test_flags_of_traces_are_refused(run: Path, flag: tuple[str, ...]) -> None:
    """GIVEN a recording WHEN a flag says how a trace is read THEN one line names the flag."""
    done = kvatlas("replay", run, *flag)
    assert done.code == 2
    assert flag[0] in done.err
    assert done.err.count("\n") == 1


def test_several_engines_are_named(tmp_path: Path) -> None:
    """GIVEN a folder of two engines WHEN replayed THEN one line names their folders."""
    recording("full", tmp_path / "engine-0-20261121T000000-1")
    recording("async", tmp_path / "engine-1-20261121T000000-2")
    done = kvatlas("replay", tmp_path)
    assert done.code == 2
    assert "engine-1-20261121T000000-2" in done.err


@pytest.mark.parametrize(
    "changes",
    [
        {"max_num_seqs": "many"},
        {"watermark": [1]},
        {"policy": 3},
        {"kv_cache_groups": [3]},
        {"kv_cache_groups": [{"kind": "Nonsense"}]},
        {"num_blocks": True},
    ],
)
def test_damaged_settings_are_one_line(changes: dict[str, Any], tmp_path: Path) -> None:
    """GIVEN a header with settings that are none WHEN replayed THEN one line, no traceback."""
    folder = recording("full", tmp_path / "full")
    change_config(folder, **changes)
    done = kvatlas("replay", folder)
    assert done.code == 2
    assert done.err.count("\n") == 1


def test_a_recording_of_a_recordings_replay(run: Path, tmp_path: Path) -> None:
    """GIVEN a replay of a recording, recorded itself WHEN replayed THEN it decides the same."""
    first = replayed(run, "--events", tmp_path / "again.arrows")
    again = replayed(tmp_path / "again.arrows")
    assert decisions(again) == decisions(first)


def test_the_picture_of_a_prediction_is_whole(run: Path) -> None:
    """GIVEN a replayed recording WHEN drawn THEN it is well-formed, two lines a panel."""
    drawn = "\n".join(picture(replayed(run)))
    root = ElementTree.fromstring(drawn)
    lines = [node for node in root.iter() if node.get("stroke-linejoin") == "round"]
    assert len(lines) == 6
    assert all("nan" not in (node.get("d") or "") for node in lines)
    assert "off by 0.0 points in the mean" in drawn
