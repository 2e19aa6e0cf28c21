"""A running engine as the events see it: the header of its recording, its pool at this moment.

Owns: the translation. Leaves to others: writing events (`kernels.recording`), files and snapshots
(`kvatlas.events`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kvatlas.engine.kernels.state import NONE, Engine
from kvatlas.engine.replay import Replay
from kvatlas.engine.specs import (
    ChunkedLocalAttentionSpec,
    CrossAttentionSpec,
    KVCacheSpec,
    MambaSpec,
    SlidingWindowSpec,
)
from kvatlas.events import FragmentationSnapshot, Group, Header
from kvatlas.events.schema import SCHEMA_VERSION

__all__ = ["recording_header", "snapshot_of_engine"]


def recording_header(
    replay: Replay,
    *,
    version: str,
    engine: str,
    config: dict[str, Any] | None = None,
    workload: dict[str, Any] | None = None,
) -> Header:
    """Return the header of the events that `replay` gives.

    Args:
        replay: before or after it ran.
        version: kvatlas's.
        engine: whose rules, for people.
        config, workload: what the JSON of a replay says under these names.
    """
    settings, state = replay.config, replay.engine
    requests = state.requests
    has_null = bool(state.pool.info.has_null)
    return Header(
        schema=SCHEMA_VERSION,
        kvatlas=version,
        producer="replay",
        engine=engine,
        num_blocks=int(state.pool.blocks.shape[0]) - 1,
        has_null=has_null,
        caching=bool(state.pool.info.caching),
        groups=tuple(_group(spec) for spec in settings.groups),
        hash_block_size=settings.resolved_hash_block_size,
        # nano-vLLM gives every waiting request it touches a table: more than run.
        max_num_seqs=settings.max_num_seqs if has_null else max(1, requests.shape[0]),
        max_table_blocks=int(state.table.shape[2]),
        num_requests=int(requests.shape[0]),
        num_keys=replay.num_keys,
        config=config or {},
        workload=workload or {},
    )


def _group(spec: KVCacheSpec) -> Group:
    window = None
    match spec:
        case SlidingWindowSpec(sliding_window=tokens):
            window = tokens
        case ChunkedLocalAttentionSpec(attention_chunk_size=tokens):
            window = tokens
    return Group(
        kind=type(spec).__name__,
        block_size=spec.block_size,
        window=window,
        slots_hold_tokens=not isinstance(spec, MambaSpec | CrossAttentionSpec),
        page_size_bytes=spec.page_size_bytes or 0,
    )


def snapshot_of_engine(
    engine: Engine, event: int, step: int, time_s: float
) -> FragmentationSnapshot:
    """Freeze a running engine's pool; O(blocks + table cells in use).

    `event`, `step` and `time_s` say which moment it is.
    """
    count = engine.pool.blocks.shape[0] - 1
    rows = np.flatnonzero(engine.requests["slot"] != NONE)
    slots = engine.requests["slot"][rows]
    groups = engine.table.shape[0]
    lengths = engine.tables["length"][:, slots].T.ravel()
    has_null = bool(engine.pool.info.has_null)
    parts = [
        engine.table[group, slot, : engine.tables[group, slot].length]
        for slot in slots.tolist()
        for group in range(groups)
    ]
    cells = np.concatenate([np.empty(0, np.int32), *parts])
    if has_null:
        cells[cells == 0] = NONE
    return FragmentationSnapshot(
        event=event,
        step=step,
        time_s=time_s,
        has_null=has_null,
        ref_count=engine.pool.blocks["ref_count"][:count].copy(),
        key=engine.pool.blocks["key"][:count].copy(),
        table_request=np.repeat(rows.astype(np.int32), groups),
        table_group=np.tile(np.arange(groups, dtype=np.int32), rows.size),
        table_offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        table_blocks=cells,
    )
