"""Return rate: the leaf whose kind of last use comes back at the lowest rate at its age.

Owns: what is known of each content, how many of each kind wait since when, and the guard that hands
over to LRU. Leaves to others: rates from counts (`_rates_kernel`), heaps, one per kind
(`_heap_kernel`). Our own policy; ages are counted in requests.

A block's *kind*, given when a request is done with it: first use below a block that belongs to one
conversation (0) or below a shared one or none (1), second, third, 4th to 7th ... use (2 to 7); + 8
when the answer was 64 tokens or longer; + 16 for the deepest block of the request; or superseded:
the conversation it ended went on another way, so that nobody will ask for it again.

Which blocks are remembered (the last 8 capacities), and what an LRU cache of this capacity would
hit, follows from counts per request alone: the blocks whose last user is one request are the
deepest of its path. No list of blocks is kept. In an engine, where requests run side by side, what
LRU would hit is an estimate.
"""

from __future__ import annotations

from kvatlas.eviction import _memory_kernel as memory_
from kvatlas.eviction import _rates_kernel as rates
from kvatlas.eviction._keys_kernel import offer_again
from kvatlas.eviction._state_kernel import NONE, Eviction
from kvatlas.jit import inlined, kernel

SHORT_ANSWER_TOKENS = 64
_PRIVATE_FORKS = 2
_REMEMBERED = 8  # capacities of blocks
_MARGIN = 0.7
_BEHIND = 0.003  # share of the capacity, in hits, by which LRU may be ahead before it takes over
_BUSY = -1  # the kind of what a request is using
_KNOWN_BEFORE, _SHARED, _PRIVATE = range(3)  # an item's turn: what it was to its last request


