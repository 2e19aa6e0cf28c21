"""What is true of a recorded pool after each record: owners, content, block tables.

Owns: the state that a recording's words imply, kept by id so that nothing has to be believed: a
record that contradicts it is damage, said as such. Leaves to others: events (`event_rows`) and the
manager's calls (`call_reader`) made of what each method returns.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kvatlas.errors import InputError
from kvatlas.events.header import Header
from kvatlas.wire.layout import words_to_bytes

__all__ = ["NONE", "Books", "HeldRequest"]

NONE = -1
NULL_BLOCK = 0


@dataclass(slots=True)
class HeldRequest:
    """A request that the engine knows.

    Attributes:
        target: tokens whose computation is its prefill: its prompt, or all of them after a
            preemption.
        keys: of its hash blocks, in order.
        tables: block ids per group, NONE where a block has left.
    """

    prompt: int
    max_tokens: int
    tokens: int
    tables: list[list[int]]
    computed: int = 0
    target: int = 0
    preemptions: int = 0
    keys: list[int] = field(default_factory=list)


class Books:
    """Owners, content and tables, changed record by record.

    Keys are numbers in order of sight; `hashes` says whose. Memory: 16 bytes per block, some 150
    per distinct hash.
    """

    def __init__(self, header: Header, source: str) -> None:
        self.header, self.source = header, source
        self.hashes: list[bytes] = []
        self._numbers: dict[bytes, int] = {}
        # Slots are counted where blocks are made of them.
        self.slot_sizes = [
            group.block_size if group.slots_hold_tokens else 0 for group in header.groups
        ]
        self.forget()

    def forget(self) -> None:
        """Begin with an empty pool and no requests; `free_count` blocks have no owner."""
        self.owners = array("i", bytes(4 * self.header.num_blocks))
        self.content = array("q", [NONE]) * self.header.num_blocks
        self.content_group = array("b", [NONE]) * self.header.num_blocks
        self.requests: dict[int, HeldRequest] = {}
        self._holders: set[int] = set()  # and some that hold nothing any more
        self.cached = 0
        self.free_count = self.header.usable_blocks

    # Names of content

    def number(self, digest: bytes) -> int:
        """Return the key of a hash."""
        known = self._numbers.get(digest)
        if known is None:
            known = len(self.hashes)
            self._numbers[digest] = known
            self.hashes.append(digest)
        return known

    def hashes_in(self, words: Sequence[int], size: int, count: int) -> list[bytes]:
        """Return `count` hashes of `size` bytes. Raises: InputError when they are not all there."""
        if count < 0 or not 0 <= size <= 64 or len(words) * 4 < size * count:
            raise self.damaged("block hashes are cut off", count)
        data = words_to_bytes(words, size * count)
        return [data[at : at + size] for at in range(0, size * count, size)] if size else []

    # Requests

    def request(self, row: int) -> HeldRequest:
        """Return a request. Raises: InputError when there is none."""
        held = self.requests.get(row)
        if held is None:
            raise self.damaged("an unknown request", row)
        return held

    def arrives(self, row: int, prompt: int, max_tokens: int, keys: list[int]) -> HeldRequest:
        """Add a request."""
        tables: list[list[int]] = [[] for _ in self.header.groups]
        held = HeldRequest(prompt, max_tokens, prompt, tables, keys=keys)
        self.requests[row] = held
        return held

    def arrival(self, words: Sequence[int]) -> tuple[str, list[bytes]]:
        """Add the request that an `arrived` record tells of; return its name and its hashes."""
        row, name_bytes = words[0], words[7]
        hashes_at = 10 + -(-name_bytes // 4)
        if name_bytes < 0 or len(words) < hashes_at:
            raise self.damaged("a request's name is cut off", row)
        name = words_to_bytes(words[10:hashes_at], name_bytes).decode(errors="replace")
        digests = self.hashes_in(words[hashes_at:], words[8], words[9])
        self.arrives(row, words[3], words[4], [self.number(digest) for digest in digests])
        return name, digests

    def learns(self, row: int, first: int, digests: Sequence[bytes]) -> int:
        """Note a request's hashes from `first` on; return how many of them were known."""
        keys = self.request(row).keys
        if not 0 <= first <= len(keys):
            raise self.damaged("block hashes are missing", row)
        known = min(len(digests), len(keys) - first)
        keys.extend(map(self.number, digests[known:]))
        return known

    # Blocks

    def allocate(
        self, row: int, group: int, position: int, ids: Sequence[int]
    ) -> tuple[int, list[tuple[int, int, int]]]:
        """Give free blocks to a request; return where they begin, and (index, key, group) of those
        that lost their content by it."""
        lost: list[tuple[int, int, int]] = []
        for index, block in enumerate(ids):
            self.check(block)
            if self.owners[block] != 0:
                raise self.damaged("a block was given away that somebody owns", block)
            key = self.content[block]
            if key != NONE:
                lost.append((index, key, self.content_group[block]))
                self.content[block] = NONE
                self.cached -= 1
            self.owners[block] = 1
        self.free_count -= len(ids)
        return self._enter(row, group, position, ids), lost

    def touch(self, row: int, group: int, position: int, ids: Sequence[int]) -> int:
        """Let a request share cached blocks; return where they begin in its table."""
        for block in ids:
            if block != NULL_BLOCK:
                self.check(block)
                self.free_count -= self.owners[block] == 0
                self.owners[block] += 1
        return self._enter(row, group, position, ids)

    def _enter(self, row: int, group: int, position: int, ids: Sequence[int]) -> int:
        held = self.requests.get(row)
        if held is None or not 0 <= group < len(held.tables):
            return NONE
        self._holders.add(row)
        table = held.tables[group]
        start = position if position >= 0 else len(table)
        if start < len(table) or start + len(ids) > self.header.max_table_blocks:
            raise self.damaged("a position outside of the block table", start)
        table.extend([NONE] * (start - len(table)))
        table.extend([NONE if block == NULL_BLOCK else block for block in ids])
        return start

    def free_table(self, row: int, group: int, count: int) -> list[tuple[int, int]]:
        """Take a request's whole table, from its end; return (position, block) of each."""
        table = self.request(row).tables[self._group(group)]
        if len(table) != count:
            raise self.damaged(f"a table of {len(table)} blocks was freed as one of", count)
        freed = [
            (position, table[position])
            for position in range(count - 1, -1, -1)
            if table[position] != NONE
        ]
        for _, block in freed:
            self._leave(block)
        table.clear()
        return freed

    def free(self, row: int, group: int, ids: Sequence[int]) -> list[tuple[int, int]]:
        """Take blocks by their ids; return (position, block), position NONE outside of a table."""
        held = self.requests.get(row)
        table = held.tables[group] if held is not None and 0 <= group < len(held.tables) else []
        places = {block: position for position, block in enumerate(table)} if len(ids) > 8 else None
        freed = []
        for block in ids:
            if block == NULL_BLOCK:
                continue
            self._leave(block)
            if places is not None:
                position = places.get(block, NONE)
            else:
                position = table.index(block) if block in table else NONE
            if position != NONE:
                table[position] = NONE
            freed.append((position, block))
        return freed

    def _leave(self, block: int) -> None:
        self.check(block)
        if self.owners[block] < 1:
            raise self.damaged("a block was freed that nobody owns", block)
        self.owners[block] -= 1
        self.free_count += self.owners[block] == 0

    def cache(
        self, row: int, group: int, start: int, stop: int, mask: Sequence[int] | None
    ) -> list[tuple[int, int, int]]:
        """Give blocks `[start, stop)` of a table their content; return (position, block, key)."""
        table = self.request(row).tables[self._group(group)]
        if not 0 <= start < stop <= len(table):
            raise self.damaged("blocks were cached outside of the block table", stop)
        cached = []
        keys = self.request(row).keys
        per = self.header.groups[group].block_size // self.header.hash_block_size
        for position in range(start, stop):
            block = table[position]
            if block == NONE or (mask is not None and not mask[position - start]):
                continue
            at = (position + 1) * per - 1
            if not 0 <= at < len(keys):
                raise self.damaged("a block was cached whose hash is not recorded", row)
            if self.content[block] != NONE:
                raise self.damaged("a block was cached that holds content already", block)
            self.content[block] = keys[at]
            self.content_group[block] = group
            cached.append((position, block, keys[at]))
        self.cached += len(cached)
        return cached

    def put_content(self, block: int, key: int, group: int) -> None:
        """Say what a block holds."""
        self.check(block)
        self.content[block] = key
        self.content_group[block] = group
        self.cached += 1

    def drop_content(self, block: int) -> tuple[int, int] | None:
        """Forget what a block holds; return its key and group."""
        self.check(block)
        key = self.content[block]
        if key == NONE:
            return None
        self.content[block] = NONE
        self.cached -= 1
        return key, self.content_group[block]

    def reset(self) -> int:
        """Forget all content; return how many blocks held some."""
        cached = self.cached
        self.content = array("q", [NONE]) * self.header.num_blocks
        self.cached = 0
        return cached

    def wasted_slots(self) -> int:
        """Return the allocated slots that hold no token. O(requests that hold blocks)."""
        wasted = 0
        for row in list(self._holders):
            held = self.requests.get(row)
            if held is None or not any(held.tables):
                self._holders.discard(row)
                continue
            for size, table in zip(self.slot_sizes, held.tables, strict=True):
                if size and table:
                    wasted += len(table) * size - held.computed
        return wasted

    def distinct_keys(self) -> int:
        """Return how many (key, group) pairs are cached. O(blocks)."""
        return len({(self.content[b], self.content_group[b]) for b in self.held_content()})

    def owned_blocks(self) -> list[int]:
        """Return the blocks that somebody owns. A vectorised pass over all of them."""
        owned: list[int] = np.flatnonzero(np.frombuffer(self.owners, np.int32)).tolist()
        return owned

    def held_content(self) -> list[int]:
        """Return the blocks that hold content. A vectorised pass over all of them."""
        held: list[int] = np.flatnonzero(np.frombuffer(self.content, np.int64) != NONE).tolist()
        return held

    def damaged(self, what: str, value: object) -> InputError:
        """Return the error that says what contradicts what was recorded before."""
        return InputError(what, file=self.source, value=value, remedy="the recording is damaged")

    def _group(self, group: int) -> int:
        if not 0 <= group < len(self.header.groups):
            raise self.damaged("a KV cache group that does not exist", group)
        return group

    def check(self, block: int) -> None:
        """Raise InputError for a block id outside of the pool."""
        if not int(self.header.has_null) <= block < self.header.num_blocks:
            raise self.damaged("a block id outside of the pool", block)
