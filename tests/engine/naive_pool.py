"""The pool and the manager as anyone would write them first: lists and dicts, linear searches.

Written from the rules (not from the kernels): slow, obvious, and the judge of the fast one.
"""

from __future__ import annotations

from collections.abc import Sequence

NULL = 0


class NaivePool:
    """Free queue as a list (index 0 is evicted first), prefix cache as a dict of lists."""

    def __init__(self, num_blocks: int, *, caching: bool = True, prepend: bool = True) -> None:
        self.free = list(range(1, num_blocks))
        self.owners = dict.fromkeys(range(num_blocks), 0)
        self.key_of: dict[int, tuple[int, int]] = {}
        self.cache: dict[tuple[int, int], list[int]] = {}
        self.caching, self.prepend = caching, prepend
        self.evictions = 0

    def get_new_blocks(self, count: int) -> list[int] | None:
        if count > len(self.free):
            return None
        taken, self.free = self.free[:count], self.free[count:]
        for block in taken:
            self.evictions += self.forget(block)
            self.owners[block] = 1
        return taken

    def forget(self, block: int) -> bool:
        key = self.key_of.pop(block, None)
        if key is None:
            return False
        self.cache[key].remove(block)
        if not self.cache[key]:
            del self.cache[key]
        return True

    def touch(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            if block == NULL:
                continue
            if self.owners[block] == 0:
                self.free.remove(block)
            self.owners[block] += 1

    def free_blocks(self, blocks: Sequence[int]) -> None:
        first: list[int] = []
        last: list[int] = []
        for block in blocks:
            if block == NULL:
                continue
            self.owners[block] -= 1
            if self.owners[block] == 0:
                unhashed = block not in self.key_of or not self.caching
                (first if unhashed and self.prepend else last).append(block)
        self.free = first + self.free + last

    def cache_full_blocks(self, blocks: Sequence[int], keys: Sequence[int], group: int) -> None:
        for block, key in zip(blocks, keys, strict=True):
            if block != NULL and self.caching:
                self.key_of[block] = (key, group)
                self.cache.setdefault((key, group), []).append(block)

    def get_cached_block(self, key: int, group: int) -> int | None:
        blocks = self.cache.get((key, group))
        return blocks[0] if blocks else None

    def reset_prefix_cache(self) -> bool:
        if any(self.owners[block] for block in self.owners if block != NULL):
            return False
        self.cache.clear()
        self.key_of.clear()
        return True


class NaiveManager:
    """One full-attention group; a block's identity is the tuple of all tokens up to its end."""

    def __init__(self, num_blocks: int, block_size: int, watermark_blocks: int) -> None:
        self.pool = NaivePool(num_blocks)
        self.block_size = block_size
        self.watermark_blocks = watermark_blocks
        self.tables: dict[str, list[int]] = {}
        self.cached: dict[str, int] = {}
        self.names: dict[tuple[int, ...], int] = {}

    def key(self, tokens: Sequence[int], block: int) -> int:
        prefix = tuple(tokens[: (block + 1) * self.block_size])
        return self.names.setdefault(prefix, len(self.names))

    def lookup(self, tokens: Sequence[int]) -> list[int]:
        hits: list[int] = []
        for block in range((len(tokens) - 1) // self.block_size):
            found = self.pool.get_cached_block(self.key(tokens, block), 0)
            if found is None:
                break
            hits.append(found)
        return hits

    def allocate(
        self,
        name: str,
        tokens: Sequence[int],
        computed: int,
        new: int,
        hits: Sequence[int],
        *,
        must_fit: bool = False,
        watermark: bool = False,
    ) -> list[int] | None:
        pool, size = self.pool, self.block_size
        held = self.tables.get(name, [])
        total = computed + len(hits) * size + new
        reserve = self.watermark_blocks if watermark else 0
        taken_hits = sum(pool.owners[block] == 0 for block in hits)
        for need_tokens in ([len(tokens)] if must_fit else []) + [total]:
            need = max(0, -(-need_tokens // size) - len(held) - len(hits)) + taken_hits + reserve
            if need > len(pool.free):
                return None
        pool.touch(hits)
        table = self.tables.setdefault(name, [])
        table.extend(hits)
        fresh = pool.get_new_blocks(max(0, -(-total // size) - len(table)))
        assert fresh is not None
        table.extend(fresh)
        done = max(self.cached.get(name, 0), len(hits))
        full = min(total, len(tokens)) // size
        keys = [self.key(tokens, block) for block in range(done, full)]
        pool.cache_full_blocks(table[done:full], keys, 0)
        self.cached[name] = max(done, full)
        return fresh

    def free(self, name: str) -> None:
        self.pool.free_blocks(self.tables.pop(name, [])[::-1])
        self.cached.pop(name, None)
