"""`kvatlas device`: what its verbs print, their JSON, exit codes, and input that cannot be."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from naive_allocator import MIB, NaiveAllocator, OutOfMemory, write
from snapshot_files import SHARED

from kvatlas.cli.__main__ import run
from kvatlas.device import AllocatorSettings
from kvatlas.live import history_folder

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "device-tools.md"
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two scenes of 7 MiB blocks in segments of 20 MiB: the second has more, and fails."""
    folder = tmp_path_factory.mktemp("snapshots")
    paths = {}
    for name, blocks, last in (("before", 120, 300), ("after", 134, 384)):
        naive = NaiveAllocator(AllocatorSettings(), capacity=1670 * MIB)
        for _ in range(blocks):
            naive.malloc(7 * MIB)
        if name == "after":
            with pytest.raises(OutOfMemory):
                naive.malloc(last * MIB)
        else:
            naive.malloc(last * MIB)
        paths[name] = str(write(naive.dump(), folder / f"{name}.pickle"))
    return paths


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)


def printed(capsys: Captured) -> str:
    out = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    return " ".join(out.split())


def documented_keys(title: str) -> set[str]:
    """Return the keys in the table under a heading of the guide."""
    text = GUIDE.read_text(encoding="utf-8").split(f"\n### {title}\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def as_json(capsys: Captured, *args: str, code: int = 0) -> Any:
    assert run([*args, "--json", "-"]) == code
    return json.loads(capsys.readouterr().out)


def test_what_if_says_who_passes(snapshots: dict[str, str], capsys: Captured) -> None:
    assert run(["device", "what-if", snapshots["after"], "--memory", "1670MiB"]) == 0
    text = printed(capsys)
    assert "Least memory: expandable_segments:True, 1.31 GiB" in text
    assert "less than the recorded settings need" in text
    assert "the defaults 1.68 GiB +384 MiB OOM at event 201 1" in text
    assert "garbage_collection_threshold:0.8" in text
    assert "a limited capacity" in text
    assert "replays to the byte" in text


def test_what_if_names_the_memory_that_did_not_suffice(
    snapshots: dict[str, str], capsys: Captured
) -> None:
    assert run(["device", "what-if", snapshots["after"], "--settings", ""]) == 0
    assert "ran out of memory in 1.63 GiB" in (text := printed(capsys))
    assert "--memory 1670MiB" in text
    assert run(["device", "what-if", snapshots["before"], "--settings", ""]) == 0
    assert "ran out" not in printed(capsys)


def test_what_if_as_json(snapshots: dict[str, str], capsys: Captured) -> None:
    found = as_json(
        capsys, "device", "what-if", snapshots["after"], "--settings", "", "--settings",
        "garbage_collection_threshold:0.5,per_process_memory_fraction:0.5", "--memory", "1670MiB",
    )  # fmt: skip
    assert set(found) == documented_keys("JSON of what-if")
    assert found["identical"] is True
    assert found["least"] == ""
    plain, half = found["settings"]
    assert set(plain["run"]) == documented_keys("JSON of one run")
    assert (plain["oom"], plain["run"]["refused_bytes"]) == (True, 384 * MIB)
    assert plain["run"]["stuck_bytes"] == 402 * MIB
    assert plain["survival"]["capacity_bytes"] == (67 * 20 + 384) * MIB
    assert (half["fraction"], plain["fraction"]) == (0.5, None)
    assert half["survival"]["capacity_bytes"] == 2 * (67 * 20 + 384) * MIB


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--settings", "expandable_segments:true"], "--settings: expandable_segments: PyTorch"),
        (["--settings", "no_such:1"], "--settings: no_such"),
        (["--memory", "12parsecs"], "--memory: unknown unit"),
        (["--memory", "0"], "--memory: no memory at all"),
        (["--fraction", "2"], "--fraction: not a share"),
        (["--fraction", "nan"], "--fraction: not a share"),
        (["--device", "7"], "--device: no trace of this device"),
        (["--start", "middle"], "--start: no such beginning"),
        (["--json", "/nowhere/x.json"], "--json"),
    ],
)
def test_what_if_refuses(
    flags: list[str], said: str, snapshots: dict[str, str], capsys: Captured
) -> None:
    assert run(["device", "what-if", snapshots["before"], *flags]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.count("\n") == 1


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, pressed while the first piece of work is done."""
    for verb in ("what_if", "diff"):
        monkeypatch.setattr(
            f"kvatlas.cli.device_{verb}_run.Interrupts",
            lambda: contextlib.nullcontext(SimpleNamespace(wanted=True)),
        )


@pytest.mark.usefixtures("interrupted")
def test_an_interrupted_what_if_says_what_it_has(
    snapshots: dict[str, str], capsys: Captured
) -> None:
    found = as_json(capsys, "device", "what-if", snapshots["after"], code=130)
    assert [each["text"] for each in found["settings"]] == [""]
    assert found["partial"] == "interrupted: 13 of 14 settings were not tried"


@pytest.mark.usefixtures("interrupted")
def test_an_interrupted_diff_writes_nothing(
    snapshots: dict[str, str], tmp_path: Path, capsys: Captured
) -> None:
    both = [snapshots["before"], snapshots["after"]]
    assert run(["device", "diff", *both, "--json", str(tmp_path / "x.json")]) == 130
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "kvatlas: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_is_not_written_over(snapshots: dict[str, str], capsys: Captured) -> None:
    path = snapshots["before"]
    held = Path(path).read_bytes()
    for verb in (["what-if", path], ["diff", snapshots["after"], path]):
        assert run(["device", *verb, "--json", path]) == 2
    assert Path(path).read_bytes() == held


def test_diff_fails_where_a_condition_holds(snapshots: dict[str, str], capsys: Captured) -> None:
    both = ["device", "diff", snapshots["before"], snapshots["after"]]
    gate = ["--fail-if", "survival>+2%", "--fail-if", "ooms>+5"]
    assert run([*both, *gate]) == 1
    text = printed(capsys)
    assert "1 of 2 hold: exit code 1" in text
    assert "FAILED survival>+2%: 1.46 GiB to 1.68 GiB (+14.9%)" in text
    assert "passed ooms>+5: 0 to 1" in text
    assert "Memory needed" in text
    assert run([*both, "--fail-if", "survival>+20%"]) == 0
    assert run([*both, "--fail-if", "nonsense>+2%"]) == 2
    assert run([*both, "--fail-if", "survival"]) == 2
    assert run([snapshots["before"]]) == 2


def test_diff_as_json(snapshots: dict[str, str], capsys: Captured) -> None:
    gate = ("--fail-if", "survival(max_split_size_mb:64)>+1%")
    both = (snapshots["before"], snapshots["after"])
    found = as_json(capsys, "device", "diff", *both, *gate, code=1)
    assert set(found) == documented_keys("JSON of diff")
    assert found["failed"] is True
    assert found["conditions"][0]["met"] is True
    assert set(found["survival_by_settings"]) == {
        "", "expandable_segments:True", "max_split_size_mb:64",
    }  # fmt: skip
    assert found["figures"]["ooms"]["change"] == 1
    assert found["figures"]["ooms"]["relative"] is None


def test_lint_of_a_text(capsys: Captured) -> None:
    text = "max_split_size_mb:64,,expandable_segments:True"
    assert run(["device", "lint", text]) == 1
    shown = printed(capsys)
    assert "PyTorch's CUDA build refuses these settings." in shown
    assert "column 22" in shown
    assert f"{text} ^" in shown
    assert run(["device", "lint", "expandable_segments:True"]) == 0
    assert "does what they say" in printed(capsys)


def test_lint_of_the_environment(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["device", "lint"]) == 0
    assert "No settings" in printed(capsys)
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "")
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    found = as_json(capsys, "device", "lint", code=1)
    assert set(found) == documented_keys("JSON of lint")
    assert (found["variable"], found["text"]) == ("PYTORCH_CUDA_ALLOC_CONF", "")
    assert [each["rule"] for each in found["findings"]] == ["several-variables"]


def test_a_text_that_moves_the_cursor_does_not(capsys: Captured) -> None:
    assert run(["device", "lint", "max_split_size_mb:\x1b[2J64"]) == 1
    assert "\x1b" not in capsys.readouterr().out


def test_capture_of_a_folder_where_nobody_records(tmp_path: Path, capsys: Captured) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        assert run(["device", "capture", str(folder)]) == 2
        assert "no process records into it now" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["", "--", "true"], "DIR: name a folder"),
        (["DIR", "--max-events", "3", "--", "true"], "--max-events: must be a whole number"),
        (["DIR", "--stacks", "few", "--", "true"], "--stacks: must be python or all"),
        (["DIR", "--wait", "0"], "--wait: not above 0"),
        (["DIR", "--wait", "5", "--", "true"], "--wait: is for asking"),
        (["DIR", "--json", "x", "--", "true"], "--json: is for asking"),
        (["DIR", "--max-events", "9"], "--max-events: is for starting"),
        (["DIR", "--", "no-such-program-here"], "COMMAND: no such program"),
    ],
)
def test_capture_refuses(
    flags: list[str], said: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["device", "capture", *flags]) == 2
    assert said in capsys.readouterr().err


def test_capture_becomes_the_command_with_the_history_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    became: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr("os.execve", lambda *args: became.append(args))
    monkeypatch.chdir(tmp_path)
    # A process that became another never comes back; this one does, and finds nobody.
    run(["device", "capture", "h", "--max-events", "2000", "--", sys.executable, "-V"])
    ((program, command, environment),) = became
    assert (program, command) == (sys.executable, [sys.executable, "-V"])
    assert environment["KVATLAS_MEMORY_HISTORY"] == str(tmp_path / "h")
    assert environment["KVATLAS_MEMORY_HISTORY_EVENTS"] == "2000"
    assert "kvatlas device capture h" in capsys.readouterr().err


def test_capture_says_who_answered_and_who_did_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    answers = [
        history_folder.Answer(11, "snapshot-x-11.pickle", None),
        history_folder.Answer(12, None, "OSError: the disk is full"),
    ]
    monkeypatch.setattr("kvatlas.cli.device_capture_run.living", lambda folder: ["1", "2", "3"])
    monkeypatch.setattr("kvatlas.cli.device_capture_run.ask", lambda *_, **__: answers)
    assert run(["device", "capture", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [str(tmp_path / "snapshot-x-11.pickle")]
    assert "process 12: OSError: the disk is full" in captured.err
    assert "1 of 3 processes did not answer within 60 s" in captured.err
    found = as_json(capsys, "device", "capture", str(tmp_path), code=1)
    assert set(found) == documented_keys("JSON of capture")
    assert found["silent"] == 1


def test_an_interrupted_capture_takes_its_request_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    history_folder.HistoryFolder(tmp_path).sign_on()
    before = set(tmp_path.iterdir())

    def pressed(_folder: Path) -> list[str]:
        if set(tmp_path.iterdir()) != before:  # the request is there
            raise KeyboardInterrupt
        return ["1-00000000"]

    monkeypatch.setattr("kvatlas.live.history_folder.living", pressed)
    assert run(["device", "capture", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "kvatlas: interrupted\n"
    assert set(tmp_path.iterdir()) == before


@pytest.mark.skipif(not (SHARED / "snapshots").is_dir(), reason="no recorded snapshots")
def test_recorded_snapshots_side_by_side(capsys: Captured) -> None:
    """GIVEN the same inference at 128 and at 256 tokens THEN the softmax of attention grew."""
    paths = [
        str(SHARED / "snapshots" / f"medium_{tokens}_inference_memory_snapshot.pickle")
        for tokens in (128, 256)
    ]
    found = as_json(capsys, "device", "diff", *paths, "--fail-if", "survival>+2%", code=1)
    assert all(side["identical"] for side in found["snapshots"])
    assert found["figures"]["reserved"]["before"] < found["figures"]["reserved"]["after"]
    grown = [each["label"] for each in found["stacks"] if each["after"] > each["before"]]
    assert "softmax " in grown[0]
