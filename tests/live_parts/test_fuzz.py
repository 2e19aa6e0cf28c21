"""Damaged recordings: each is read or refused in one line, soon, in bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from live_fixtures import NAMES, files_of, write
from mutations import mutated

from kvatlas.events import open_recording

MUTATED = int(os.environ.get("KVATLAS_FUZZ_FILES", "400"))
"""`make test-vllm` asks for 10,000."""
_WORKERS = 2
_READERS = Path(__file__).parent / "fuzz_readers.py"


def test_mutated_recordings_are_read_or_refused(tmp_path: Path) -> None:
    share = MUTATED // _WORKERS
    running = [
        subprocess.Popen(
            [sys.executable, str(_READERS), str(tmp_path / str(at)), str(at * share), str(share)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for at in range(_WORKERS)
    ]
    said: list[dict[str, Any]] = []
    for worker in running:
        out, err = worker.communicate(timeout=1500)
        assert worker.returncode == 0, err
        said.append(json.loads(out))
    for of in said:
        assert of["failures"] == 0, "\n\n".join(of["first_failures"])
        assert of["peak_bytes"] < 1 << 30
        # Neither all damage is found nor all of it passed over: then nothing would be tested.
        assert of["read"] > share // 10 and of["refused"] > share // 10
        assert of["read"] + of["refused"] == share


def test_seeds_give_the_same_files_everywhere() -> None:
    assert mutated(7) == mutated(7)
    assert len({tuple(sorted(mutated(seed).items())) for seed in range(200)}) > 180


def test_undamaged_fixtures_are_read_to_their_end(tmp_path: Path) -> None:
    said = {}
    for name in NAMES:
        recording = open_recording(str(write(files_of(name), tmp_path / name)))
        events = sum(len(chunk.rows) for chunk in recording.resolved())
        assert events == recording.events > 100
        said[name] = recording.partial
    assert "it has no end" in said.pop("killed")
    assert "25.00% of the steps" in said.pop("sampled")
    assert set(said.values()) == {""}
