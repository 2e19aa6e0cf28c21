"""The first replay in a fresh process: a script that prints what compiling, or loading, costs.

    python -m benchmarks.first_replay

With an empty kernel cache the first replay compiles; with a filled one it loads. The second replay
of the same few requests is what the engine itself takes.
"""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    """Replay a few requests twice and print both times."""
    from kvatlas.engine import EngineConfig, Replay
    from kvatlas.workload import generate

    workload = generate("bursts", seed=0, num_requests=3)
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        Replay(workload, EngineConfig(num_blocks=1_000)).run()
        seconds.append(time.perf_counter() - started)
    sys.stdout.write(f"{json.dumps({'first_s': seconds[0], 'second_s': seconds[1]})}\n")


if __name__ == "__main__":
    main()
