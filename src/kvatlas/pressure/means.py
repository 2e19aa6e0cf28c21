"""What each rung of the ladder does to blocks.

Owns: bringing back from the tier and saving to it, moving side by side, giving back, and the record
of it. Leaves to others: when, and to whom (`oom_handler`), blocks (`KVCacheManager`), bytes (a
`Swap`, `MemoryDefragmenter`).
"""

from __future__ import annotations

from collections.abc import Sequence

from kvatlas.defrag import ContiguousTables, MemoryDefragmenter
from kvatlas.engine import FullAttentionSpec, KVCacheManager, Request
from kvatlas.engine.kernels import entries
from kvatlas.engine.kernels.state import NULL_BLOCK
from kvatlas.errors import InputError
from kvatlas.pressure.rungs import Record, Swap

__all__ = ["Means"]


class Means:
    """The rungs, each by itself. Raises: InputError for a tier beside several groups."""

    def __init__(
        self,
        manager: KVCacheManager,
        swap: Swap | None,
        defragmenter: MemoryDefragmenter | None,
        record: Record,
    ) -> None:
        groups = manager.config.groups
        if swap is not None and not (len(groups) == 1 and isinstance(groups[0], FullAttentionSpec)):
            raise InputError(
                "a tier keeps whole prefixes: it needs a single full-attention group",
                field="swap",
                value=len(groups),
                remedy="leave it out for this model",
            )
        self._manager, self._swap, self._defragmenter = manager, swap, defragmenter
        self._record = record

    @property
    def can_move(self) -> bool:
        """Whether there is anybody who moves blocks side by side."""
        return self._defragmenter is not None

    def evictions(self) -> int:
        """Return how many blocks have lost their content so far."""
        return int(self._manager.state.pool.info.evictions)

    def note_evictions(self, before: int, needy: str) -> None:
        """Record what room for `needy` has cost since there were `before` evictions."""
        evicted = self.evictions() - before
        if evicted:
            self._record.note("evict", None, needy, evicted)
            self._record.add(evictions=1, evicted_blocks=evicted)

    def restorable(self, request: Request, hit_tokens: int) -> int:
        """Return how many blocks behind its hit the tier can bring back."""
        if self._swap is None:
            return 0
        size = self._manager.config.groups[0].block_size
        keys = request.block_keys[hit_tokens // size : (request.num_tokens - 1) // size]
        return self._swap.lookup(keys) if keys else 0

    def restore(self, request: Request, hit_tokens: int, blocks: int) -> None:
        """Bring `blocks` back behind its hit, into the table that it has got already.

        When the tier fails, the request gives everything back and the error goes through.
        """
        if self._swap is None or not blocks:
            return
        first = hit_tokens // self._manager.config.groups[0].block_size
        stop = first + blocks
        table = self._manager.get_block_ids(request.request_id)[0]
        try:
            self._swap.swap_in(request.block_keys[first:stop], table[first:stop])
        except BaseException:
            # Blocks are cached since they were allocated, and these have got no bytes; what was hit
            # on the device is good and stays.
            request.num_computed_tokens = hit_tokens
            self.release(request)
            raise
        self._record.add(restored_blocks=blocks)

    def take(self, victim: Request, needy: Request) -> None:
        """Take all blocks from `victim`, saving what can be saved."""
        name = victim.request_id
        tables = self._manager.get_block_ids(name)
        computed = victim.num_computed_tokens
        block_size = self._manager.config.groups[0].block_size
        saved, full = 0, min(computed // block_size, len(victim.block_keys))
        if self._swap is not None and full:
            saved = self._swap.swap_out(victim.block_keys[:full], tables[0][:full])
        self.release(victim)
        self._record.add(lost_tokens=computed)
        if saved:
            self._record.note("swap", name, needy.request_id, saved)
            self._record.add(swaps=1, swapped_blocks=saved)
        else:
            held = sum(block != NULL_BLOCK for table in tables for block in table)
            self._record.note("preempt", name, needy.request_id, held)
            self._record.add(preemptions=1)

    def release(self, request: Request) -> None:
        """Give all blocks back, and forget the content that was to be computed in this step.

        Blocks are cached when they are allocated, as in vLLM. Nobody has hit those: admissions come
        last in a step.
        """
        pool, groups = self._manager.state.pool, self._manager.config.groups
        tables = self._manager.get_block_ids(request.request_id)
        for spec, table in zip(groups, tables, strict=True):
            for block in table[request.num_computed_tokens // spec.block_size :]:
                if block != NULL_BLOCK and int(pool.blocks[block].ref_count) == 1:
                    entries.evict(pool, block)
        self._manager.free(request)
        request.num_computed_tokens = 0

    def made_contiguous(self, request: Request) -> bool:
        """Move blocks until the tables of `request` are one run each; False when they are not."""
        name = request.request_id
        if _are_contiguous(self._manager.get_block_ids(name)):
            return True
        if self._defragmenter is None:
            return False
        report = self._defragmenter.defragment(ContiguousTables((name,)))
        moved = 0 if report is None else report.moved_blocks
        if moved:
            self._record.note("defragment", name, name, moved)
            self._record.add(defragmentations=1, moved_blocks=moved)
        return _are_contiguous(self._manager.get_block_ids(name))

    def clear_tier(self) -> None:
        """Forget what the tier holds. Raises: whatever the tier refuses with."""
        if self._swap is not None:
            self._swap.clear()


def _are_contiguous(tables: Sequence[Sequence[int]]) -> bool:
    for table in tables:
        held = [block for block in table if block != NULL_BLOCK]
        if (held and held[-1] - held[0] + 1 != len(held)) or sorted(held) != held:
            return False
    return True
