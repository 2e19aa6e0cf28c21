"""The second profile of the engine: nano-vLLM's block manager and scheduler.

Owns: `BlockManager` to embed, `NanoReplay` to replay, and their settings. The pool, the prefix
index, the waiting queue, the clock and the stream of decisions are the engine's own.
"""

from __future__ import annotations

from kvatlas.engine.nano.block_manager import BlockManager
from kvatlas.engine.nano.config import NANO_VERSIONS, NanoConfig
from kvatlas.engine.nano.replay import NanoReplay
from kvatlas.engine.nano.sequence import Sequence, SequenceLike

__all__ = [
    "NANO_VERSIONS",
    "BlockManager",
    "NanoConfig",
    "NanoReplay",
    "Sequence",
    "SequenceLike",
]
