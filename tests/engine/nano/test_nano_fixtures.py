"""The compiled profile against recorded runs of the real nano-vLLM (see `record_nano.py`)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nano_cases import Case, digest, from_columns
from nano_plain import STEP

from kvatlas.engine.nano import NANO_VERSIONS, NanoReplay
from kvatlas.workload import load

FIXTURES = Path(__file__).parent / "fixtures"
RECORDED = [
    pytest.param(version, case, id=f"{version}-{case['case']['name']}")
    for version in NANO_VERSIONS
    for case in json.loads((FIXTURES / f"nano_{version}.json").read_text("utf-8"))["cases"]
]


@pytest.mark.parametrize(("version", "recorded"), RECORDED)
def test_every_step_equals_the_real_nano_vllm(version: str, recorded: dict[str, Any]) -> None:
    # GIVEN a workload that the real scheduler was driven over
    case, workload = Case(**recorded["case"]), from_columns(**recorded["workload"])
    seen: list[np.ndarray[Any, Any]] = []
    # WHEN the twin replays it
    replay = NanoReplay(workload, case.config(version), case.drive(), on_words=seen.append)
    result = replay.run()
    # THEN each step took the same decisions: blocks, hits, tokens, preemptions, free blocks
    words = np.concatenate(seen)
    steps = [digest(step) for step in np.split(words, np.flatnonzero(words == STEP))[1:]]
    real = [recorded["steps"][at : at + 4] for at in range(0, len(recorded["steps"]), 4)]
    pairs = enumerate(zip(steps, real, strict=False))
    assert next((at for at, (ours, theirs) in pairs if ours != theirs), None) is None
    assert len(steps) == len(real)
    assert list(result.rejected) == recorded["rejected"]
    # AND the counts and both checksums agree
    summed = NanoReplay(workload, case.config(version), case.drive(), checksum=True)
    assert summed.run().decisions == recorded["decisions"]
    summed.check()


@pytest.mark.parametrize("run", range(3))
def test_counts_on_the_conversation_trace_equal_the_real_nano_vllm(run: int) -> None:
    # GIVEN Mooncake's public conversation trace, which is not part of this repository
    folder = Path(__file__).resolve().parents[4] / "shared" / "traces"
    trace = Path(os.environ.get("KVATLAS_TRACES", folder)) / "mooncake_conversation.jsonl"
    if not trace.exists():
        pytest.skip("the public trace is not on this machine; point KVATLAS_TRACES at its folder")
    recorded = json.loads((FIXTURES / "nano_conversation.json").read_text("utf-8"))[run]
    # WHEN the twin replays as much of it as was recorded
    workload = load(trace, limit=recorded["requests"])
    config = Case(**recorded["case"]).config(recorded["commit"])
    result = NanoReplay(workload, config, checksum=True).run()
    # THEN every count and both checksums are the real ones
    assert result.decisions == recorded["decisions"]
    assert list(result.rejected) == recorded["rejected"]
