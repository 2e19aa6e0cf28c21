"""Which trace is measured: the one that was asked for, a well-known one, or a generated one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kvatlas.workload import Workload, generate, load
from kvatlas.workload.export import export
from kvatlas.workload.fetch import cached

PUBLIC_TRACE = "mooncake-conversation"
ONE_AT_A_TIME_HIT_TOKENS = 9_582_640
"""Hit tokens of real vLLM 0.32 on the public conversation trace with 96,000 usable blocks of 16
tokens and one request at a time, outputs cached."""


@dataclass(frozen=True)
class Trace:
    """A trace file in Mooncake's format and its requests."""

    path: Path
    workload: Workload
    what: str

    @property
    def is_public_conversation(self) -> bool:
        """Whether this is the conversation trace, for which reference figures are known."""
        known = (self.workload.num_requests, self.workload.total_prompt_tokens)
        return known == (12_031, 144_793_823)


def find_trace(given: Path | None, scratch: Path) -> Trace:
    """Return the trace at `given`; else the public one if it is here; else a generated one.

    The public conversation trace is looked for where `kvatlas traces fetch` puts it, and in the
    folder named by KVATLAS_SHARED or `shared` beside the repository.
    """
    shared = os.environ.get("KVATLAS_SHARED")
    beside = Path(__file__).resolve().parents[2] / "shared"
    candidates = (
        [given]
        if given is not None
        else [
            cached(PUBLIC_TRACE),
            (Path(shared) if shared else beside) / "traces" / "mooncake_conversation.jsonl",
        ]
    )
    for path in candidates:
        if path is not None and (path.exists() or given is not None):
            workload = load(path, format="mooncake")
            return Trace(path, workload, f"{path.name}, {workload.num_requests:,} requests")
    path = scratch / "generated.jsonl"
    export(generate("retrieval", seed=0, num_requests=4_000), path)
    what = f"generated, 4,000 requests ({PUBLIC_TRACE} is not here: kvatlas traces fetch)"
    return Trace(path, load(path, format="mooncake"), what)
