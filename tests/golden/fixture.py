"""A golden fixture: one case and what the real vLLM decided on it, as a small gzipped JSON file.

Owns: writing a case (workload columns inline, settings, drive) and reading it back. Needs no vLLM.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from kvatlas.engine import specs as spec_module
from kvatlas.engine.config import EngineConfig
from kvatlas.engine.replay import DriveConfig
from kvatlas.engine.specs import KVCacheSpec
from kvatlas.workload import Workload

FOLDER = Path(__file__).parent / "fixtures"
SHOWN_STEPS = 50
"""How many leading steps a fixture holds in clear."""

_DTYPES = {
    "arrival_s": np.float64,
    "prompt_tokens": np.int32,
    "output_tokens": np.int32,
    "ids": np.int32,
    "id_offsets": np.int64,
    "session": np.int32,
    "parent": np.int32,
    "priority": np.int32,
    "salt": np.int32,
}


@dataclass(frozen=True)
class Golden:
    """What was recorded: the inputs, the totals, the stream's digest and its first steps.

    `stream_sha256` covers the words of all steps as little-endian 32-bit numbers, `alloc_sha256`
    (16 digits, as `freelist_sha256`) the same without free blocks and scheduled tokens,
    `first_steps` holds the words of the first `SHOWN_STEPS` steps, `totals` has the names of
    `ReplayResult.decisions`.
    """

    name: str
    vllm: str
    workload: Workload
    config: EngineConfig
    drive: DriveConfig
    rejected: tuple[int, ...]
    totals: dict[str, int | float | str]
    freelist_sha256: str
    num_cached_blocks: int
    num_steps: int
    stream_sha256: str
    alloc_sha256: str
    first_steps: list[list[int]]

    def __str__(self) -> str:
        """Return what a reader of a failure needs."""
        return (
            f"fixtures/{self.name}.json.gz  # {self.workload.name}, vLLM {self.vllm}\n"
            f"  {self.config}\n  {self.drive}"
        )


def write(golden: Golden) -> Path:
    """Write `golden` into the fixtures' folder; equal content gives equal bytes."""
    columns = {name: getattr(golden.workload, name).tolist() for name in _DTYPES}
    plain = {f.name: getattr(golden.workload, f.name) for f in fields(golden.workload)}
    document = {
        **{f.name: getattr(golden, f.name) for f in fields(golden)},
        "workload": {**plain, **columns},
        "config": _config_to_json(golden.config),
        "drive": asdict(golden.drive),
    }
    path = FOLDER / f"{golden.name}.json.gz"
    text = json.dumps(document, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))
    return path


def read(path: Path) -> Golden:
    """Read the fixture at `path`."""
    document: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    workload = document["workload"]
    for name, dtype in _DTYPES.items():
        workload[name] = np.array(workload[name], dtype)
    workload["notes"] = tuple(workload["notes"])
    document["workload"] = Workload(**workload)
    document["config"] = _config_from_json(document["config"])
    document["drive"] = DriveConfig(**document["drive"])
    document["rejected"] = tuple(document["rejected"])
    return Golden(**document)


def paths() -> list[Path]:
    """Return all fixtures, in the order of their names."""
    return sorted(FOLDER.glob("*.json.gz"))


def _config_to_json(config: EngineConfig) -> dict[str, Any]:
    plain = {f.name: getattr(config, f.name) for f in fields(config)}
    groups = [{"kind": type(spec).__name__, **asdict(spec)} for spec in config.groups]
    return {**plain, "kv_cache_groups": groups}


def _config_from_json(plain: dict[str, Any]) -> EngineConfig:
    groups = tuple(_spec_from_json(dict(spec)) for spec in plain["kv_cache_groups"])
    return EngineConfig(**{**plain, "kv_cache_groups": groups})


def _spec_from_json(plain: dict[str, Any]) -> KVCacheSpec:
    kind = getattr(spec_module, plain.pop("kind"))
    spec = kind(**plain)
    assert isinstance(spec, KVCacheSpec)
    return spec
