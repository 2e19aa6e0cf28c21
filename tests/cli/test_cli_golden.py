"""The command line against what the real vLLM decided on the public conversation trace.

The recordings and the trace are not part of this repository: they are looked up in the folder named
by KVATLAS_SHARED, or in `shared` beside the repository, and skipped where neither exists.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from command import replayed

_SHARED = Path(os.environ.get("KVATLAS_SHARED") or Path(__file__).parents[3] / "shared")
_GOLDEN = _SHARED / "oracle" / "golden"
_TRACE = _SHARED / "traces" / "mooncake_conversation.jsonl"


@pytest.mark.skipif(
    not (_GOLDEN.is_dir() and _TRACE.exists()),
    reason="recordings of the public trace are not here (KVATLAS_SHARED names their folder)",
)
@pytest.mark.parametrize(
    ("recording", "flags"),
    [
        ("golden_sched_full_200k", ["--blocks", "200000"]),
        ("golden_sched_full_20k", ["--blocks", "20000"]),
        ("golden_sched_full_96001_one_at_a_time", ["--blocks", "96001", "--max-num-seqs", "1"]),
        ("sr_20k_1000_prio", ["--blocks", "20000", "--limit", "1000", "--policy", "priority"]),
        ("sr_20k_1000_async", ["--blocks", "20000", "--limit", "1000", "--async-scheduling"]),
        ("sr_200k_1000_timed", ["--blocks", "200000", "--limit", "1000", "--arrivals", "timed"]),
    ],
)
def test_decides_as_the_real_vllm(recording: str, flags: list[str]) -> None:
    recorded = json.loads((_GOLDEN / f"{recording}.json").read_text(encoding="utf-8"))
    decisions = replayed(_TRACE, *flags, "--checksum")["decisions"]
    assert {key: recorded[key] for key in decisions} == decisions
