"""Record the fixtures of this folder from the real vLLM.

Run from the repository root, in an environment that holds vllm 0.32.0 and kvatlas's dependencies:

    PYTHONPATH=src python tests/live_parts/record_fixtures.py

It replaces every file of `tests/live_parts/fixtures` with what the recorder writes beside the real
Scheduler on small cases, so run it only when the recording's format changes.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zipfile import ZIP_DEFLATED, ZipFile

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vllm"))

from cases import make_case
from steps import RealRun

import kvatlas.live.session
from kvatlas.engine.replay import never_fits
from kvatlas.live.recorder import Recorder
from kvatlas.live.session import Session, Settings

FIXTURES = Path(__file__).parent / "fixtures"
_STEP_NS = 250_000


@dataclass(frozen=True)
class Fixture:
    """A recording: a case, how it is recorded, and how it ends."""

    name: str
    family: str
    seed: int
    steps: int = 60
    sample: float = 1.0
    segment_bytes: int = 1 << 16
    most_bytes: int = 1 << 20
    killed: bool = False


LISTED = (
    Fixture("full", "full", 1005),
    Fixture("async", "full", 1013),
    Fixture("window", "full+window", 1003),
    Fixture("mamba", "full+mamba", 1001),
    Fixture("sampled", "full", 1010, steps=200, sample=0.25),
    Fixture("killed", "full+chunked", 1004, killed=True),
    Fixture("rotated", "full", 1005, steps=120, segment_bytes=4096),
    Fixture("rotated-window", "full+window", 1003, steps=60, segment_bytes=4096),
)


def record(fixture: Fixture, folder: Path) -> Session:
    """Record a case into `folder`; return the recording, which is open still if it is `killed`."""
    case = make_case(fixture.family, fixture.seed)
    rejected = [row for row, never in enumerate(never_fits(case.workload, case.config)) if never]
    run = RealRun(case, rejected)
    settings = Settings(folder, fixture.most_bytes, fixture.sample, memory_interval_s=None)

    def small(folder: Path, **settings: Any) -> Recorder:
        # Segments smaller than a server's ever are.
        return Recorder(folder, **{**settings, "segment_bytes": fixture.segment_bytes})

    with patch.object(kvatlas.live.session, "Recorder", small):
        session = Session(run.scheduler, settings, _nothing_to_say, clock_ns=_even_clock())
    for number, _ in enumerate(run.steps()):
        if number >= fixture.steps:
            break
    if not fixture.killed:
        session.close()
    return session


def _nothing_to_say(line: str) -> None:
    raise AssertionError(line)


def _even_clock() -> Callable[[], int]:
    now_ns = 0

    def clock_ns() -> int:
        nonlocal now_ns
        now_ns += _STEP_NS
        return now_ns

    return clock_ns


def _without_this_machine(header: bytes) -> str:
    facts = json.loads(header)
    facts["live"].update(host="server", pid=1, model="tiny-llama", started_unix_s=1767225600.0)
    facts["kvatlas"] = "0"
    return json.dumps(facts, indent=1)


def main() -> None:
    """Replace all fixtures."""
    FIXTURES.mkdir(exist_ok=True)
    for old in FIXTURES.glob("*.zip"):
        old.unlink()
    for fixture in LISTED:
        with tempfile.TemporaryDirectory() as folder:
            session = record(fixture, Path(folder))
            engine = session.folder
            with ZipFile(FIXTURES / f"{fixture.name}.zip", "w", ZIP_DEFLATED) as kept:
                for path in sorted(engine.iterdir()):
                    data = path.read_bytes()
                    if path.name == "header.json":
                        kept.writestr(path.name, _without_this_machine(data))
                    else:
                        kept.writestr(path.name, data)
            if fixture.killed:
                session.close()
        size = (FIXTURES / f"{fixture.name}.zip").stat().st_size
        sys.stderr.write(f"{fixture.name}: {size:,} bytes\n")


if __name__ == "__main__":
    main()
