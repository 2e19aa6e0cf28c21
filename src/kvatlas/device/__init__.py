"""The device allocator below the KV cache: recorded snapshots, and a twin that replays them.

Owns: `read_snapshot` and what it returns, the twin of PyTorch's CUDA caching allocator. Leaves to
others: blocks of the KV cache (`kvatlas.engine`), pieces of memory of our own
(`kvatlas.storage.arena`). Neither torch nor a device is needed; the names load lazily.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvatlas.device.attribution import StackBytes, bytes_by_stack
    from kvatlas.device.build import Limits
    from kvatlas.device.capturing import capture
    from kvatlas.device.columns import ACTIONS, BLOCK_STATES
    from kvatlas.device.lives import DeviceLives
    from kvatlas.device.moment import AllocatorMoment, PinningStack
    from kvatlas.device.overview import Overview, overview_of
    from kvatlas.device.reading import read_snapshot
    from kvatlas.device.results import RecordedReplay, Timeline, WhatIf
    from kvatlas.device.settings import AllocatorSettings
    from kvatlas.device.snapshot import (
        AllocatorBlocks,
        AllocatorSegments,
        Annotations,
        DeviceSnapshot,
        DeviceTrace,
        Frame,
        Stacks,
    )
    from kvatlas.device.survival import CANDIDATES, Survival, survival_table
    from kvatlas.device.twin import DeviceTwin

_HOME = {
    "ACTIONS": "columns",
    "BLOCK_STATES": "columns",
    "AllocatorBlocks": "snapshot",
    "AllocatorMoment": "moment",
    "AllocatorSegments": "snapshot",
    "AllocatorSettings": "settings",
    "Annotations": "snapshot",
    "DeviceLives": "lives",
    "DeviceSnapshot": "snapshot",
    "DeviceTrace": "snapshot",
    "CANDIDATES": "survival",
    "DeviceTwin": "twin",
    "Frame": "snapshot",
    "Limits": "build",
    "PinningStack": "moment",
    "Overview": "overview",
    "RecordedReplay": "results",
    "StackBytes": "attribution",
    "Stacks": "snapshot",
    "Survival": "survival",
    "Timeline": "results",
    "WhatIf": "results",
    "capture": "capturing",
    "bytes_by_stack": "attribution",
    "overview_of": "overview",
    "read_snapshot": "reading",
    "survival_table": "survival",
}

__all__ = [
    "ACTIONS",
    "BLOCK_STATES",
    "CANDIDATES",
    "AllocatorBlocks",
    "AllocatorMoment",
    "AllocatorSegments",
    "AllocatorSettings",
    "Annotations",
    "DeviceLives",
    "DeviceSnapshot",
    "DeviceTrace",
    "DeviceTwin",
    "Frame",
    "Limits",
    "Overview",
    "PinningStack",
    "RecordedReplay",
    "StackBytes",
    "Stacks",
    "Survival",
    "Timeline",
    "WhatIf",
    "bytes_by_stack",
    "capture",
    "overview_of",
    "read_snapshot",
    "survival_table",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
