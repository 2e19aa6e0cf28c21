"""`kvatlas verify` on recordings of the real vLLM: identical, divergent, refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command import kvatlas
from recordings import change_config, recording


@pytest.mark.parametrize("name", ["full", "async", "window", "rotated", "rotated-window"])
def test_a_faithful_recording_is_identical(name: str, tmp_path: Path) -> None:
    """GIVEN a recording of vLLM WHEN verified THEN it says over how many calls."""
    done = kvatlas("verify", recording(name, tmp_path / name))
    assert (done.code, done.err) == (0, "")
    assert "identical over" in done.out
    assert "not closed" not in done.out


def test_the_json_says_the_same(tmp_path: Path) -> None:
    """GIVEN a recording WHEN verified with --json THEN its keys are those that are documented."""
    done = kvatlas("verify", recording("full", tmp_path / "full"), "--json", "-")
    said = done.json
    assert done.code == 0
    assert said["identical"] is True
    assert said["first_divergence"] is None
    assert said["calls"] == said["engines"][0]["calls"] > 100
    assert said["engines"][0]["steps"] > 50
    assert said["engines"][0]["blocks_compared"]["allocated"] > 10


def test_a_killed_server_is_compared_up_to_its_end(tmp_path: Path) -> None:
    """GIVEN the recording of a killed engine WHEN verified THEN it says how far it goes."""
    done = kvatlas("verify", recording("killed", tmp_path / "killed"))
    assert done.code == 0
    assert "not closed: up to the last complete step" in " ".join(done.out.split())


def test_a_divergence_is_shown_and_exits_with_1(tmp_path: Path) -> None:
    """GIVEN rules of another version WHEN verified THEN the first difference is shown."""
    folder = recording("full", tmp_path / "full")
    change_config(folder, engine_version="pre-42656")
    done = kvatlas("verify", folder)
    assert done.code == 1
    for text in ("NOT identical", "recorded", "twin", "allocated", "allocate_slots of request"):
        assert text in done.out
    assert "the last calls before it" in done.out
    said = kvatlas("verify", folder, "--json", "-").json
    first = said["first_divergence"]
    assert said["identical"] is False
    assert first == said["engines"][0]["first_divergence"]
    assert first["call"] <= said["calls"]
    assert {"what", "recorded", "twin"} <= set(first["differences"][0])
    assert first["before"]


def test_several_engines_are_all_verified(tmp_path: Path) -> None:
    """GIVEN a folder of two engines WHEN verified THEN both are, or the one of the rank asked."""
    recording("full", tmp_path / "engine-0-20261121T000000-1")
    recording("async", tmp_path / "engine-1-20261121T000000-2")
    both = kvatlas("verify", tmp_path, "--json", "-").json
    assert [engine["identical"] for engine in both["engines"]] == [True, True]
    assert both["calls"] == sum(engine["calls"] for engine in both["engines"])
    one = kvatlas("verify", tmp_path, "--engine", 1, "--json", "-").json
    assert [engine["name"] for engine in one["engines"]] == ["engine-1-20261121T000000-2"]
    done = kvatlas("verify", tmp_path, "--engine", 7)
    assert done.code == 2
    assert "no engine of this rank (got 7)" in done.err


@pytest.mark.parametrize(
    ("name", "words"),
    [("sampled", "only windows of steps were recorded"), ("mamba", "recurrent states")],
)
def test_what_cannot_be_verified_says_why(name: str, words: str, tmp_path: Path) -> None:
    """GIVEN a recording that the twin cannot follow WHEN verified THEN one line says why."""
    done = kvatlas("verify", recording(name, tmp_path / name))
    assert done.code == 2
    assert words in done.err
    assert done.err.count("\n") == 1


def test_a_dropped_beginning_is_refused(tmp_path: Path) -> None:
    """GIVEN a recording whose oldest segment is gone WHEN verified THEN one line says so."""
    folder = recording("rotated", tmp_path / "rotated")
    (folder / "000000.kvseg").unlink()
    done = kvatlas("verify", folder)
    assert done.code == 2
    assert "its beginning was dropped" in done.err


def test_unmodelled_features_are_refused_by_name(tmp_path: Path) -> None:
    """GIVEN a server with a KV connector WHEN verified THEN the line names it."""
    folder = recording("full", tmp_path / "full")
    path = folder / "header.json"
    header = json.loads(path.read_text())
    header["live"]["unmodelled"] = ["KV connector"]
    path.write_text(json.dumps(header))
    done = kvatlas("verify", folder)
    assert done.code == 2
    assert "KV connector" in done.err


def test_what_is_no_live_recording_is_refused(tmp_path: Path) -> None:
    """GIVEN a replay's recording, another file, nothing WHEN verified THEN one line each."""
    run = tmp_path / "run.arrows"
    assert kvatlas("replay", "--limit", 3, "--events", run).code == 0
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "text").write_text("no recording")
    for path, words in (
        (run, "not a recording of a live vLLM"),
        (tmp_path / "text", "not a recording"),
        (tmp_path / "absent", "no such recording"),
        (empty, "no recording of an engine"),
    ):
        done = kvatlas("verify", path)
        assert done.code == 2, path
        assert words in done.err
        assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "changes",
    [{"max_model_len": "long"}, {"max_num_batched_tokens": None}, {"kv_cache_groups": [1, 2]}],
)
def test_damaged_settings_are_one_line(changes: dict[str, Any], tmp_path: Path) -> None:
    """GIVEN a header with settings that are none WHEN verified THEN one line, no traceback."""
    folder = recording("full", tmp_path / "full")
    change_config(folder, **changes)
    done = kvatlas("verify", folder)
    assert done.code == 2
    assert done.err.count("\n") == 1


def test_a_name_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    """GIVEN a folder with an escape sequence in its name WHEN verified THEN it is shown escaped."""
    folder = tmp_path / "engine-0-\x1b[31m-1"
    shutil.copytree(recording("full", tmp_path / "full"), folder)
    done = kvatlas("verify", folder)
    assert done.code == 0
    assert "\x1b" not in done.out
