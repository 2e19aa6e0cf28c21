"""Events: everything that changes memory, as one stream that a replay and a live server both give.

Owns: the schema, the log that compiled code writes to, files, and rebuilding the pool's state at
any event. Leaves to others: producing events (`kvatlas.engine`) and measuring (`kvatlas.measure`).
"""

from kvatlas.events.chunk import Chunk
from kvatlas.events.header import Group, Header
from kvatlas.events.recording import AnyRecording, Recording, open_recording
from kvatlas.events.resolve import Resolver, resolved
from kvatlas.events.schema import CAUSES, COLUMNS, EVENT, EVENTS, SCHEMA_VERSION
from kvatlas.events.snapshot import FragmentationSnapshot, snapshot_at, snapshot_of
from kvatlas.events.state import PoolState
from kvatlas.events.writer import EventWriter

__all__ = [
    "CAUSES",
    "COLUMNS",
    "EVENT",
    "EVENTS",
    "SCHEMA_VERSION",
    "AnyRecording",
    "Chunk",
    "EventWriter",
    "FragmentationSnapshot",
    "Group",
    "Header",
    "PoolState",
    "Recording",
    "Resolver",
    "open_recording",
    "resolved",
    "snapshot_at",
    "snapshot_of",
]
