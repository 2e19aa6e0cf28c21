"""Records the decisions of the REAL nano-vLLM, for `test_nano_fixtures.py` to hold ours against.

    git clone https://github.com/GeeeekExplorer/nano-vllm && cd nano-vllm && git checkout COMMIT
    pip install numpy xxhash
    cd tests/engine/nano && python record_nano.py NANO_VLLM --out fixtures/nano_COMMIT.json

for COMMIT bb823b3 and 9e8507e. `nano_conversation.json` is the list of three runs over the public
conversation trace (a minute or two each), with the case cut down to what is not a default:

    record_nano.py NANO_VLLM --trace mooncake_conversation.jsonl --blocks 1250
    (the same at 9e8507e with --max-num-batched-tokens 131072; --blocks 12500 --limit 3000)

With `--embed`, our `BlockManager` takes the place of the real one inside the real scheduler
(bb823b3 only): what comes out must not change by a byte.

Only nanovllm/engine/{block_manager,scheduler,sequence}.py run; what they import beside each other
(the package itself, which needs torch, and the configuration, which needs transformers) is stood
in for. The fixtures hold small generated workloads, a digest of every step's decisions, and the
counts.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import subprocess
import sys
import types
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nano_cases import CASES, Case, digest
from nano_model import Seen
from nano_plain import PlainRun, drive_plain

from kvatlas.engine.nano import BlockManager
from kvatlas.engine.replay import DriveConfig
from kvatlas.workload import Workload, load


class RealNano:
    """The real scheduler behind the surface of the plain model."""

    def __init__(
        self, num_blocks: int, block_size: int, max_num_seqs: int, max_tokens: int
    ) -> None:
        scheduler = importlib.import_module("nanovllm.engine.scheduler")
        self._sequence: Any = importlib.import_module("nanovllm.engine.sequence").Sequence
        self._sampling: Any = importlib.import_module("nanovllm.sampling_params").SamplingParams
        self._sequence.block_size = block_size
        config = types.SimpleNamespace(
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_tokens,
            eos=-1,
            num_kvcache_blocks=num_blocks,
            kvcache_block_size=block_size,
        )
        self.scheduler: Any = scheduler.Scheduler(config)
        self._admissions: dict[int, int] = {}
        self._step: list[Any] = []
        self._is_prefill = False

    @property
    def free(self) -> list[int]:
        return list(self.scheduler.block_manager.free_block_ids)

    def waiting_rows(self) -> list[int]:
        return [seq.row for seq in self.scheduler.waiting]

    def running_rows(self) -> list[int]:
        return [seq.row for seq in self.scheduler.running]

    def tables(self) -> dict[int, list[int]]:
        seqs = itertools.chain(self.scheduler.waiting, self.scheduler.running)
        return {seq.row: list(seq.block_table) for seq in seqs if seq.block_table}

    def add(self, row: int, tokens: list[int], max_tokens: int) -> None:
        seq = self._sequence(tokens, self._sampling(max_tokens=max_tokens, ignore_eos=True))
        seq.row = row
        self.scheduler.add(seq)

    def drop_first_waiting(self) -> int:
        return int(self.scheduler.waiting.popleft().row)

    def step(self) -> Seen | None:
        before = self.tables()
        try:
            self._step, self._is_prefill = self.scheduler.schedule()
        except AssertionError:
            return None
        seen, after = Seen(), self.tables()
        for seq in self._step:
            tokens = self._tokens(seq)
            if seq.row not in before:
                seen.admitted.append((seq.row, seq.num_cached_tokens))
                if self._admissions.setdefault(seq.row, 0) > 0:
                    seen.resumed.add(seq.row)
                self._admissions[seq.row] += 1
            samples = not self._is_prefill or seq.num_cached_tokens + tokens == seq.num_tokens
            seen.scheduled.append((seq.row, tokens, samples))
        seen.preempted = [row for row in before if row not in after]
        return seen

    def settle(self, outputs: Sequence[Sequence[int]]) -> list[int]:
        sampled = [
            outputs[seq.row][min(seq.num_completion_tokens, len(outputs[seq.row]) - 1)]
            for seq in self._step
        ]
        if hasattr(self._step[0], "num_scheduled_tokens"):
            self.scheduler.postprocess(self._step, sampled, self._is_prefill)
        else:
            self.scheduler.postprocess(self._step, sampled)
        return [seq.row for seq in self._step if seq.is_finished]

    def _tokens(self, seq: Any) -> int:
        if hasattr(seq, "num_scheduled_tokens"):
            return int(seq.num_scheduled_tokens)
        return int(seq.num_tokens - seq.num_cached_tokens) if self._is_prefill else 1


def import_real(checkout: Path) -> str:
    """Make the checkout's modules importable without torch; return its commit."""
    for name in ("nanovllm", "nanovllm.engine"):
        package = types.ModuleType(name)
        package.__path__ = [str(checkout.joinpath(*name.split(".")))]
        sys.modules[name] = package
    config: Any = types.ModuleType("nanovllm.config")
    config.Config = types.SimpleNamespace
    sys.modules["nanovllm.config"] = config
    commit = checkout / "COMMIT"
    if commit.exists():
        return commit.read_text().strip()
    told = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True
    )
    return told.stdout.strip()


def record(case: Case, workload: Workload) -> dict[str, Any]:
    """Run the real scheduler over one case; return the digests and the decisions."""
    real = RealNano(
        case.num_blocks, case.block_size, case.max_num_seqs, case.max_num_batched_tokens
    )
    drive = DriveConfig(arrivals=case.arrivals, queue_depth=case.queue_depth)
    run = PlainRun()
    plain = drive_plain(real, workload, case.num_blocks, case.block_size, drive, run)
    steps = "".join(digest(step.words) for step in plain)
    return {"decisions": run.decisions(), "rejected": run.rejected, "steps": steps}


def columns(workload: Workload) -> dict[str, Any]:
    """Return what a test needs to build the workload again."""
    names = ("arrival_s", "prompt_tokens", "output_tokens", "ids", "id_offsets")
    return {
        "tokens_per_id": workload.tokens_per_id,
        "outputs_identified": workload.outputs_identified,
        **{name: getattr(workload, name).tolist() for name in names},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--trace", help="record the counts on a public trace instead")
    parser.add_argument("--blocks", type=int, default=1250)
    parser.add_argument("--max-num-batched-tokens", type=int, default=16384)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--embed", action="store_true", help="put our BlockManager in")
    args = parser.parse_args()
    commit = import_real(args.checkout)[:7]
    if args.embed:
        scheduler: Any = importlib.import_module("nanovllm.engine.scheduler")
        scheduler.BlockManager = BlockManager
    if args.trace:
        workload = load(args.trace, limit=args.limit)
        case = Case(
            "trace", num_blocks=args.blocks, max_num_batched_tokens=args.max_num_batched_tokens
        )
        recorded = record(case, workload)
        del recorded["steps"]
        fixture: dict[str, Any] = {"requests": workload.num_requests, "case": asdict(case)}
        fixture |= {"commit": commit, **recorded}
    else:
        cases = [
            {"case": asdict(case), **record(case, workload), "workload": columns(workload)}
            for case, workload in ((case, case.workload()) for case in CASES)
        ]
        fixture = {"commit": commit, "cases": cases}
    text = json.dumps(fixture, separators=(",", ":"))
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)  # noqa: T201


if __name__ == "__main__":
    main()
