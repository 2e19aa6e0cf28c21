"""Record the golden fixtures from the real vLLM.

Run from the repository root, in an environment that holds vllm 0.32.0 and kvatlas's dependencies:

    PYTHONPATH=src python tests/golden/record.py

It replaces every file of `tests/golden/fixtures` with what the real Scheduler decides on the cases
listed below, so run it only when a new vLLM version is followed, and read the difference.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vllm"))

import vllm
from cases import Case, make_case
from diff import without_schedule, words_sha256
from fixture import FOLDER, SHOWN_STEPS, Golden, write
from groups import FAMILIES
from steps import RealRun

from kvatlas.engine.replay import never_fits

PER_FAMILY, MOST_STEPS = 3, 600
"""Cases that are kept per family, the richest of those that are short enough."""
_CANDIDATES = range(1000, 1030)


def record(name: str, case: Case) -> tuple[Golden, int]:
    """Run `case` on the real vLLM; return what it decided, and how much happened in it."""
    rejected = [row for row, never in enumerate(never_fits(case.workload, case.config)) if never]
    run = RealRun(case, rejected)
    steps = []
    for words in run.steps():
        steps.append(words)
        if len(steps) > MOST_STEPS:
            break
    totals = run.totals
    golden = Golden(
        name=name,
        vllm=vllm.__version__,
        workload=case.workload,
        config=case.config,
        drive=case.drive,
        rejected=tuple(rejected),
        totals=run.result(),
        freelist_sha256=words_sha256(run.free_queue())[:16],
        num_cached_blocks=run.num_cached_blocks(),
        num_steps=len(steps),
        stream_sha256=words_sha256(word for words in steps for word in words),
        alloc_sha256=words_sha256(w for words in steps for w in without_schedule(words))[:16],
        first_steps=steps[:SHOWN_STEPS],
    )
    hits = totals["prefix_hits"] + totals["preempted_hits"]
    return golden, min(totals["preemptions"], 30) * 4 + min(hits, 400) // 4 - 50 * len(rejected)


def main() -> None:
    """Record all fixtures."""
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.json.gz"):
        path.unlink()
    for family in FAMILIES:
        recorded = []
        for seed in _CANDIDATES:
            golden, worth = record("", make_case(family, seed))
            if golden.num_steps <= MOST_STEPS:
                recorded.append((worth, seed))
        recorded.sort(reverse=True)
        for number, (_, seed) in enumerate(recorded[:PER_FAMILY]):
            name = f"{family.replace(' ', '_').replace('+', '_')}_{number}"
            golden, _ = record(name, make_case(family, seed))
            path = write(golden)
            sys.stdout.write(
                f"{name}: seed {seed}, {golden.num_steps} steps, "
                f"{golden.totals['preemptions']} preemptions, {golden.totals['prefix_hits']} hit "
                f"tokens, {path.stat().st_size} bytes\n"
            )


if __name__ == "__main__":
    main()
