"""`FragmentationSnapshot`: the whole pool at one moment.

Owns: the picture, its bytes, and taking it from a recording. Leaves to others: what it means
(`kvatlas.measure`), taking it from a running engine (`kvatlas.engine.snapshot`).
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kvatlas.errors import InputError
from kvatlas.events.schema import NONE
from kvatlas.events.state import PoolState

if TYPE_CHECKING:
    from kvatlas.events.recording import AnyRecording

__all__ = ["EMPTY", "EVICTABLE", "USED", "FragmentationSnapshot", "snapshot_at", "snapshot_of"]

EMPTY, EVICTABLE, USED = range(3)
"""A block's state: free without content, free with content, owned."""

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class FragmentationSnapshot:
    """Owners, content and block tables of N blocks and T tables after `event` events.

    Attributes:
        event: events before this moment; step, time_s: of the last of them.
        has_null: block 0 is the null block, which is neither used nor free.
        ref_count: (N,) owners.
        key: (N,) what is cached, -1 for nothing.
        table_request, table_group: (T,) whose tables, by request and group.
        table_offsets: (T + 1,) table i is `table_blocks[table_offsets[i]:table_offsets[i + 1]]`.
        table_blocks: block ids, -1 where a block has left the attention window.
    """

    event: int
    step: int
    time_s: float
    has_null: bool
    ref_count: I32
    key: I64
    table_request: I32
    table_group: I32
    table_offsets: I64
    table_blocks: I32

    @property
    def num_blocks(self) -> int:
        """Blocks, the null block included."""
        return int(self.ref_count.size)

    def states(self) -> NDArray[np.int8]:
        """Return (N,) EMPTY, EVICTABLE or USED; the null block counts as used. O(N)."""
        states = np.where(self.key != NONE, np.int8(EVICTABLE), np.int8(EMPTY))
        states[self.ref_count > 0] = USED
        if self.has_null:
            states[0] = USED
        return states

    def owners(self) -> I32:
        """Return (N,) the request that owns a block, -1 for none; of several, any one. O(N)."""
        owners = np.full(self.num_blocks, NONE, np.int32)
        holders = np.repeat(self.table_request, np.diff(self.table_offsets))
        held = self.table_blocks != NONE
        owners[self.table_blocks[held]] = holders[held]
        return owners

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FragmentationSnapshot):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, field.name), getattr(other, field.name))
            for field in fields(self)
        )

    __hash__ = None  # type: ignore[assignment]

    def to_bytes(self) -> bytes:
        """Return the snapshot as a compressed NumPy archive, without pickles."""
        out = io.BytesIO()
        np.savez_compressed(
            out, **{field.name: getattr(self, field.name) for field in fields(self)}
        )
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> FragmentationSnapshot:
        """Return what `to_bytes` gave. Raises: InputError for anything else."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                values: dict[str, Any] = {name: archive[name] for name in archive.files}
            for field in fields(cls):
                if values[field.name].ndim == 0:
                    values[field.name] = values[field.name].item()
            return cls(**values)
        except (ValueError, OSError, KeyError, TypeError, EOFError) as error:
            raise InputError("not a snapshot", field="snapshot") from error


def snapshot_of(state: PoolState) -> FragmentationSnapshot:
    """Freeze a state; O(blocks + cells in use)."""
    tables = state.resolver.tables
    slots = np.flatnonzero(tables.request_of != NONE)
    slots = slots[np.argsort(tables.request_of[slots])]
    groups = tables.lengths.shape[1]
    lengths = tables.lengths[slots].astype(np.int64).ravel()
    parts = [
        tables.cells[slot, group, : tables.lengths[slot, group]]
        for slot in slots.tolist()
        for group in range(groups)
    ]
    return FragmentationSnapshot(
        event=state.events,
        step=state.step,
        time_s=state.time_ms / 1e3,
        has_null=state.header.has_null,
        ref_count=state.blocks.ref_count.copy(),
        key=state.blocks.key.copy(),
        table_request=np.repeat(tables.request_of[slots], groups),
        table_group=np.tile(np.arange(groups, dtype=np.int32), slots.size),
        table_offsets=np.concatenate(([0], np.cumsum(lengths))),
        table_blocks=np.concatenate([np.empty(0, np.int32), *parts]),
    )


def snapshot_at(
    recording: AnyRecording, event: int | None = None, time_s: float | None = None
) -> FragmentationSnapshot:
    """Return the pool after `event` events, or after the last event up to `time_s`, or at the end.

    O(events before it + blocks). Raises: InputError outside of the recording.
    """
    state = PoolState(recording.header, recording.path)
    for chunk in recording.chunks():
        stop = len(chunk.rows)
        if event is not None:
            stop = min(stop, event - state.events)
        elif time_s is not None:
            late = chunk.rows["time_ms"] > time_s * 1e3
            stop = int(late.argmax()) if late.any() else stop
        state.advance(chunk, stop)
        if stop < len(chunk.rows):
            break
    if event is not None and not 0 <= event <= state.events:
        raise InputError(
            "no such event", file=recording.path, field="event", value=event,
            remedy=f"the recording has {state.events:,}",
        )  # fmt: skip
    return snapshot_of(state)
