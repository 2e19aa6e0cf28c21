"""The contract: what a pool tells its policy, and how it asks for a victim.

Owns: the hooks in their order, and which items can be evicted: those that nobody holds, and for the
policies `by_leaf` only those that nothing evictable hangs from. Leaves to others: each policy's
choice (`_keys_kernel`, `_queues_kernel`, `_sessions_kernel`).

A content is inserted while a request holds it; it is held and given back again and again, and ends
removed. Links to parents exist between items that nobody holds: whoever holds a child holds what it
hangs from, so a held child needs no protection. An item that is given back says what it hangs from
then, which may be another copy of the same content than before.
"""

from __future__ import annotations

from kvatlas.eviction import _heap_kernel as heap_
from kvatlas.eviction import _memory_kernel as memory_
from kvatlas.eviction import _queues_kernel as queues
from kvatlas.eviction import _return_rate_kernel as return_rate
from kvatlas.eviction import _sessions_kernel as sessions
from kvatlas.eviction._keys_kernel import offer
from kvatlas.eviction._state_kernel import (
    COMPUTE_AWARE,
    LFU,
    NONE,
    ONE_HIT_FIRST,
    RETURN_RATE,
    SESSION_AWARE,
    Eviction,
)
from kvatlas.jit import inlined, kernel


@inlined
def request_begins(eviction: Eviction) -> None:
    """A request's blocks are about to be looked up; O(1) amortised."""
    eviction.info.requests += 1
    if eviction.info.code == SESSION_AWARE:
        sessions.request_begins(eviction)
    elif eviction.info.code == RETURN_RATE:
        return_rate.request_begins(eviction)


@inlined
def gives_back(eviction: Eviction, answer_tokens: int) -> None:
    """A request whose answer had so many tokens gives its blocks back next, the deepest first."""
    eviction.info.long_answer = 1 if answer_tokens >= return_rate.SHORT_ANSWER_TOKENS else 0
    eviction.info.deepest = 1


@inlined
def found(eviction: Eviction, item: int, content: int) -> None:
    """`item` is the deepest hit of the request that has just begun; O(1)."""
    if eviction.info.code == SESSION_AWARE:
        sessions.found(eviction, item, content)


@inlined
def used(eviction: Eviction, item: int) -> None:
    """A request hit `item`; O(1)."""
    eviction.items[item].uses += 1
    eviction.items[item].used_at = eviction.info.requests
    if eviction.info.by_leaf == 0:
        queues.hit(eviction, item)
    elif eviction.info.code == RETURN_RATE:
        return_rate.used(eviction, item)


@inlined
def fill(eviction: Eviction, item: int, content: int, parent: int, depth: int) -> None:
    """`item` holds `content` from now on; `parent` is what it hangs from, NONE for none; O(1)."""
    it, info = eviction.items[item], eviction.info
    info.born += 1
    it.born = info.born
    it.parent = NONE
    it.children = 0
    it.depth = depth
    it.uses = 1
    it.used_at = info.requests
    it.queued = 0
    it.weight = 0.0
    it.mark = 0
    it.cached = 1
    eviction.contents[item] = content
    if info.by_leaf == 0:
        queues.enters(eviction, item, content)
    elif info.code == SESSION_AWARE:
        sessions.inserted(eviction, item, content, parent)
    elif info.code == LFU or info.code == ONE_HIT_FIRST:
        it.uses += memory_.past_uses(eviction, content)
    elif info.code == RETURN_RATE:
        return_rate.inserted(eviction, item, content, parent, depth)


@kernel
def inserted(eviction: Eviction, item: int, content: int, parent: int, depth: int) -> None:
    """A request that holds `item` has filled it with `content`; O(1)."""
    fill(eviction, item, content, parent, depth)
    eviction.items[item].held = 1


@kernel
def pinned(eviction: Eviction, item: int) -> None:
    """A request holds `item`, which nobody held; O(log)."""
    eviction.items[item].held = 1
    if eviction.items[item].place != NONE:
        heap_.remove(eviction, item)
    if eviction.info.by_leaf != 0:
        _unlink(eviction, item)


@kernel
def released(eviction: Eviction, item: int, parent: int) -> None:
    """Nobody holds `item` any more; it hangs from `parent`, NONE when that is not cached; O(log).

    A request gives back its deepest block first.
    """
    it, info = eviction.items[item], eviction.info
    it.held = 0
    stamp(eviction, item)
    if info.by_leaf == 0:
        queues.returns(eviction, item)
    elif info.code == RETURN_RATE:
        return_rate.released(eviction, item)
    if info.by_leaf != 0 and parent != NONE and eviction.items[parent].cached != 0:
        link(eviction, item, parent)
    if it.children == 0:
        offer(eviction, item)


