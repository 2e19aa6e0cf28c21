"""Coding-agent sessions: clocks, subagents, partial blocks, and several sessions side by side."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from workload_builders import public_trace

from kvatlas.errors import InputError
from kvatlas.workload import detect, load


def call(t: float, tokens: int, ids: list[int], **more: Any) -> dict[str, Any]:
    return {"t": t, "type": "n", "in": tokens, "out": 9, "hash_ids": ids, "api_time": 2.0, **more}


def session(requests: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"id": "x", "block_size": 64, "hash_id_scope": "local", "requests": requests, **more}


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


SUBAGENT = {
    "t": 10.0,
    "type": "subagent",
    "duration_ms": 7000,
    "requests": [call(0.0, 64, [50]), call(4.0, 130, [50, 51])],
}


def test_one_session(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json",
        session([call(0.0, 130, [1, 2]), SUBAGENT, call(12.0, 192, [1, 2, 3], out=0)]),
    )
    w = load(path)
    assert detect(path).name == "claude-code"
    assert w.tokens_per_id == 64
    # The subagent ended at 10 after 7 s, so its calls are at 3 and 7.
    assert w.arrival_s.tolist() == [0.0, 3.0, 7.0, 12.0]
    assert w.prompt_tokens.tolist() == [130, 64, 130, 192]
    assert w.parent.tolist() == [-1, -1, 1, 0]  # the subagent is a chain of its own
    assert w.session.tolist() == [0, 0, 0, 0]
    # ceil(130 / 64) = 3: the partial block has an id that nobody shares.
    assert w.ids.tolist() == [0, 1, 2, 3, 3, 4, 5, 0, 1, 6]
    assert any("2 prompts end in a partial block" in note for note in w.notes)
    assert any("1 requests had no output" in note for note in w.notes)


def test_a_subagent_without_duration_ends_with_its_last_call(tmp_path: Path) -> None:
    entry = {key: value for key, value in SUBAGENT.items() if key != "duration_ms"}
    w = load(write(tmp_path / "a.json", session([call(0.0, 64, [1]), entry])))
    assert w.arrival_s.tolist() == [0.0, 4.0, 8.0]


def test_subagents_of_subagents(tmp_path: Path) -> None:
    inner = {"t": 3.0, "type": "subagent", "duration_ms": 1000, "requests": [call(0.5, 64, [70])]}
    outer = {
        "t": 9.0,
        "type": "subagent",
        "duration_ms": 5000,
        "requests": [call(0, 64, [60]), inner],
    }
    w = load(write(tmp_path / "a.json", session([call(0.0, 64, [1]), outer])))
    assert w.arrival_s.tolist() == [0.0, 4.0, 6.5]
    assert w.parent.tolist() == [-1, -1, -1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "sessions"
    place.mkdir()
    for name in ("a.json", "b.json", "c.json"):
        write(place / name, session([call(0.0, 64, [1]), call(30.0, 128, [1, 2])]))
    with gzip.open(place / "d.json.gz", "wt") as out:
        json.dump(session([call(0.0, 64, [1])]), out)
    (place / "README.md").write_text("not a session")
    return place


def test_sessions_side_by_side(folder: Path) -> None:
    w = load(folder, seed=3, mean_start_gap_s=20)
    assert detect(folder).name == "claude-code"
    assert w.num_requests == 7
    assert w.num_ids == 7  # ids of different files never meet
    assert w.salt.tolist() == [0] * 7
    first = w.parent < 0
    assert int(first.sum()) == 4
    for row in np.flatnonzero(~first):
        assert w.session[w.parent[row]] == w.session[row]
        assert w.arrival_s[row] - w.arrival_s[w.parent[row]] == pytest.approx(30.0)
    assert "mean gap of 20 s (seed 3)" in w.notes[0]


def test_starts_follow_the_seed_and_the_rate(folder: Path) -> None:
    def starts(**options: Any) -> list[float]:
        w = load(folder, **options)
        found: list[float] = w.arrival_s[w.parent < 0].tolist()
        return found

    assert starts() == starts(seed=0, sessions_per_hour=60)
    assert starts(seed=1) != starts(seed=0)
    assert starts(mean_start_gap_s=120) == pytest.approx([2 * t for t in starts()])
    assert starts()[0] == 0.0


def test_limit_takes_the_first_in_time(folder: Path) -> None:
    whole, part = load(folder), load(folder, limit=3)
    assert part.arrival_s.tolist() == whole.arrival_s[:3].tolist()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (session([]), "holds no requests"),
        (session([call(0, 64, [1])], block_size=0), "block_size: not a number of tokens"),
        (session([call(0, 64, [1]), call(1, 0, [])]), r"requests\[1\].in: a length must be from 1"),
        (session([call(0, 64, [1], out=-1)]), r"requests\[0\].out: a length must be from 0"),
        (session([call(0, 10**9, [1])]), r"requests\[0\].in: a length must be"),
        (session([call(0, 640, [1])]), r"requests\[0\].hash_ids: 1 ids for 640 prompt tokens; 10 "),
        (session([call(0, 64, [2**63])]), r"requests\[0\].hash_ids: an id does not fit in 64 bits"),
        (session([call(0, True, [1])]), r"requests\[0\].in: expected int | null, got bool"),
        (session([{"t": 0, "type": "n"}]), r"requests\[0\].in: the field is missing"),
        (session([{"type": "n"}]), r"requests\[0\].t: the field is missing"),
        (
            session([{**SUBAGENT, "requests": [{"t": "x"}]}]),
            r"requests\[0\].requests\[0\].t: expected",
        ),
        ([1, 2], "expected object, got array"),
    ],
)
def test_bad_sessions(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(write(tmp_path / "a.json", document), format="claude-code")


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    entry: dict[str, Any] = call(0, 64, [1])
    for _ in range(40):
        entry = {"t": 0, "type": "subagent", "duration_ms": 0, "requests": [entry]}
    with pytest.raises(InputError, match="nest deeper than 16 levels"):
        load(write(tmp_path / "a.json", session([entry])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean_start_gap_s": 1, "sessions_per_hour": 1}, "two rates"),
        ({"mean_start_gap_s": 0}, "mean_start_gap_s: not a rate"),
        ({"sessions_per_hour": float("nan")}, "sessions_per_hour: not a rate"),
        ({"seed": -1}, "seed: not a seed"),
        ({"sort": True}, "sort.*it takes mean_start_gap_s, seed, sessions_per_hour"),
    ],
)
def test_bad_options(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(folder, **options)


def test_folders_without_sessions(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="no session files"):
        load(tmp_path)
    write(folder / "e.json", session([call(0, 16, [1])], block_size=16))
    with pytest.raises(
        InputError, match=r"e.json: block_size: the files before it have blocks of 64"
    ):
        load(folder)


def test_the_published_sessions() -> None:
    w = load(public_trace("claude_code_sessions"))
    assert w.num_requests == 2181
    assert int(w.session.max()) == 38
    assert w.ids.size == 3_468_132 + 2141
    one = load(public_trace("claude_code_sessions") / "trace_0277.json.gz")
    firsts = one.arrival_s[np.flatnonzero(one.parent < 0)]
    assert firsts[1:4] == pytest.approx(19.47, abs=0.02)  # three subagents start together
