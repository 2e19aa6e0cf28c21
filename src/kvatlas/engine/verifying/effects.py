"""What one call did to the pool, from either side, in one form.

Owns: that form, and comparing. Leaves to others: making the calls (`twin`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kvatlas.engine.kernels.state import I32, NONE, NULL_BLOCK
from kvatlas.engine.verifying.verdict import Difference
from kvatlas.events import schema
from kvatlas.events.chunk import Chunk
from kvatlas.events.live.calls import Effect

__all__ = ["KINDS", "Effects", "differences", "of_log", "of_recording"]

KINDS = ("touched", "evicted", "allocated", "cached", "freed")

Effects = dict[str, list[tuple[int, int, int]]]
"""Per kind, in order: (KV cache group, block, key); NONE for a group or a key that nobody said."""

NOTHING: Effects = {}
_KIND_OF = {getattr(schema, kind.upper()): kind for kind in KINDS}
_MOST_SHOWN = 8


def of_recording(effects: Iterable[Effect], number: Callable[[bytes], int]) -> Effects:
    """Return recorded effects; `number` names a hash. Null blocks stand for nothing: left out."""
    found: Effects = {}
    for effect in effects:
        keys: Iterable[int] = (
            [NONE] * len(effect.blocks) if effect.keys is None else map(number, effect.keys)
        )
        found.setdefault(effect.kind, []).extend(
            (effect.group, block, key)
            for block, key in zip(effect.blocks, keys, strict=True)
            if block != NULL_BLOCK
        )
    return {kind: blocks for kind, blocks in found.items() if blocks}


def of_log(chunk: Chunk, table: I32, before: I32) -> Effects:
    """Return the effects that the twin's log tells of one call. O(rows + ids).

    Args:
        chunk: what the call logged.
        table: (G, W) the request's block tables after the call.
        before: the same before it, for blocks that have left.
    """
    found: Effects = {}
    rows, evicted = chunk.rows, []
    columns = (rows[name].tolist() for name in _COLUMNS)
    for event, group, count, position, key, stride, at in zip(*columns, strict=True):
        kind = _KIND_OF.get(event)
        if kind is None:
            continue
        ids: list[int]
        if at != NONE:
            ids = chunk.ids[at : at + count].tolist()
        elif kind == "evicted":
            # They are named by their place in what the next allocation takes.
            evicted.append((group, count, position, key, stride))
            continue
        elif kind == "freed":
            ids = before[group, position - count + 1 : position + 1][::-1].tolist()
        else:
            ids = table[group, position : position + count].tolist()
        if kind == "allocated":
            for lost_group, lost, first, lost_key, lost_stride in evicted:
                taken = ids[first - position : first - position + lost]
                found.setdefault("evicted", []).extend(
                    (lost_group, block, lost_key + i * lost_stride) for i, block in enumerate(taken)
                )
            evicted.clear()
        keyed = kind in ("cached", "evicted")
        found.setdefault(kind, []).extend(
            (group, block, key + i * stride if keyed else NONE) for i, block in enumerate(ids)
        )
    return found


_COLUMNS = ("event", "group", "count", "position", "key", "key_stride", "blocks_at")


def differences(
    recorded: Effects, twin: Effects, hash_of: Callable[[int], str]
) -> tuple[Difference, ...]:
    """Return what is not the same, kind by kind; a group that was not recorded is not compared."""
    if recorded == twin:
        return ()
    found = []
    for kind in KINDS:
        theirs, ours = recorded.get(kind, []), twin.get(kind, [])
        if kind == "evicted" and all(block[0] != NONE for block in theirs):
            # Recorded group by group; the order of the blocks is that of `allocated`.
            theirs, ours = sorted(theirs, key=_group), sorted(ours, key=_group)
        if len(theirs) == len(ours) and all(map(_same, theirs, ours)):
            continue
        start = 0
        while start < min(len(theirs), len(ours)) and _same(theirs[start], ours[start]):
            start += 1
        found.append(Difference(kind, _say(theirs, start, hash_of), _say(ours, start, hash_of)))
    return tuple(found)


def _group(block: tuple[int, int, int]) -> int:
    return block[0]


def _same(theirs: tuple[int, int, int], ours: tuple[int, int, int]) -> bool:
    return theirs[1:] == ours[1:] and theirs[0] in (NONE, ours[0])


def _say(blocks: list[tuple[int, int, int]], start: int, hash_of: Callable[[int], str]) -> str:
    """Name a few blocks from the first different one on."""
    if start >= len(blocks):
        return "no block" if not blocks else f"{start:,} equal, then no more"
    words = [f"{start:,} equal, then"] if start else []
    last = 0
    for group, block, key in blocks[start : start + _MOST_SHOWN]:
        if group not in (NONE, last):
            words.append(f"group {group}:")
            last = group
        words.append(str(block) if key == NONE else f"{block} ({hash_of(key)})")
    if len(blocks) > start + _MOST_SHOWN:
        words.append(f"and {len(blocks) - start - _MOST_SHOWN:,} more")
    return " ".join(words)
