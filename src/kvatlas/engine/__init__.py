"""The engine: an exact twin of vLLM's scheduler and KV memory, to replay with or to embed.

The public names below load lazily, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvatlas.engine.block_hashing import BlockHasher
    from kvatlas.engine.block_pool import BlockPool, KVCacheBlock
    from kvatlas.engine.config import EngineConfig
    from kvatlas.engine.kv_cache_manager import KVCacheBlocks, KVCacheManager
    from kvatlas.engine.replay import Replay
    from kvatlas.engine.request import Request
    from kvatlas.engine.results import DriveConfig, ReplayResult
    from kvatlas.engine.scheduling import Scheduler, SchedulerOutput
    from kvatlas.engine.specs import (
        ChunkedLocalAttentionSpec,
        CrossAttentionSpec,
        FullAttentionSpec,
        KVCacheSpec,
        MambaSpec,
        SlidingWindowSpec,
    )

_HOME = {
    "BlockHasher": "block_hashing",
    "BlockPool": "block_pool",
    "ChunkedLocalAttentionSpec": "specs",
    "CrossAttentionSpec": "specs",
    "DriveConfig": "results",
    "EngineConfig": "config",
    "FullAttentionSpec": "specs",
    "KVCacheBlock": "block_pool",
    "KVCacheBlocks": "kv_cache_manager",
    "KVCacheManager": "kv_cache_manager",
    "KVCacheSpec": "specs",
    "MambaSpec": "specs",
    "Replay": "replay",
    "ReplayResult": "results",
    "Request": "request",
    "Scheduler": "scheduling",
    "SchedulerOutput": "scheduling",
    "SlidingWindowSpec": "specs",
}

__all__ = [
    "BlockHasher",
    "BlockPool",
    "ChunkedLocalAttentionSpec",
    "CrossAttentionSpec",
    "DriveConfig",
    "EngineConfig",
    "FullAttentionSpec",
    "KVCacheBlock",
    "KVCacheBlocks",
    "KVCacheManager",
    "KVCacheSpec",
    "MambaSpec",
    "Replay",
    "ReplayResult",
    "Request",
    "Scheduler",
    "SchedulerOutput",
    "SlidingWindowSpec",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
