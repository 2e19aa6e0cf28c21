"""The first replay in a fresh process: a script that prints what a user waits for.

    python -m benchmarks.first_replay

With an empty kernel cache the first replay compiles; with a filled one it loads. A second replay of
the same few requests is what the engine itself takes, and is subtracted.
"""

from __future__ import annotations

import json
import sys
import time

_LOADED = time.perf_counter()


def main() -> None:
    """Print the seconds of importing the engine and of making its kernels ready."""
    from kvatlas.engine import EngineConfig, Replay
    from kvatlas.workload import generate

    workload = generate("bursts", seed=0, num_requests=3)
    imported_s = time.perf_counter() - _LOADED
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        Replay(workload, EngineConfig(num_blocks=1_000)).run()
        seconds.append(time.perf_counter() - started)
    measured = {"import_s": imported_s, "kernels_s": seconds[0] - seconds[1]}
    sys.stdout.write(f"{json.dumps(measured)}\n")


if __name__ == "__main__":
    main()
