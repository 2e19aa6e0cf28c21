"""Reading on from a checkpoint: the state it tells, as events; or whether it agrees with ours.

Owns: what a checkpoint's records mean. Leaves to others: writing them (`kvatlas.live.checkpoint`),
records after it (`decode`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kvatlas.events import schema
from kvatlas.events.live.books import NONE, NULL_BLOCK, Books
from kvatlas.events.live.event_rows import EventRows
from kvatlas.events.live.word_records import WordRecord
from kvatlas.wire import layout
from kvatlas.wire.layout import long_number, words_to_bytes

__all__ = ["check_checkpoint", "restart"]


@dataclass(frozen=True, slots=True)
class _Held:
    """A request as a checkpoint tells of it."""

    row: int
    prompt: int
    max_tokens: int
    tokens: int
    computed: int
    preemptions: int
    name: str
    hashes: list[bytes]
    tables: list[list[int]]


def restart(
    books: Books,
    rows: EventRows,
    unit: Sequence[WordRecord],
    names: dict[int, str],
    first_row: int,
) -> None:
    """Make the books say what the checkpoint says, and add the rows that lead there.

    Blocks that held something before are released and forgotten; then everything enters anew.
    """
    _release(books, rows)
    words = unit[0].words
    rows.time_ms = max(rows.time_ms, long_number(words[0], words[1]) / 1e3)
    rows.step = long_number(words[2], words[3])
    known = set(books.requests)
    books.forget()
    requests = list(_requests(books, unit))
    for gone in sorted(known - {told.row for told in requests}):
        # It ended while nothing was recorded.
        rows.put(schema.FINISHED, schema.BY_CHECKPOINT, request=gone)
    _enter_content(books, rows, unit)
    for told in requests:
        names[told.row - first_row] = told.name
        keys = [books.number(digest) for digest in told.hashes]
        held = books.arrives(told.row, told.prompt, told.max_tokens, keys)
        held.tokens, held.computed = told.tokens, told.computed
        held.target, held.preemptions = told.tokens, told.preemptions
        if told.computed >= told.prompt:
            held.target = told.computed
        if told.row not in known:
            rows.put(schema.ARRIVED, schema.BY_CHECKPOINT, request=told.row, tokens=told.prompt)
        for group, table in enumerate(told.tables):
            _enter_table(books, rows, told.row, group, table, told.computed)
        if any(told.tables):
            rows.put(schema.ADMITTED, schema.BY_CHECKPOINT, request=told.row, tokens=told.tokens)


def check_checkpoint(books: Books, unit: Sequence[WordRecord]) -> bool:
    """Say whether a checkpoint tells what the records before it imply. O(blocks)."""
    content = {block: (group, digest) for block, group, digest in _content(books, unit)}
    ours = {
        block: (books.content_group[block], books.hashes[books.content[block]])
        for block in books.held_content()
    }
    if content != ours:
        return False
    for told in _requests(books, unit):
        held = books.requests.get(told.row)
        if held is None:
            return False
        for table, mine in zip(told.tables, held.tables, strict=True):
            if [NONE if block == NULL_BLOCK else block for block in table] != mine:
                return False
    end = unit[-1].words
    return end[0] == books.free_count and end[1] == books.distinct_keys()


def _release(books: Books, rows: EventRows) -> None:
    for row, held in books.requests.items():
        for group, table in enumerate(held.tables):
            places = [(at, table[at]) for at in range(len(table) - 1, -1, -1) if table[at] != NONE]
            left = []
            for _, own in places:
                books.owners[own] -= 1
                left.append(books.owners[own])
            rows.freed(schema.BY_CHECKPOINT, row, group, places, left)
    # Blocks of requests that are gone already, freed late.
    for block in books.owned_blocks():
        for fewer in range(books.owners[block] - 1, -1, -1):
            rows.freed(schema.BY_CHECKPOINT, NONE, 0, [(NONE, block)], [fewer])
    if books.cached:
        rows.put(schema.RESET, schema.BY_CHECKPOINT, count=books.cached)


def _enter_content(books: Books, rows: EventRows, unit: Sequence[WordRecord]) -> None:
    by_group: dict[int, list[tuple[int, int]]] = {}
    for block, group, digest in _content(books, unit):
        if not 0 <= group < len(books.header.groups):
            raise books.damaged("a KV cache group that does not exist", group)
        key = books.number(digest)
        if books.content[block] != NONE:
            raise books.damaged("a block holds two contents", block)
        books.put_content(block, key, group)
        by_group.setdefault(group, []).append((block, key))
    for group, held in by_group.items():
        ids = [block for block, _ in held]
        rows.allocated(schema.BY_CHECKPOINT, NONE, group, 0, ids, NONE)
        rows.cached(
            NONE, group, [(at, block, key) for at, (block, key) in enumerate(held)],
            cause=schema.BY_CHECKPOINT,
        )  # fmt: skip
        rows.freed(
            schema.BY_CHECKPOINT, NONE, group, [(NONE, block) for block in ids], [0] * len(ids)
        )


def _enter_table(
    books: Books, rows: EventRows, row: int, group: int, table: list[int], computed: int
) -> None:
    """Let a table's blocks enter it, stretch by stretch: shared or cached ones, and others."""
    start = 0
    while start < len(table):
        block = table[start]
        if block == NULL_BLOCK:
            start += 1
            continue
        shared = _is_shared(books, block)
        stop = start
        while (
            stop < len(table)
            and table[stop] != NULL_BLOCK
            and _is_shared(books, table[stop]) == shared
        ):
            stop += 1
        ids = table[start:stop]
        if shared:
            books.touch(row, group, start, ids)
            rows.touched(
                row, group, start, ids, [books.owners[block] for block in ids],
                cause=schema.BY_CHECKPOINT,
            )  # fmt: skip
        else:
            books.allocate(row, group, start, ids)
            rows.allocated(schema.BY_CHECKPOINT, row, group, start, ids, computed)
        start = stop


