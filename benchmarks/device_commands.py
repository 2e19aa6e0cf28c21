"""What commands take on long inputs: python -m benchmarks.device_commands [--events N]

Makes a snapshot of a failed server and a log that ends in PyTorch's message, runs the commands that
read them, each in a process of its own, and prints processor time and peak memory. They are warm:
their kernels are compiled before.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.device_trace import device_trace

_MESSAGE = (
    "(EngineCore pid=77) torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 384.00 MiB. "
    "GPU 0 has a total capacity of 79.10 GiB of which 330.00 MiB is free. Including non-PyTorch "
    "memory, this process has 78.77 GiB memory in use. Of the allocated memory 77.00 GiB is "
    "allocated by PyTorch, and 402.00 MiB is reserved by PyTorch but unallocated.\n"
)
_LINE = "(EngineCore pid=77) INFO 11-22 04:00:00 [loggers.py:257] Engine 000: Running: 12 reqs\n"
_KVATLAS = "from kvatlas.cli.__main__ import main; import sys; sys.exit(main())"


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; returns processor seconds and peak MiB by command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device_commands")
    parser.add_argument("--events", type=int, default=1_000_000, help="of the snapshot")
    parser.add_argument("--log-mib", type=int, default=1024, help="of the log")
    settings = parser.parse_args(arguments)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few, many, log = folder / "few.pickle", folder / "many.pickle", folder / "server.log"
        # In a process of its own: what we hold when we start a command counts as its memory.
        maker = get_context("spawn").Process(
            target=_make, args=(few, many, log, settings.events, settings.log_mib)
        )
        maker.start()
        maker.join()
        budget = ("budget", "--model", "llama-3.1-8b", "--device", "h100", "--snapshot")
        for verb in (("oom",), budget, ("device", "report"), ("device", "what-if")):
            _run([*verb, str(few)])
            what = " ".join(verb[: 2 if verb[0] == "device" else 1])
            figures[f"{what}, {settings.events:,} events"] = _run([*verb, str(many)])
        figures[f"oom, a log of {settings.log_mib:,} MiB"] = _run(["oom", str(log)])
    print(json.dumps(figures, indent=1))
    return figures


def _make(few: Path, many: Path, log: Path, events: int, log_mib: int) -> None:
    few.write_bytes(pickle.dumps(device_trace(2_000, live=200)))
    many.write_bytes(pickle.dumps(device_trace(events)))
    with log.open("w") as lines:
        for _ in range(log_mib):
            lines.write(_LINE * ((1 << 20) // len(_LINE)))
        lines.write(_MESSAGE)


def _run(arguments: Sequence[str]) -> dict[str, float]:
    """Run kvatlas in a process of its own; what that took."""
    command = [sys.executable, "-c", _KVATLAS, *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"kvatlas {' '.join(arguments)} ended with {process.returncode}")
    return {
        "processor_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_mib": round(used.ru_maxrss / 1024),
    }


if __name__ == "__main__":
    main()
