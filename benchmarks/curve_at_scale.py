"""One large generated trace in a process of its own, so that its peak memory is its own.

    python -m benchmarks.curve_at_scale 600000000

prints one JSON object. The kernels are ready before the clock starts.
"""

from __future__ import annotations

import json
import resource
import sys
import time

from benchmarks.curves import BLOCK_SIZE, whole_curve
from kvatlas.workload import generate

_PILOT_REQUESTS = 20_000


def main(num_blocks: int) -> dict[str, float]:
    """Draw enough requests of agents for `num_blocks` block accesses and make their curve."""
    pilot = generate("agents", seed=0, num_requests=_PILOT_REQUESTS)
    whole_curve(pilot.head(1_000))
    per_request = int((pilot.prompt_tokens // BLOCK_SIZE).sum()) / _PILOT_REQUESTS
    requests = max(1, int(1.02 * num_blocks / per_request))  # rather a few too many
    del pilot
    started = time.perf_counter()
    workload = generate("agents", seed=0, num_requests=requests)
    generated = time.perf_counter()
    generated_peak_mib = _peak_mib()
    curve, runs, paths = whole_curve(workload)
    ended = time.perf_counter()
    return {
        "requests": requests,
        "blocks": curve.queried_blocks,
        "distinct_blocks": paths.total_blocks - int(runs.seen.sum(dtype="int64")),
        "generate_s": generated - started,
        "curve_s": ended - generated,
        "generated_peak_mib": generated_peak_mib,
        "peak_mib": _peak_mib(),
    }


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 if sys.platform != "darwin" else 1 << 20)


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
