"""A checkpoint: everything that is true of an engine now, so that reading may begin here.

Owns: what has to be known to read on: requests, their block tables, cached content. Leaves to
others: when one is due (`recorder`).

Some 60 ns per block of the pool: 1 ms at 20,000 blocks. Each segment begins with one, so that the
oldest can be dropped, and so does what follows a loss or an error.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from kvatlas.wire import layout
from kvatlas.wire.layout import MASK31, bytes_to_words

if TYPE_CHECKING:
    from kvatlas.live.recorder import Recorder

__all__ = ["checkpoint_words"]

_MOST_HELD = 1 << 16  # cached blocks per record
_GROUP_BYTES = 4


def checkpoint_words(recorder: Recorder) -> array[int]:
    """Return the records of a checkpoint. O(blocks + requests + their hashes)."""
    scheduler = recorder.engine
    pool = scheduler.kv_cache_manager.block_pool
    for request in scheduler.requests.values():
        # One that came while nothing was recorded gets its number now, without an arrival.
        if request.request_id not in recorder.rows:
            recorder.rows[request.request_id] = len(recorder.hashed)
            recorder.hashed.append(0)
    now = recorder.now_us()
    words = array("i")
    _put(
        words, layout.CHECKPOINT, now & MASK31, now >> 31, recorder.step & MASK31,
        recorder.step >> 31, len(recorder.hashed),
    )  # fmt: skip
    for request in scheduler.requests.values():
        _put_request(words, recorder, request)
    _put_content(words, pool)
    free = pool.free_block_queue.num_free_blocks
    _put(words, layout.CHECKPOINT_ENDED, free, len(pool.cached_block_hash_to_block))
    return words


def _put(words: array[int], code: int, *numbers: int, body: array[int] | None = None) -> None:
    length = 1 + len(numbers) + (len(body) if body is not None else 0)
    words.extend((code | length << 8, *numbers))
    if body is not None:
        words.extend(body)


def _put_request(words: array[int], recorder: Recorder, request: Any) -> None:
    row = recorder.rows[request.request_id]
    name = request.request_id.encode(errors="replace")[:255]
    hashes = request.block_hashes
    recorder.hashed[row] = len(hashes)
    sampling = request.sampling_params
    most = (sampling.max_tokens if sampling is not None else 1) or 0
    body = bytes_to_words(name)
    body.extend(bytes_to_words(b"".join(hashes)))
    tables = recorder.engine.kv_cache_manager.coordinator.get_blocks(request.request_id)
    for table in tables:
        body.append(len(table))
        body.extend([block.block_id for block in table])
    priority = request.priority & (1 << 62) - 1
    _put(
        words, layout.HELD, row, request.num_prompt_tokens, min(most, MASK31),
        priority & MASK31, priority >> 31, request.num_tokens, request.num_computed_tokens,
        int(request.status), request.num_preemptions, len(name),
        len(hashes[0]) if hashes else 0, len(hashes), len(tables), body=body,
    )  # fmt: skip


def _put_content(words: array[int], pool: Any) -> None:
    cached = [block for block in pool.blocks if block.block_hash is not None]
    if not cached:
        return
    size = len(cached[0].block_hash) - _GROUP_BYTES
    for start in range(0, len(cached), _MOST_HELD):
        part = cached[start : start + _MOST_HELD]
        body = array("i", [block.block_id for block in part])
        names = [block.block_hash for block in part]
        body.extend([int.from_bytes(name[size:], "big") for name in names])
        body.extend(bytes_to_words(b"".join([name[:size] for name in names])))
        _put(words, layout.CONTENT, size, len(part), body=body)
