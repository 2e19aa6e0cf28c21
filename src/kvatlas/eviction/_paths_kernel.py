"""What the prefix-only driver works on: requests as paths of contents, and the cache's places.

Owns: the contents of a request's blocks, the places that hold them, and when each content is used
next. Leaves to others: what is evicted (`_leaf_run_kernel`, `_queue_run_kernel`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from kvatlas.eviction._state_kernel import I32, I64
from kvatlas.jit import entry, inlined
from kvatlas.records import Record, record_dtype

NEVER = 2**31 - 1
"""The next use of what is not used again."""

RUN = record_dtype(
    row="i8",  # requests done
    accesses="i8",  # blocks of their paths
    held="i8",  # contents in the cache
    empties="i8",  # places given back, a stack
    fresh="i8",  # places never used yet start here
    capacity="i8",  # contents that the cache may hold
    room_before="i8",  # 1: room is made before a request's blocks are inserted
    count_partial="i8",
    hit_blocks="i8",
    hit_tokens="i8",
)


class Paths(NamedTuple):
    """N requests: block i of one is a part of an identity, or the last of several identities."""

    ids: NDArray[Any]  # prefix-chained identities, int32 or int64
    id_offsets: I64  # (N + 1,)
    blocks: I32  # (N,) blocks that are looked up
    prompt_tokens: I32  # (N,)
    answer_tokens: I32  # (N,)
    tails: I32  # (N,) blocks that a next turn can share
    ids_per_block: int
    blocks_per_id: int
    block_size: int
    next_use: I32  # (blocks of all paths,) the request that uses each next; (1,) when not known


class Cache(NamedTuple):
    """Which content lies where: 4 bytes per content of the trace and 16 per place."""

    place_of: I32  # (K,) 1 + the item that holds a content, 0 for none
    content_of: I64  # (N,)
    empties: I32  # (N,) a stack of places
    contents: I64  # (W,) of the request at hand
    found: I32  # (W,) their items
    hits: I32  # (requests,) hit blocks of each; (1,) when nobody asks
    run: Record  # RUN


@inlined
def fill_contents(paths: Paths, row: int, contents: I64) -> int:
    """Write the contents of a request's blocks, return how many there are; O(blocks)."""
    count = int(paths.blocks[row])
    first, stop = paths.id_offsets[row], paths.id_offsets[row + 1]
    parts = paths.blocks_per_id
    if parts == 1:
        at = first + paths.ids_per_block - 1
        for i in range(count):
            # A partial block at the end is named by the last identity there is.
            contents[i] = paths.ids[min(at, stop - 1)]
            at += paths.ids_per_block
        return count
    i = 0
    at = first
    while i < count:
        base = int(paths.ids[at]) * parts
        for part in range(min(parts, count - i)):
            contents[i + part] = base + part
        i += parts
        at += 1
    return count


@inlined
def take_place(cache: Cache, content: int) -> int:
    """Return a free place, which holds `content` from now on; O(1)."""
    run = cache.run
    if run.empties > 0:
        run.empties -= 1
        item = int(cache.empties[run.empties])
    else:
        item = int(run.fresh)
        run.fresh += 1
    cache.place_of[content] = item + 1
    cache.content_of[item] = content
    run.held += 1
    return item


@inlined
def give_back(cache: Cache, item: int) -> None:
    """Empty the place of an evicted content; O(1)."""
    cache.place_of[cache.content_of[item]] = 0
    cache.empties[cache.run.empties] = item
    cache.run.empties += 1
    cache.run.held -= 1


@inlined
def count_hits(paths: Paths, cache: Cache, row: int, hits: int) -> None:
    """Add a request's hits, in blocks and in tokens that need not be computed."""
    run = cache.run
    prompt, block_size = int(paths.prompt_tokens[row]), paths.block_size
    run.hit_blocks += hits
    if run.count_partial != 0:
        run.hit_tokens += min(hits * block_size, prompt)
    else:
        run.hit_tokens += min(hits, (prompt - 1) // block_size) * block_size
    if cache.hits.shape[0] > 1:
        cache.hits[row] = hits


@entry
def find_next_uses(paths: Paths, contents: I64, used: I32, next_use: I32) -> None:
    """Write which request uses each block of each path next, NEVER for none; O(blocks).

    `used` (contents,) must be zero. Every block of a path counts as used by its request.
    """
    at = next_use.shape[0]
    for row in range(paths.blocks.shape[0] - 1, -1, -1):
        count = fill_contents(paths, row, contents)
        at -= count
        for i in range(count):
            later = used[contents[i]]
            next_use[at + i] = NEVER if later == 0 else later - 1
            used[contents[i]] = row + 1
