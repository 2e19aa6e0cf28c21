"""The rules under which the real KVCacheManager was recorded, compiled over our manager's kernels.

Owns: the driver of the `mgr_*` recordings: requests in trace order, at most `concurrency` of them
alive, the oldest freed first when blocks run out; a request's prompt is allocated at once, its
answer token by token.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np

from kvatlas.engine.config import EngineConfig
from kvatlas.engine.kernels import manager
from kvatlas.engine.kernels.lookup import find_longest_cache_hit
from kvatlas.engine.kernels.state import NONE, Engine
from kvatlas.engine.replay import Replay, free_queue
from kvatlas.jit import entry, inlined, kernel
from kvatlas.workload import Workload

_ADMIT_WORD, _NEW_WORD = 0xFFFFFFFF, 0xFFFFFFFE
_COUNTS = (
    "row", "head", "tail", "used_words", "skipped", "truncated", "hit_tokens", "prompt_tokens",
    "output_tokens", "hit_blocks", "new_prompt_blocks", "new_decode_blocks", "forced_frees",
    "lookups", "prefill_none", "decode_calls", "decode_none", "frees", "peak_used_blocks",
)  # fmt: skip
(
    ROW, HEAD, TAIL, USED, SKIPPED, TRUNCATED, HIT_TOKENS, PROMPT_TOKENS, OUTPUT_TOKENS,
    HIT_BLOCKS, NEW_PROMPT_BLOCKS, NEW_DECODE_BLOCKS, FORCED_FREES, LOOKUPS, PREFILL_NONE,
    DECODE_CALLS, DECODE_NONE, FREES, PEAK_USED,
) = range(19)  # fmt: skip


class Drive(NamedTuple):
    """Where the driver stands: `counts` by the names above, the alive rows, the words so far."""

    counts: np.ndarray[Any, np.dtype[np.int64]]
    alive: np.ndarray[Any, np.dtype[np.int64]]
    words: np.ndarray[Any, np.dtype[np.uint32]]
    concurrency: int


@inlined
def _put(drive: Drive, word: int) -> None:
    drive.words[drive.counts[USED]] = word
    drive.counts[USED] += 1


@kernel
def _free_oldest(engine: Engine, drive: Drive) -> None:
    manager.free(engine, drive.alive[drive.counts[HEAD]])
    drive.counts[HEAD] += 1
    drive.counts[FREES] += 1


@kernel
def _admit(engine: Engine, drive: Drive, row: int) -> bool:
    """Give `row` slots for its whole prompt, freeing others while there are none."""
    count = drive.counts
    prompt = int(engine.requests[row].prompt)
    while True:
        hit, _ = find_longest_cache_hit(engine, row, prompt - 1)
        num_hits = int(engine.scratch[0].num_hits)
        count[LOOKUPS] += 1
        if manager.allocate_slots(engine, row, prompt - hit, hit, num_hits > 0, False, 0):
            break
        count[PREFILL_NONE] += 1
        if count[HEAD] == count[TAIL]:
            return False
        _free_oldest(engine, drive)
        count[FORCED_FREES] += 1
    slot = engine.requests[row].slot
    length = int(engine.tables[0, slot].length)
    _put(drive, _ADMIT_WORD)
    _put(drive, row)
    _put(drive, hit)
    for i in range(length + 1):
        if i == num_hits:
            _put(drive, _NEW_WORD)
        if i < length:
            _put(drive, engine.table[0, slot, i])
    count[HIT_TOKENS] += hit
    count[PROMPT_TOKENS] += prompt
    count[HIT_BLOCKS] += num_hits
    count[NEW_PROMPT_BLOCKS] += length - num_hits
    engine.requests[row].computed = prompt
    return True


@kernel
def _decode(engine: Engine, drive: Drive, row: int) -> None:
    """Append the answer's tokens; the last one is never computed."""
    count, requests = drive.counts, engine.requests
    slot = requests[row].slot
    requests[row].num_tokens += 1
    done = 1
    while done < requests[row].max_tokens:
        length = int(engine.tables[0, slot].length)
        count[DECODE_CALLS] += 1
        if not manager.allocate_slots(engine, row, 1, 0, False, False, 0):
            count[DECODE_NONE] += 1
            if count[HEAD] == count[TAIL]:
                count[TRUNCATED] += 1
                break
            _free_oldest(engine, drive)
            count[FORCED_FREES] += 1
            continue
        if engine.tables[0, slot].length > length:
            _put(drive, engine.table[0, slot, length])
            count[NEW_DECODE_BLOCKS] += 1
        requests[row].computed += 1
        requests[row].num_tokens += 1
        done += 1
    count[OUTPUT_TOKENS] += done


@entry
def _serve(engine: Engine, drive: Drive, room: int) -> None:
    """Serve request after request while `room` words are left for the next one."""
    count = drive.counts
    num_rows = engine.requests.shape[0]
    while count[ROW] < num_rows and drive.words.shape[0] - count[USED] >= room:
        row = count[ROW]
        count[ROW] += 1
        while count[TAIL] - count[HEAD] >= drive.concurrency:
            _free_oldest(engine, drive)
        if not _admit(engine, drive, row):
            count[SKIPPED] += 1
            continue
        _decode(engine, drive, row)
        drive.alive[count[TAIL]] = row
        count[TAIL] += 1
        used = engine.config.num_blocks - 1 - engine.pool.info.free
        count[PEAK_USED] = max(count[PEAK_USED], used)
    if count[ROW] == num_rows:
        while count[HEAD] < count[TAIL]:
            _free_oldest(engine, drive)


def drive_manager(
    workload: Workload, *, num_blocks: int, block_size: int, concurrency: int
) -> dict[str, int | str]:
    """Run `workload` under the recorded driver's rules; return counts under its names."""
    config = EngineConfig(
        num_blocks=num_blocks, block_size=block_size, max_num_seqs=concurrency + 1
    )
    engine = Replay(workload, config).engine
    engine.requests["slot"][:] = NONE
    room = engine.table.shape[2] + 8
    drive = Drive(
        counts=np.zeros(len(_COUNTS), np.int64),
        alive=np.zeros(workload.num_requests, np.int64),
        words=np.zeros(max(1 << 20, room), np.uint32),
        concurrency=concurrency,
    )
    digest = hashlib.sha256()
    while drive.counts[ROW] < workload.num_requests:
        _serve(engine, drive, room)
        digest.update(drive.words[: drive.counts[USED]].astype("<u4", copy=False).data)
        drive.counts[USED] = 0
    counts: dict[str, int | str] = dict(zip(_COUNTS, drive.counts.tolist(), strict=True))
    info = engine.pool.info
    counts["prefill_calls"] = counts["lookups"]
    counts["requests"] = workload.num_requests - int(counts["skipped"])
    counts["cache_inserts"] = int(info.inserts)
    counts["cached_at_end"] = int(info.cached)
    counts["evictions"] = int(info.evictions)
    counts["alloc_sha256"] = digest.hexdigest()[:16]
    free = free_queue(engine).astype("<u4").tobytes()
    counts["freelist_sha256"] = hashlib.sha256(free).hexdigest()[:16]
    return counts