def _is_shared(books: Books, block: int) -> bool:
    books.check(block)
    return books.owners[block] > 0 or books.content[block] != NONE


def _content(books: Books, unit: Sequence[WordRecord]) -> Iterator[tuple[int, int, bytes]]:
    for record in unit:
        if record.code != layout.CONTENT:
            continue
        size, count = record.words[0], record.words[1]
        if not 0 <= count <= (len(record.words) - 2) // 2 or size <= 0:
            raise books.damaged("a checkpoint is cut off", count)
        blocks, groups = record.words[2 : 2 + count], record.words[2 + count : 2 + 2 * count]
        hashes = books.hashes_in(record.words[2 + 2 * count :], size, count)
        for block, group, digest in zip(blocks, groups, hashes, strict=True):
            books.check(block)
            yield block, group, digest


def _requests(books: Books, unit: Sequence[WordRecord]) -> Iterator[_Held]:
    for record in unit:
        if record.code != layout.HELD:
            continue
        words = record.words
        name_bytes, size, count, groups = words[9], words[10], words[11], words[12]
        at = 13 + -(-name_bytes // 4)
        hash_words = -(-size * count // 4)
        fits = name_bytes >= 0 and 0 <= size <= 64 and count >= 0
        if not fits or groups != len(books.header.groups) or len(words) < at + hash_words:
            raise books.damaged("a checkpoint's request is damaged", words[0])
        name = words_to_bytes(words[13:at], name_bytes).decode(errors="replace")
        hashes = books.hashes_in(words[at : at + hash_words], size, count)
        at += hash_words
        tables = []
        for _ in range(groups):
            if at >= len(words) or not 0 <= words[at] <= len(words) - at - 1:
                raise books.damaged("a checkpoint's block table is cut off", words[0])
            tables.append(list(words[at + 1 : at + 1 + words[at]]))
            at += 1 + words[at]
        yield _Held(
            row=words[0], prompt=words[1], max_tokens=words[2], tokens=words[5],
            computed=words[6], preemptions=words[8], name=name,
            hashes=hashes, tables=tables,
        )  # fmt: skip
