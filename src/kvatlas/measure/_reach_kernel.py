"""The tree of cached prefixes, and what of it can still be reached: all of it exact, incrementally.

Owns: which key follows which, and which cached keys are *stranded*: some key before them in their
prefix is cached nowhere, so that no lookup gets to them. Leaves to others: which blocks hold a key
(`_reuse_kernel`).

Cached keys hang in their parent's list of children, whether or not the parent is cached. When a
reachable key goes, every cached key below it that hangs together with it is stranded; when it comes
back, they are reachable again. So the cost of a change is the number of keys whose state changes.
A key's parent is what came before it when it was first seen, which was seen before: no cycles.
"""

from __future__ import annotations

from kvatlas.jit import inlined, kernel
from kvatlas.records import Record, Records, record_dtype

ROOT = -1
"""The parent of a prefix's first block, and of one whose forerunner is not known."""

PREFIX = record_dtype(
    parent="i4",  # key number plus one, as the other links; ROOT; 0: never seen
    child="i4",  # first cached key that follows
    next="i4",  # next cached key with the same parent
    before="i4",  # the one before
    holders="i4",  # blocks that have it
    reachable="i4",
    served="i4",  # hits at first admissions
    depth="i4",  # its place in the prefix, from 0
)


@inlined
def add_holder(keys: Records, counts: Record, number: int) -> None:
    """A block has got this content; O(1) and O(keys that become reachable)."""
    key = keys[number]
    key.holders += 1
    if key.holders > 1:
        counts.duplicates += 1
        counts.stranded += 1 - key.reachable
        return
    reachable = 1
    if key.parent != ROOT:
        parent = keys[key.parent - 1]
        if parent.holders == 0:
            reachable = 0
        else:
            reachable = parent.reachable
        key.next = parent.child
        key.before = 0
        if parent.child != 0:
            keys[parent.child - 1].before = number + 1
        parent.child = number + 1
    key.reachable = reachable
    if reachable == 0:
        counts.stranded += 1
    elif key.child != 0:
        _spread(keys, counts, number, 1)


@inlined
def drop_holder(keys: Records, counts: Record, number: int) -> None:
    """A block has lost this content; O(1) and O(keys that are stranded)."""
    key = keys[number]
    key.holders -= 1
    if key.reachable == 0:
        counts.stranded -= 1
    if key.holders > 0:
        counts.duplicates -= 1
        return
    if key.parent != ROOT:
        if key.before != 0:
            keys[key.before - 1].next = key.next
        else:
            keys[key.parent - 1].child = key.next
        if key.next != 0:
            keys[key.next - 1].before = key.before
    if key.reachable != 0:
        key.reachable = 0
        if key.child != 0:
            _spread(keys, counts, number, 0)


@kernel
def _spread(keys: Records, counts: Record, number: int, reachable: int) -> None:
    """Give all that hangs below key `number` its new state."""
    root = number + 1
    node = keys[number].child
    while node != root:
        key = keys[node - 1]
        key.reachable = reachable
        counts.stranded += key.holders if reachable == 0 else -key.holders
        if key.child != 0:
            node = key.child
            continue
        while node != root and keys[node - 1].next == 0:
            node = keys[node - 1].parent
        if node != root:
            node = keys[node - 1].next
