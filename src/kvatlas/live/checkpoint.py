"""A checkpoint: everything that is true of an engine now, so that reading may begin here.

Owns: what has to be known to read on: requests, their block tables, cached content. Leaves to
others: when one is due (`recorder`).

Some 0.5 us per block of the pool: 9 ms at 20,000 blocks. Each segment begins with one, so that the
oldest can be dropped, and so does what follows a loss or an error.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kvatlas.wire import layout
from kvatlas.wire.layout import MASK31, padded

if TYPE_CHECKING:
    from kvatlas.live.recorder import Recorder

__all__ = ["checkpoint_bytes", "holds_blocks"]

_MOST_HELD = 1 << 16  # cached blocks per record
_GROUP_BYTES = 4


def checkpoint_bytes(recorder: Recorder) -> bytes:
    """Return the records of a checkpoint. O(blocks + requests + their hashes)."""
    scheduler = recorder.engine
    pool = scheduler.kv_cache_manager.block_pool
    for request in scheduler.requests.values():
        # One that came while nothing was recorded gets its number now, without an arrival.
        if request.request_id not in recorder.rows:
            recorder.number(request.request_id)
    now, step = recorder.now_us(), recorder.step
    free = pool.free_block_queue.num_free_blocks
    return b"".join((
        _record(
            layout.CHECKPOINT, now & MASK31, now >> 31, step & MASK31, step >> 31,
            recorder.next_row,
        ),
        *(_request(recorder, request) for request in scheduler.requests.values()),
        *_content(pool),
        _record(layout.CHECKPOINT_ENDED, free, len(pool.cached_block_hash_to_block)),
    ))  # fmt: skip


def holds_blocks(scheduler: Any, request_id: str) -> bool:
    """Say whether a request holds blocks."""
    return any(scheduler.kv_cache_manager.coordinator.get_blocks(request_id))


def _record(code: int, *numbers: int, data: bytes = b"") -> bytes:
    length = 1 + len(numbers) + len(data) // 4
    return struct.pack(f"{1 + len(numbers)}i", code | length << 8, *numbers) + data


def _request(recorder: Recorder, request: Any) -> bytes:
    row = recorder.rows[request.request_id]
    name = request.request_id.encode(errors="replace")[:255]
    # A queue may be long, and its prompts too: theirs are told again when they get blocks.
    hashes = request.block_hashes if holds_blocks(recorder.engine, request.request_id) else ()
    recorder.hashed[row] = len(hashes)
    sampling = request.sampling_params
    most = (sampling.max_tokens if sampling is not None else 1) or 0
    tables = recorder.engine.kv_cache_manager.coordinator.get_blocks(request.request_id)
    ids: list[int] = []
    for table in tables:
        ids.append(len(table))
        ids.extend([block.block_id for block in table])
    priority = request.priority & (1 << 62) - 1
    return _record(
        layout.HELD, row, request.num_prompt_tokens, min(most, MASK31), priority & MASK31,
        priority >> 31, request.num_tokens, request.num_computed_tokens, int(request.status),
        request.num_preemptions, len(name), len(hashes[0]) if hashes else 0, len(hashes),
        len(tables),
        data=padded(name) + padded(b"".join(hashes)) + struct.pack(f"{len(ids)}i", *ids),
    )  # fmt: skip


def _content(pool: Any) -> Iterator[bytes]:
    cached = [block for block in pool.blocks if block.block_hash is not None]
    for start in range(0, len(cached), _MOST_HELD):
        part = cached[start : start + _MOST_HELD]
        names = [block.block_hash for block in part]
        size, count = len(names[0]) - _GROUP_BYTES, len(part)
        groups = [int.from_bytes(name[size:], "big") for name in names]
        ids = [block.block_id for block in part]
        yield _record(
            layout.CONTENT, size, count, *ids, *groups,
            data=padded(b"".join([name[:size] for name in names])),
        )  # fmt: skip
