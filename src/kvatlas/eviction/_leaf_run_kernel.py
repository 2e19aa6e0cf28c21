"""The prefix-only model under the policies by leaf: O(1) a block, O(log leaves) a request.

Owns: requests one after another, nobody else in between, so that only the end of a path enters or
leaves a heap. Leaves to others: keys (`_keys_kernel`), contents and places (`_paths_kernel`), the
general order of the hooks, to which this is equal (`_hooks_kernel`).
"""

from __future__ import annotations

from kvatlas.eviction import _heap_kernel as heap_
from kvatlas.eviction import _hooks_kernel as hooks
from kvatlas.eviction import _return_rate_kernel as return_rate
from kvatlas.eviction._keys_kernel import offer_again, offer_instead
from kvatlas.eviction._paths_kernel import (
    Cache,
    Paths,
    count_hits,
    fill_contents,
    give_back,
    take_place,
)
from kvatlas.eviction._state_kernel import COMPUTE_AWARE, NONE, OPTIMUM, RETURN_RATE, Eviction
from kvatlas.jit import entry, inlined


@entry
def run_by_leaf(eviction: Eviction, paths: Paths, cache: Cache, max_accesses: int) -> bool:
    """Serve requests until all are done (True) or `max_accesses` blocks have been used."""
    run = cache.run
    last_access = run.accesses + max_accesses
    while run.row < paths.blocks.shape[0]:
        if run.accesses >= last_access:
            return False
        _serve(eviction, paths, cache, int(run.row))
        run.row += 1
    return True


@inlined
def _serve(eviction: Eviction, paths: Paths, cache: Cache, row: int) -> None:
    info, items, run, contents = eviction.info, eviction.items, cache.run, cache.contents
    count = fill_contents(paths, row, contents)
    hooks.request_begins(eviction)
    # The path is given back deepest block first: block i gets the stamp top - i.
    top = info.stamp + count
    info.stamp = top
    request = info.requests
    knows_future = info.code == OPTIMUM
    weight = float(info.clock) if info.code == COMPUTE_AWARE else 0.0
    learns_kinds = info.code == RETURN_RATE
    hits = 0
    last = NONE
    while hits < count:
        item = cache.place_of[contents[hits]] - 1
        if item < 0:
            break
        it = items[item]
        it.uses += 1
        it.used_at = request
        it.stamp = top - hits
        it.weight = -float(paths.next_use[run.accesses + hits]) if knows_future else weight
        if learns_kinds:
            return_rate.used(eviction, int(item))
        last = int(item)
        hits += 1
    count_hits(paths, cache, row, hits)
    if last != NONE:
        hooks.found(eviction, last, int(contents[hits - 1]))
        if hits < count and items[last].place != NONE:
            heap_.remove(eviction, last)
    if run.room_before != 0:
        if last != NONE:
            items[last].children += 1  # what is hit stays while room is made
        while run.held + count - hits > run.capacity and _evict(eviction, cache):
            pass
        if last != NONE:
            items[last].children -= 1
        if info.code == COMPUTE_AWARE:
            # The path is given back after room was made for it, which moved the clock.
            weight = float(info.clock)
            for i in range(hits):
                items[cache.place_of[contents[i]] - 1].weight = weight
    for i in range(hits, count):
        content = int(contents[i])
        item = take_place(cache, content)
        hooks.fill(eviction, item, content, last, i)
        it = items[item]
        it.used_at = request
        it.stamp = top - i
        if not learns_kinds:
            it.weight = -float(paths.next_use[run.accesses + i]) if knows_future else weight
        if last != NONE:
            it.parent = last
            it.parent_born = items[last].born
            items[last].children += 1
        last = item
    run.accesses += count
    if last == NONE:
        return
    if learns_kinds:
        hooks.gives_back(eviction, int(paths.answer_tokens[row]))
        if count == 1:
            info.deepest = 0
        for i in range(count - 1, -1, -1):
            return_rate.released(eviction, int(cache.place_of[contents[i]] - 1))
    if items[last].children == 0:
        offer_again(eviction, last)
    if paths.tails[row] > 0:
        hooks.request_ends(eviction, last, int(contents[paths.tails[row] - 1]))
    while run.held > run.capacity:
        _evict(eviction, cache)


@inlined
def _evict(eviction: Eviction, cache: Cache) -> bool:
    """Evict the policy's victim; its parent may be the next one."""
    item = hooks.victim(eviction)
    if item == NONE:
        return False
    parent = int(eviction.items[item].parent)
    if parent == NONE:
        heap_.remove(eviction, item)
    else:
        hooks.inherit(eviction, item, parent)
        above = eviction.items[parent]
        above.children -= 1
        if above.children == 0:
            offer_instead(eviction, item, parent)
        else:
            heap_.remove(eviction, item)
    hooks.forget(eviction, item, int(cache.content_of[item]))
    give_back(cache, item)
    return True