@inlined
def stamp(eviction: Eviction, item: int) -> None:
    """Note that `item` is given back now."""
    it, info = eviction.items[item], eviction.info
    info.stamp += 1
    it.stamp = info.stamp
    it.used_at = info.requests
    if info.code == COMPUTE_AWARE:
        it.weight = info.clock


@inlined
def link(eviction: Eviction, item: int, parent: int) -> None:
    """Let `item` hang from `parent`, which cannot be evicted before it; O(log)."""
    it, above = eviction.items[item], eviction.items[parent]
    it.parent = parent
    it.parent_born = above.born
    above.children += 1
    if above.place != NONE:
        heap_.remove(eviction, parent)


@kernel
def _unlink(eviction: Eviction, item: int) -> None:
    parent = above_of(eviction, item)
    eviction.items[item].parent = NONE
    if parent == NONE:
        return
    above = eviction.items[parent]
    above.children -= 1
    if above.children == 0 and above.held == 0:
        offer(eviction, parent)


@inlined
def above_of(eviction: Eviction, item: int) -> int:
    """Return what `item` hangs from, NONE when that content has gone."""
    it = eviction.items[item]
    parent = int(it.parent)
    if parent == NONE:
        return NONE
    above = eviction.items[parent]
    return parent if above.cached != 0 and above.born == it.parent_born else NONE


@inlined
def inherit(eviction: Eviction, item: int, parent: int) -> None:
    """Let `parent` end the conversation that `item`, about to go, was in, if it was its last."""
    if eviction.info.code != SESSION_AWARE:
        return
    if eviction.items[parent].used_at == eviction.items[item].used_at:
        eviction.items[parent].turn = eviction.items[item].turn


@kernel
def victim(eviction: Eviction) -> int:
    """Return the item to evict next, NONE when none can be; `removed` must follow. O(log)."""
    info = eviction.info
    if info.by_leaf == 0:
        heap = queues.victim_heap(eviction)
    elif info.code == SESSION_AWARE:
        heap = sessions.least_likely(eviction)
    elif info.code == RETURN_RATE:
        heap = return_rate.least_returning(eviction)
    else:
        heap = 0 if eviction.sizes[0] > 0 else NONE
    if heap == NONE:
        return NONE
    top = eviction.heaps[heap, 0]
    info.clock = max(info.clock, top.priority)
    return int(top.which)


@kernel
def removed(eviction: Eviction, item: int, content: int, evicted: bool) -> None:
    """`item` has lost its content, as the victim (`evicted`) or by order of somebody; O(log)."""
    it = eviction.items[item]
    if it.place != NONE:
        heap_.remove(eviction, item)
    if eviction.info.by_leaf == 0:
        queues.leaves(eviction, item, content, evicted)
    elif it.held == 0:
        parent = above_of(eviction, item)
        if parent != NONE:
            inherit(eviction, item, parent)
            _unlink(eviction, item)
    it.children = 0
    forget(eviction, item, content)


@inlined
def forget(eviction: Eviction, item: int, content: int) -> None:
    """Keep of an item that loses its content what the policy remembers; O(1)."""
    code, it = eviction.info.code, eviction.items[item]
    it.cached = 0
    eviction.info.evictions += 1
    if code == LFU or code == ONE_HIT_FIRST:
        memory_.keep_uses(eviction, content, int(it.uses))
    elif code == RETURN_RATE:
        return_rate.removed(eviction, item, content)


@kernel
def request_ends(eviction: Eviction, item: int, content: int) -> None:
    """A conversation stands at `item`: what a next turn will share ends there; O(1)."""
    if eviction.info.code == SESSION_AWARE:
        sessions.request_ends(eviction, item, content)


@kernel
def reset(eviction: Eviction) -> None:
    """All contents are gone; what was learnt and remembered stays. O(items)."""
    for item in range(eviction.items.shape[0]):
        it = eviction.items[item]
        if it.cached != 0 and eviction.info.code == RETURN_RATE:
            return_rate.removed(eviction, item, int(eviction.contents[item]))
        it.cached = 0
        it.children = 0
        it.parent = NONE
        it.place = NONE
    for heap in range(eviction.sizes.shape[0]):
        eviction.sizes[heap] = 0
        eviction.members[heap] = 0
