"""Out of memory, explained: from a log's message, vLLM's refusal, or a memory snapshot.

`read_failure_log` finds the failures in a log of any size, `explain_failure` says why one came and
what to change, `explain_snapshot` replays a recording and names the settings that survive. The
names load lazily; neither torch nor a device is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvatlas.oom.explain import explain_failure
    from kvatlas.oom.failure_log import read_failure_log
    from kvatlas.oom.failures import Failure, FailureLog
    from kvatlas.oom.kv_block import (
        KvBlock,
        kv_block_of_log,
        kv_block_of_model,
        kv_block_of_size,
    )
    from kvatlas.oom.message import OomMessage, parse_message
    from kvatlas.oom.moment_tables import Holder, PinnedSegment, PrivatePool
    from kvatlas.oom.refusals import Refusal, parse_refusal
    from kvatlas.oom.scene import Scene
    from kvatlas.oom.settings_table import SettingOutcome
    from kvatlas.oom.snapshot_verdict import SnapshotExplanation, explain_snapshot
    from kvatlas.oom.verdict import CAUSES, OomVerdict, Remedy, Step

_HOME = {
    "CAUSES": "verdict",
    "Failure": "failures",
    "FailureLog": "failures",
    "Holder": "moment_tables",
    "KvBlock": "kv_block",
    "OomMessage": "message",
    "OomVerdict": "verdict",
    "PinnedSegment": "moment_tables",
    "PrivatePool": "moment_tables",
    "Refusal": "refusals",
    "Remedy": "verdict",
    "Scene": "scene",
    "SettingOutcome": "settings_table",
    "SnapshotExplanation": "snapshot_verdict",
    "Step": "verdict",
    "explain_failure": "explain",
    "explain_snapshot": "snapshot_verdict",
    "kv_block_of_log": "kv_block",
    "kv_block_of_model": "kv_block",
    "kv_block_of_size": "kv_block",
    "parse_message": "message",
    "parse_refusal": "refusals",
    "read_failure_log": "failure_log",
}

__all__ = [
    "CAUSES",
    "Failure",
    "FailureLog",
    "Holder",
    "KvBlock",
    "OomMessage",
    "OomVerdict",
    "PinnedSegment",
    "PrivatePool",
    "Refusal",
    "Remedy",
    "Scene",
    "SettingOutcome",
    "SnapshotExplanation",
    "Step",
    "explain_failure",
    "explain_snapshot",
    "kv_block_of_log",
    "kv_block_of_model",
    "kv_block_of_size",
    "parse_message",
    "parse_refusal",
    "read_failure_log",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
