"""What recording costs the real vLLM Scheduler: three of them in lockstep on one trace.

Runs as a script in an interpreter that holds vLLM 0.32, with kvatlas to import:

    PYTHONPATH=src:. python -m benchmarks.recorder_driver TRACE --num-blocks 20000 --limit 1000

One scheduler is left alone, one is recorded in full, one in windows of 1% of the steps. All do the
same step one after another, in an order that changes from step to step, so that whatever else the
machine does meets all of them; a step in which one took three times as long as another was
interrupted by something else, and is left out and counted. Prints one JSON object: seconds in
vLLM's calls by scheduler, and what one hooked call of the pool costs by its length.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

from benchmarks.vllm_driver import Run, parse
from kvatlas.live.checkpoint import checkpoint_bytes
from kvatlas.live.session import Session, Settings

SAMPLES = {"plain": 0.0, "full": 1.0, "sampled": 0.01}
_LENGTHS = (1, 4, 16, 64, 256, 1024)
_CALLS = 200
_CHECKPOINTS = 20
_INTERRUPTED = 3


def main() -> None:
    """Run as the command line says and print the result as JSON."""
    settings = parse(__doc__.split("\n", 1)[0])
    with tempfile.TemporaryDirectory() as folder:
        runs, sessions = {}, []
        for name, sample in SAMPLES.items():
            runs[name] = Run(settings)
            if sample:
                wanted = Settings(Path(folder) / name, sample=sample, memory_interval_s=None)
                sessions.append(Session(runs[name].scheduler, wanted, _say))
        orders = list(permutations(runs))
        step = 0
        while _all_step(runs, orders[step % len(orders)]):
            step += 1
        faults = sum(session.recorder.faults for session in sessions)
        written = sum(file.stat().st_size for file in (Path(folder) / "full").rglob("*.kvseg"))
        checkpoint_s = min(_timed(sessions[0]) for _ in range(_CHECKPOINTS))
        calls = _calls(runs["plain"].scheduler, runs["full"].scheduler, sessions[0])
        for session in sessions:
            session.close()
    decided = [run.decided for run in runs.values()]
    result = {
        "python": sys.version.split()[0],
        "steps": step,
        "same_decisions": decided.count(decided[0]) == len(decided),
        "faults": faults,
        "written_bytes": written,
        "in_vllm": {call: _beside(runs, call) for call in runs["plain"].clock.laps},
        "checkpoint_s": checkpoint_s,
        "calls": calls,
    }
    sys.stdout.write(f"\n{json.dumps(result)}\n")


def _timed(session: Session) -> float:
    """Return the seconds of one checkpoint."""
    started = time.perf_counter()
    checkpoint_bytes(session.recorder)
    return time.perf_counter() - started


def _all_step(runs: dict[str, Run], order: tuple[str, ...]) -> bool:
    going = [runs[name].step() for name in order]
    return all(going)


def _beside(runs: dict[str, Run], call: str) -> dict[str, Any]:
    """Return the seconds and medians of a call by scheduler, interrupted laps left out."""
    laps = list(zip(*(run.clock.laps[call] for run in runs.values()), strict=True))
    kept = [lap for lap in laps if max(lap) < _INTERRUPTED * min(lap)]
    columns = list(zip(*kept, strict=True))
    return {
        "laps": len(laps),
        "left_out": len(laps) - len(kept),
        "seconds": {name: sum(column) for name, column in zip(runs, columns, strict=True)},
        "median_s": {
            name: statistics.median(column) for name, column in zip(runs, columns, strict=True)
        },
    }


def _calls(plain: Any, recorded: Any, session: Session) -> list[dict[str, float]]:
    """Return what a call of the pool costs more when it is recorded, by the blocks it takes."""
    costs = []
    for length in _LENGTHS:
        row: dict[str, float] = {"blocks": length}
        for name in ("get_new_blocks", "free_blocks"):
            alone = _best(plain.kv_cache_manager.block_pool, length, name, lambda: None)
            heard = _best(
                recorded.kv_cache_manager.block_pool, length, name, session.recorder.buffer.clear
            )
            row[f"{name}_s"] = heard - alone
        costs.append(row)
    return costs


def _best(pool: Any, length: int, timed: str, after: Callable[[], None]) -> float:
    """Return the shortest time of one call on `length` blocks."""
    best = float("inf")
    for _ in range(_CALLS):
        started = time.perf_counter()
        blocks = pool.get_new_blocks(length)
        middle = time.perf_counter()
        pool.free_blocks(blocks)
        ended = time.perf_counter()
        best = min(best, middle - started if timed == "get_new_blocks" else ended - middle)
        after()
    return best


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