@kernel
def request_begins(eviction: Eviction) -> None:
    """Make room in the ring, move LRU's edge, judge the guard; O(kinds), amortised."""
    info, past = eviction.info, eviction.past
    now, size = int(info.requests), past.shape[0]
    while info.horizon <= now - size or (
        info.listed > _REMEMBERED * info.capacity and info.horizon < now
    ):
        _forget_oldest(eviction)
    slot = now & (size - 1)
    past[slot].total = 0
    past[slot].length = 0
    past[slot].end = 0
    for kind in range(rates.NUM_KINDS):
        eviction.alive[slot, kind] = 0
    room = max(0, info.capacity - info.busy)
    while info.above >= room and info.edge < now:
        info.edge += 1
        info.above -= past[info.edge & (size - 1)].total
    # LRU holds all that was used after request `edge`, and of that one the shallowest blocks left.
    at_edge = past[info.edge & (size - 1)]
    info.edge_depth = at_edge.length - at_edge.total + room - info.above
    behind = _BEHIND * info.capacity
    if info.as_lru != 0:
        info.as_lru = 1 if info.lead <= -0.5 * behind else 0
    else:
        info.as_lru = 1 if info.lead < -behind else 0
    if info.accesses >= info.refresh_at:
        info.refresh_at = info.accesses + max(256, info.capacity // 4)
        rates.refresh(eviction)


@inlined
def _forget_oldest(eviction: Eviction) -> None:
    info = eviction.info
    oldest = eviction.past[info.horizon & (eviction.past.shape[0] - 1)]
    info.listed -= oldest.total
    if info.horizon > info.edge:
        info.above -= oldest.total
        info.edge = info.horizon
    oldest.total = 0
    info.horizon += 1


@kernel
def _take(eviction: Eviction, content: int, depth: int, hit: bool) -> int:
    """A request uses `content`: learn, return the request that did before, 0 if unknown; O(1)."""
    info = eviction.info
    known = eviction.known[memory_.position(eviction, content)]
    if known.content != content + 1:
        if known.kind == _BUSY:
            info.busy -= 1  # another content's record, which is forgotten while it is used
        known.kind = 0
        known.content = content + 1
        known.last = 0
        known.holder = 0
    previous = int(known.last)
    info.accesses += 1
    info.lead *= info.lead_decay
    if hit:
        info.lead += 1.0
    if previous == 0 or (known.holder == 0 and previous < info.horizon):
        previous = 0
        known.uses = 0
        known.forks = 0
        known.above = 0
    elif known.kind == _BUSY:
        info.lead -= 1.0
    elif previous >= info.horizon:
        if previous > info.edge or (previous == info.edge and depth < info.edge_depth):
            info.lead -= 1.0
        bucket = rates.bucket_of(int(info.requests - previous))
        eviction.learnt[known.kind, bucket].returned += 1.0
        slot = previous & (eviction.past.shape[0] - 1)
        eviction.alive[slot, known.kind] -= 1
        eviction.past[slot].total -= 1
        info.listed -= 1
        if previous > info.edge:
            info.above -= 1
    if known.kind != _BUSY:
        info.busy += 1
    known.uses += 1
    known.last = info.requests
    known.kind = _BUSY
    return previous


@kernel
def used(eviction: Eviction, item: int) -> None:
    """A request hit `item`; O(1)."""
    it = eviction.items[item]
    it.weight = _take(eviction, int(eviction.contents[item]), int(it.depth), True)
    it.turn = _KNOWN_BEFORE


@kernel
def inserted(eviction: Eviction, item: int, content: int, parent: int, depth: int) -> None:
    """A request filled `item`; O(1), or O(path) when it leaves another conversation's way."""
    it = eviction.items[item]
    previous = _take(eviction, content, depth, False)
    it.weight = previous
    it.turn = _KNOWN_BEFORE
    known = eviction.known[memory_.position(eviction, content)]
    known.holder = item + 1
    if parent == NONE:
        known.above = 0
        if previous == 0:
            it.turn = _SHARED
        return
    known.above = eviction.contents[parent] + 1
    if previous != 0:
        return
    above = eviction.known[memory_.position(eviction, int(eviction.contents[parent]))]
    if eviction.items[parent].turn != _KNOWN_BEFORE:
        it.turn = eviction.items[parent].turn
        above.forks = max(above.forks, 1)
        return
    # Here the request leaves what was known.
    private = above.forks <= _PRIVATE_FORKS
    above.forks += 1
    it.turn = _PRIVATE if private else _SHARED
    if private:
        _supersede(eviction, parent)


@kernel
def _supersede(eviction: Eviction, fork: int) -> None:
    """The request that used `fork` before went another way below it: none will follow it there."""
    request, size = int(eviction.items[fork].weight), eviction.past.shape[0]
    if request < max(1, eviction.info.horizon) or request >= eviction.info.requests:
        return
    content = int(eviction.past[request & (size - 1)].end) - 1
    until = int(eviction.contents[fork])
    while content >= 0 and content != until:
        known = eviction.known[memory_.position(eviction, content)]
        if known.content != content + 1:
            return
        if known.last == request and known.kind != _BUSY and known.kind != rates.SUPERSEDED:
            eviction.alive[request & (size - 1), known.kind] -= 1
            eviction.alive[request & (size - 1), rates.SUPERSEDED] += 1
            known.kind = rates.SUPERSEDED
            item = int(known.holder) - 1
            if item >= 0:
                eviction.items[item].mark = rates.SUPERSEDED
                if eviction.items[item].place != NONE:
                    offer_again(eviction, item)
        content = int(known.above) - 1


@kernel
def released(eviction: Eviction, item: int) -> None:
    """A request is done with `item`: give it its kind; the deepest comes first; O(1)."""
    info, it = eviction.info, eviction.items[item]
    content = int(eviction.contents[item])
    known = eviction.known[memory_.position(eviction, content)]
    if known.content != content + 1:
        it.mark = rates.kind_of(1, False, False, False)
        return
    if known.kind != _BUSY:
        it.mark = known.kind  # another copy was given back first
        return
    if info.deepest != 0 and it.turn == _KNOWN_BEFORE and known.forks <= _PRIVATE_FORKS:
        _supersede(eviction, item)  # the request ends where another went on
    kind = rates.kind_of(
        int(known.uses), it.turn == _PRIVATE, info.long_answer != 0, info.deepest != 0
    )
    info.deepest = 0
    info.busy -= 1
    it.mark = kind
    known.kind = kind
    known.holder = item + 1
    known.last = info.requests
    slot = info.requests & (eviction.past.shape[0] - 1)
    eviction.alive[slot, kind] += 1
    mine = eviction.past[slot]
    mine.total += 1
    mine.length += 1
    if mine.end == 0:
        mine.end = content + 1
    info.listed += 1
    info.above += 1


@inlined
def removed(eviction: Eviction, item: int, content: int) -> None:
    """`item` has lost its content, which stays known for a while."""
    known = eviction.known[memory_.position(eviction, content)]
    if known.content == content + 1 and known.holder == item + 1:
        known.holder = 0
        if known.kind == _BUSY:
            # Dropped by order of somebody while a request uses it.
            eviction.info.busy -= 1
            known.kind = 0
            known.last = 0


@kernel
def least_returning(eviction: Eviction) -> int:
    """Return the heap whose top is to be evicted, NONE when all are empty; O(kinds)."""
    info = eviction.info
    best, oldest = NONE, NONE
    low = rate_of_oldest = 0.0
    for heap in range(eviction.heaps.shape[0]):
        if eviction.sizes[heap] == 0:
            continue
        top = eviction.heaps[heap, 0]
        age = int(info.requests - eviction.items[top.which].used_at)
        rate = rates.rate_at(eviction, heap, age)
        if (
            best == NONE
            or rate < low
            or (rate == low and top.order < eviction.heaps[best, 0].order)
        ):
            best, low = heap, rate
        if oldest == NONE or top.order < eviction.heaps[oldest, 0].order:
            oldest, rate_of_oldest = heap, rate
    if info.as_lru != 0 or low > _MARGIN * rate_of_oldest:
        return oldest
    return best
