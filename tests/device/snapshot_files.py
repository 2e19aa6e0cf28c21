"""Snapshots as files: with stacks, in every protocol, damaged in every way."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from courses import random_course

_GIVEN = os.environ.get("KVATLAS_SHARED")
SHARED = Path(_GIVEN) if _GIVEN else Path(__file__).parents[3] / "shared"
RECORDED = sorted((SHARED / "snapshots").glob("*.pickle"))
"""Snapshots recorded on a GPU; not part of the repository."""


def with_stacks(seed: int, steps: int = 40) -> dict[str, Any]:
    """Return a snapshot with stacks that share frames, annotations and user metadata."""
    snapshot = random_course(seed, steps).naive.dump()
    rng = np.random.default_rng(seed)
    frames = [
        {"name": f"call {at}", "filename": f"file{at % 5}.py", "line": at} for at in range(30)
    ]
    stacks = [[frames[at] for at in rng.integers(0, 30, rng.integers(0, 12))] for _ in range(9)]
    holders = [*snapshot["device_traces"][0], *snapshot["segments"]]
    holders += [block for segment in snapshot["segments"] for block in segment["blocks"]]
    for holder in holders:
        holder["frames"] = stacks[int(rng.integers(9))]
    for event in snapshot["device_traces"][0]:
        event["compile_context"] = "N/A"
        event["user_metadata"] = f"step {int(rng.integers(3))}"
    snapshot["external_annotations"] = [
        {"stage": "START", "name": "step", "device": 0, "time_us": 5},
        {"stage": "END", "name": "step", "device": 0, "time_us": 9},
    ]
    return snapshot


def pickled(snapshot: Any, how: str) -> bytes:
    """Pickle in one of the ways that pickles are written."""
    if how == "python":
        file = io.BytesIO()
        pickle._Pickler(file, 4).dump(snapshot)
        return file.getvalue()
    if how == "without memo":  # as PyTorch's C++ does: every frame of every stack in full
        file = io.BytesIO()
        pickler = pickle.Pickler(file, 2)
        pickler.fast = True
        pickler.dump(snapshot)
        return file.getvalue()
    return pickle.dumps(snapshot, int(how))


WAYS = ("0", "1", "2", "3", "4", "5", "python", "without memo")


class _Nothing(pickle.Unpickler):
    """Python's own machine, with no name to be found."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name}")


def trusted(path: Path) -> dict[str, Any]:
    """Return a snapshot as Python's own unpickler reads it."""
    with path.open("rb") as file:
        loaded: dict[str, Any] = _Nothing(file).load()
    return loaded


def damaged(seed: int) -> bytes:
    """Return a snapshot's pickle with something wrong: in its bytes, or in what it says."""
    rng = np.random.default_rng((3, seed))
    snapshot = with_stacks(int(rng.integers(20)), steps=25)
    if rng.random() < 0.5:
        for _ in range(int(rng.integers(1, 3))):
            _spoil(snapshot, rng)
        return pickled(snapshot, str(rng.choice(WAYS)))
    raw = bytearray(pickled(snapshot, str(rng.choice(WAYS))))
    for _ in range(int(rng.integers(1, 4))):
        at, what = int(rng.integers(len(raw))), rng.random()
        if what < 0.4:
            raw[at] = int(rng.integers(256))
        elif what < 0.6:
            del raw[at : at + int(rng.integers(1, 40))]
        elif what < 0.8:
            raw[at:at] = raw[(other := int(rng.integers(len(raw)))) : other + 60]
        elif what < 0.9:
            del raw[at:]
            raw += b"."
        else:
            raw[at : at + 8] = rng.bytes(8)
        if not raw:
            raw += b"."
    return bytes(raw)


_WORSE: tuple[Any, ...] = (
    None, True, -1, 0, 1, 513, 2**31, 2**62, 2**63, 2**80, -(2**63), 1.5, float("nan"),
    "", "x", "alloc", "segment_free", "oom", (), (0, 1), (1, 2, 3), [], [[]], {}, {"a": 1},
)  # fmt: skip


def _containers(thing: Any) -> list[Any]:
    """Return every dict and list in a thing that is not empty, itself first."""
    if not thing or not isinstance(thing, dict | list):
        return []
    inner = thing.values() if isinstance(thing, dict) else thing
    return [thing, *(found for one in inner for found in _containers(one))]


def _spoil(snapshot: dict[str, Any], rng: np.random.Generator) -> None:
    """Change, remove, repeat or move one thing anywhere in a snapshot."""
    kinds: dict[str, list[Any]] = {}
    for one in _containers(snapshot):
        kinds.setdefault(f"{type(one)}{sorted(map(str, one))[:1]}"[:40], []).append(one)
    group = kinds[sorted(kinds)[int(rng.integers(len(kinds)))]]
    holder = group[int(rng.integers(len(group)))]
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    key = keys[int(rng.integers(len(keys)))]
    what = rng.random()
    if what < 0.4:
        holder[key] = _WORSE[int(rng.integers(len(_WORSE)))]
    elif what < 0.5:
        del holder[key]
    elif what < 0.7 and type(holder[key]) is int:
        holder[key] += int(rng.choice([-512, 512, 1, 2 << 20]))
    elif isinstance(holder, list):
        holder.insert(0, holder[key])
    else:
        other = keys[int(rng.integers(len(keys)))]
        holder[key], holder[other] = holder[other], holder[key]
