"""The compiled profile against recorded runs of the real nano-vLLM (see `record_nano.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nano_cases import Case, digest, from_columns
from nano_plain import STEP

from kvatlas.engine.nano import NANO_VERSIONS, NanoReplay

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
    first = next((at for at, pair in enumerate(zip(steps, real, strict=False)) if len({*pair}) > 1), None)
    assert first is None, f"the first step that differs is {first}"
    assert len(steps) == len(real)
    assert list(result.rejected) == recorded["rejected"]
    # AND the counts and both checksums agree
    summed = NanoReplay(workload, case.config(version), case.drive(), checksum=True)
    assert summed.run().decisions == recorded["decisions"]
    summed.check()
