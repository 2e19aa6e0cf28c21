"""Read mutated recordings and say how it went; run by `test_fuzz`, in a process of its own.

    python fuzz_readers.py FOLDER FIRST_SEED COUNT

An `InputError` of one line is an answer. Whatever else is raised, or takes too long, is a failure
and printed with its seed; memory is bounded by the kernel.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from live_fixtures import NAMES, files_of, write
from mutations import mutated

from kvatlas.errors import InputError
from kvatlas.events import PoolState, open_recording
from kvatlas.events.live.call_reader import Calls
from kvatlas.events.live.follow import Follower

MOST_CPU_S, MOST_S = 10, 300
"""For one file and one way to read it: of the processor, and on a busy machine's wall clock."""
MOST_BYTES = 6 << 30
"""Address space, most of it taken by the compiler: what is in use is far less."""
_MOST_POLLS = 20_000


def events(folder: Path) -> int:
    """Read all events, with the ids of all blocks."""
    return sum(len(chunk.rows) for chunk in open_recording(str(folder)).resolved())


def pool(folder: Path) -> int:
    """Play all events on a pool."""
    recording = open_recording(str(folder))
    state = PoolState(recording.header, str(folder))
    for chunk in recording.chunks():
        state.advance(chunk)
    return state.events


def followed(folder: Path) -> int:
    """Follow it as a viewer does, a few words at a time."""
    follower = Follower(folder)
    rows, idle = 0, 0
    for _ in range(_MOST_POLLS):
        before = follower.behind_bytes
        chunks = follower.poll(500)
        rows += sum(len(chunk.rows) for chunk in chunks)
        idle = 0 if chunks or follower.behind_bytes != before else idle + 1
        if idle > 3:
            return rows
    raise RuntimeError("it is never at the end")


def calls(folder: Path) -> int:
    """Read the manager's calls."""
    return sum(1 for _ in Calls(folder))


READERS: tuple[Callable[[Path], int], ...] = (events, pool, followed, calls)


def main(folder: Path, first: int, count: int) -> dict[str, Any]:
    """Read `count` mutated recordings, each in one way; return what came of it."""
    for reader in READERS:  # compiled code is loaded before anything is measured
        reader(write(files_of(NAMES[0]), folder))
    signal.signal(signal.SIGALRM, _too_long)
    signal.signal(signal.SIGPROF, _too_long)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers: Counter[str] = Counter()
    failures: list[str] = []
    slowest = (0.0, -1)
    for seed in range(first, first + count):
        write(mutated(seed), folder)
        reader = READERS[seed % len(READERS)]
        began = time.perf_counter()
        signal.alarm(MOST_S)
        signal.setitimer(signal.ITIMER_PROF, MOST_CPU_S)
        try:
            reader(folder)
            answers["read"] += 1
        except InputError as error:
            answers["refused"] += 1
            if "\n" in str(error):
                failures.append(f"seed {seed}, {reader.__name__}: two lines: {error}")
        except BaseException:
            failures.append(f"seed {seed}, {reader.__name__}: {traceback.format_exc(limit=-4)}")
        finally:
            signal.alarm(0)
            signal.setitimer(signal.ITIMER_PROF, 0)
        slowest = max(slowest, (time.perf_counter() - began, seed))
    return {
        **answers,
        "failures": len(failures),
        "first_failures": failures[:20],
        "slowest_s": slowest[0],
        "slowest_seed": slowest[1],
        "peak_bytes": _peak_bytes(),
    }


def _peak_bytes() -> int:
    """Return the most memory that this program had; getrusage counts who started it, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError(f"longer than {MOST_CPU_S} s of the processor, or {MOST_S} s")


if __name__ == "__main__":
    said = main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    json.dump(said, sys.stdout)
