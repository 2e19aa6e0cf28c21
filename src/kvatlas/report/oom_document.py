"""What `kvatlas oom` shows, frozen; every view gets the same.

Owns: the shape, and its JSON (docs/reference/oom-json.md). Leaves to others: every figure
(`kvatlas.oom`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kvatlas.oom import (
    Failure,
    FailureLog,
    KvBlock,
    OomVerdict,
    Scene,
    SnapshotExplanation,
)

__all__ = ["OomDocument"]

SCHEMA = 1
"""Raised when a key is renamed or changes its meaning; new keys do not raise it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OomDocument:
    """An explanation with everything that is said about it.

    Attributes:
        version: kvatlas's. config: settings by the names of their flags.
        log: the failures of a log, None without one; failure: the one explained.
        log_verdict: the verdict on it.
        snapshot: the snapshot explained, None without one; snapshot_file: where it was read.
        stacks: words for the stacks' numbers.
        block: one KV block, None where its size is not known.
    """

    version: str
    config: Mapping[str, Any]
    log: FailureLog | None
    failure: Failure | None
    log_verdict: OomVerdict | None
    snapshot: SnapshotExplanation | None
    snapshot_file: str | None
    stacks: Mapping[int, str]
    block: KvBlock | None

    @property
    def verdict(self) -> OomVerdict:
        """The snapshot's verdict, which rests on more, where it has a failure; else the log's."""
        if self.snapshot is not None and (self.snapshot.scene is not None or not self.log_verdict):
            return self.snapshot.verdict
        assert self.log_verdict is not None
        return self.log_verdict

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON form, in plain types."""
        return {
            "schema": SCHEMA,
            "kvatlas": self.version,
            "config": dict(self.config),
            "verdict": _verdict(self.verdict),
            "kv_block": None if self.block is None else asdict(self.block),
            "log": self._log(),
            "snapshot": self._snapshot(),
        }

    def _log(self) -> dict[str, Any] | None:
        if self.log is None or self.log_verdict is None:
            return None
        return {
            "file": self.log.file,
            "lines": self.log.lines,
            "starts": self.log.starts,
            "failed_starts": self.log.failed_starts,
            "vllm": self.log.startup.version,
            "verdict": _verdict(self.log_verdict),
            "failures": [_failure(each) for each in self.log.failures],
            "more_failures": self.log.more,
            "cut": self.log.cut,
        }

    def _snapshot(self) -> dict[str, Any] | None:
        found = self.snapshot
        if found is None:
            return None
        return {
            "file": self.snapshot_file,
            "device": found.device,
            "events": found.events,
            "settings": found.settings,
            "capacity_bytes": found.capacity_bytes,
            "survival_capacity_bytes": found.survival_bytes,
            "verdict": _verdict(found.verdict),
            "scene": None if found.scene is None else self._scene(found.scene),
            "settings_tried": [asdict(row) for row in found.settings_rows],
            "settings_untried": found.untried,
        }

    def _scene(self, scene: Scene) -> dict[str, Any]:
        said = asdict(scene)
        said["stack"] = self.stacks.get(scene.stack, "")
        for name in ("segments", "pinning", "holders"):
            for row in said[name]:
                row["stack"] = self.stacks.get(row["stack"], "")
        for row in said["pools"]:
            row["pool"] = list(row["pool"])
        return said


def _verdict(verdict: OomVerdict) -> dict[str, Any]:
    said = asdict(verdict)
    said["title"] = verdict.title
    return said


def _failure(failure: Failure) -> dict[str, Any]:
    said = asdict(failure)
    if failure.message is not None:
        said["message"]["others"] = [
            {"process": process, "size_bytes": size} for process, size in failure.message.others
        ]
    return said
