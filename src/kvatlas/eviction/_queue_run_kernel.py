"""The prefix-only model under the policies that are queues: they may leave holes in a prefix.

Owns: requests one after another; what lies behind a hole serves no hit, but is used all the same.
Leaves to others: the queues (`_queues_kernel`), contents and places (`_paths_kernel`).
"""

from __future__ import annotations

from kvatlas.eviction import _hooks_kernel as hooks
from kvatlas.eviction import _queues_kernel as queues
from kvatlas.eviction._keys_kernel import offer, offer_again
from kvatlas.eviction._paths_kernel import (
    Cache,
    Paths,
    count_hits,
    fill_contents,
    give_back,
    take_place,
)
from kvatlas.eviction._state_kernel import MAIN, NONE, TWO_Q, Eviction
from kvatlas.jit import entry, inlined


@entry
def run_queues(eviction: Eviction, paths: Paths, cache: Cache, max_accesses: int) -> bool:
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
    run, contents, found = cache.run, cache.contents, cache.found
    count = fill_contents(paths, row, contents)
    hooks.request_begins(eviction)
    hits = count
    for i in range(count):
        item = cache.place_of[contents[i]] - 1
        found[i] = item
        if item < 0:
            hits = min(hits, i)
    count_hits(paths, cache, row, hits)
    # Deepest block first, as an engine frees a request: of what enters together it goes first.
    for i in range(count - 1, -1, -1):
        item = int(found[i])
        if item >= 0:
            hooks.used(eviction, item)
            hooks.stamp(eviction, item)
            if eviction.info.code == TWO_Q and eviction.items[item].heap == MAIN:
                offer_again(eviction, item)
        else:
            item = take_place(cache, int(contents[i]))
            hooks.fill(eviction, item, int(contents[i]), NONE, i)
            hooks.stamp(eviction, item)
            queues.returns(eviction, item)
            offer(eviction, item)
    run.accesses += count
    while run.held > run.capacity:
        item = hooks.victim(eviction)
        hooks.removed(eviction, item, int(cache.content_of[item]), True)
        give_back(cache, item)
