"""Records as 32-bit words: which there are, and what stands in them.

Owns: codes, fields, the word that begins a record, long numbers and bytes as words. Leaves to
others: files (`segment_log`), meaning (`kvatlas.events.live`).

A record begins with one word, `code | length << 8`, where the length counts that word too. Numbers
that may exceed 31 bits are two words, low 31 bits first. Bytes (hashes, names) are padded to words.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

__all__ = [
    "FIELDS",
    "FORMAT_VERSION",
    "LONGEST_RECORD",
    "MASK31",
    "NAMES",
    "long_number",
    "padded",
    "words_to_bytes",
]

FORMAT_VERSION = 1
LONGEST_RECORD = (1 << 23) - 1
"""Words of a record, its first one included."""
MASK31 = (1 << 31) - 1

FIELDS: dict[str, str] = {
    "step_began": "time(2)",
    "step_ended": "step(2) tokens running waiting free_blocks cached_keys, then who got how many "
    "tokens: how n; how 0: n request rows, n counts; 1: n counts for the rows of the last list; 2: "
    "one each for those rows; 3: the same but for one: index count",
    "outputs_began": "",
    "outputs_ended": "step(2) time(2), then who got how many new tokens: how n as above, but 2: "
    "one each for the rows of that step",
    "arrived": "row time(2) prompt_tokens max_tokens priority(2) name_bytes hash_bytes n, then the "
    "name, then n block hashes",
    "hashed": "row first hash_bytes n, then n block hashes",
    "looked_up": "row tokens hit_tokens (-1: the cache was not asked): for admission, which was "
    "refused if the step does not schedule it",
    "allocated": "row group position, then block ids",
    "touched": "row group position, then block ids",
    "freed_all": "row group count: the whole table, from its end",
    "freed": "row group, then block ids",
    "cached": "row group start stop n, then n words, one for each block, 0 where it was passed "
    "over (n 0: none was)",
    "preempted": "row computed_tokens num_tokens",
    "leaves": "row status: its blocks are freed next",
    "finished": "row status num_tokens computed_tokens",
    "popped": "row: its blocks will be freed later, by nobody's name",
    "reset": "done",
    "dropped": "block ids that lost their cached content though nobody allocates them",
    "copied": "row group index source target: copy on write",
    "part_cached": "row group block tokens: a block cached before it is full",
    "hash_moved": "source target",
    "unpinned": "block ids",
    "empty_steps": "count(2) time(2): steps like the last one that scheduled nothing",
    "fault": "number of errors so far, then the text of the last one",
    "gap": "time(2): nothing is recorded from here on",
    "lost": "records(2) that found no room on the disk",
    "checkpoint": "time(2) step(2) next_row: what is true now follows",
    "held": "row prompt_tokens max_tokens priority(2) num_tokens computed_tokens status preempted "
    "name_bytes hash_bytes n groups, then the name, n block hashes, and for each group its "
    "length and block ids",
    "content": "hash_bytes n, then n block ids, n groups, n hashes",
    "checkpoint_ended": "free_blocks cached_keys",
    "closed": "time(2)",
}
"""The records and the words behind the first one. Their order is the numbering, from 1."""

NAMES = ("", *FIELDS)
(
    STEP_BEGAN,
    STEP_ENDED,
    OUTPUTS_BEGAN,
    OUTPUTS_ENDED,
    ARRIVED,
    HASHED,
    LOOKED_UP,
    ALLOCATED,
    TOUCHED,
    FREED_ALL,
    FREED,
    CACHED,
    PREEMPTED,
    LEAVES,
    FINISHED,
    POPPED,
    RESET,
    DROPPED,
    COPIED,
    PART_CACHED,
    HASH_MOVED,
    UNPINNED,
    EMPTY_STEPS,
    FAULT,
    GAP,
    LOST,
    CHECKPOINT,
    HELD,
    CONTENT,
    CHECKPOINT_ENDED,
    CLOSED,
) = range(1, len(NAMES))

NEW_ROWS, SAME_ROWS, ONE_EACH, BUT_ONE = range(4)


def long_number(low: int, high: int) -> int:
    """Return the number that two words hold."""
    return low | high << 31


def padded(data: bytes) -> bytes:
    """Return bytes padded with zeros to whole words."""
    return data + bytes(-len(data) % 4)


def words_to_bytes(words: Sequence[int] | array[int], count: int) -> bytes:
    """Return the first `count` bytes of words."""
    return array("i", words).tobytes()[:count]
