"""What is remembered of a content after it has been evicted.

Owns: one record per content (numbers that are dense), or a hash table without chains in which a
newcomer takes the place of whoever was there (any numbers: a collision forgets early). Leaves to
others: conversations (`_sessions_kernel`); ghosts of 2Q and S3-FIFO and counts of uses are here.
"""

from __future__ import annotations

from kvatlas.eviction._state_kernel import Eviction
from kvatlas.jit import inlined

_MASK32 = 0xFFFFFFFF


@inlined
def position(eviction: Eviction, content: int) -> int:
    """Return where `content` is remembered if it is; O(1)."""
    mask = int(eviction.info.memory_mask)
    if mask < 0:
        return content
    mixed = ((content ^ (content >> 32)) & _MASK32) * 0x5BD1E995 & _MASK32
    mixed ^= mixed >> 15
    mixed = (mixed * 0x27D4EB2F) & _MASK32
    return int((mixed ^ (mixed >> 13)) & mask)


@inlined
def claim(eviction: Eviction, content: int) -> int:
    """Return the position of `content`'s record, emptied if it was another's."""
    at = position(eviction, content)
    record = eviction.memory[at]
    if record.content != content + 1:
        record.content = content + 1
        record.evicted = 0
        record.tail = 0
        record.count = 0
    return at


@inlined
def forget_to_memory(eviction: Eviction, content: int) -> None:
    """Make `content` a ghost: the youngest of `memory_size` evicted ones."""
    at = claim(eviction, content)
    eviction.info.forgotten += 1
    eviction.memory[at].evicted = eviction.info.forgotten


@inlined
def recall(eviction: Eviction, content: int) -> bool:
    """Say whether `content` is a ghost, and let it be none from now on."""
    record = eviction.memory[position(eviction, content)]
    if record.content != content + 1 or record.evicted == 0:
        return False
    fresh = eviction.info.forgotten - record.evicted < eviction.info.memory_size
    record.evicted = 0
    return bool(fresh)


@inlined
def keep_uses(eviction: Eviction, content: int, uses: int) -> None:
    """Remember how many requests have used `content`, which is evicted."""
    eviction.memory[claim(eviction, content)].count = uses


@inlined
def past_uses(eviction: Eviction, content: int) -> int:
    """Return how many requests are known to have used `content` before."""
    record = eviction.memory[position(eviction, content)]
    return int(record.count) if record.content == content + 1 else 0
