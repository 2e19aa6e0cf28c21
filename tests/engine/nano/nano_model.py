"""nano-vLLM's rules, written the obvious way: lists, dicts, whole prefixes as keys.

This is the model that the compiled profile is compared with. It knows nothing of arrays, keys or
slots, and every operation may be slow. Rules of both mirrored versions (see
`kvatlas.engine.nano.config`); `chunked` tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Prefix = tuple[int, ...]


@dataclass(eq=False)
class ModelSequence:
    """One request: its tokens so far, and what the engine knows of it."""

    row: int
    tokens: list[int]
    max_tokens: int
    prompt: int = 0
    table: list[int] = field(default_factory=list)
    computed: int = 0
    scheduled: int = 0
    admissions: int = 0

    def __post_init__(self) -> None:
        self.prompt = len(self.tokens)


class ModelBlocks:
    """The pool: who owns what, which block was last given which content, and who is free."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self.free = list(range(num_blocks))
        self.owners = [0] * num_blocks
        self.content: list[Prefix | None] = [None] * num_blocks
        self.newest: dict[Prefix, int] = {}
        """The block that was last given a content. Entries are never removed: one counts only while
        its block still has that content."""

    def wanted(self, seq: ModelSequence) -> int:
        """Blocks for all tokens of `seq`."""
        return -(-len(seq.tokens) // self.block_size)

    def prefix(self, seq: ModelSequence, i: int) -> Prefix:
        """The tokens up to the end of block `i`."""
        return tuple(seq.tokens[: (i + 1) * self.block_size])

    def hits(self, seq: ModelSequence, known: int) -> list[int]:
        """The cached blocks of the leading `known` blocks of `seq`, up to the first gap."""
        found: list[int] = []
        for i in range(known):
            block = self.newest.get(self.prefix(seq, i))
            if block is None or self.content[block] != self.prefix(seq, i):
                break
            found.append(block)
        return found

    def publish(self, seq: ModelSequence, i: int) -> None:
        """Block `i` of `seq` is full: others may hit it."""
        block = seq.table[i]
        self.content[block] = self.prefix(seq, i)
        self.newest[self.prefix(seq, i)] = block

    def pop(self) -> int:
        """Take the first free block; its content is lost."""
        block = self.free.pop(0)
        self.content[block] = None
        self.owners[block] = 1
        return block

    def take(self, seq: ModelSequence, hits: list[int]) -> None:
        """Give `seq` its block table."""
        for block in hits:
            if self.owners[block] == 0:
                self.free.remove(block)
            self.owners[block] += 1
        seq.table = list(hits)
        while len(seq.table) < self.wanted(seq):
            seq.table.append(self.pop())

    def release(self, seq: ModelSequence) -> None:
        """Take it away again, the last block first."""
        for block in reversed(seq.table):
            self.owners[block] -= 1
            if self.owners[block] == 0:
                self.free.append(block)
        seq.table = []


@dataclass
class Seen:
    """What a step decided."""

    admitted: list[tuple[int, int]] = field(default_factory=list)  # (row, hit tokens), in order
    resumed: set[int] = field(default_factory=set)
    scheduled: list[tuple[int, int, bool]] = field(default_factory=list)  # (row, tokens, samples)
    preempted: list[int] = field(default_factory=list)


class ModelNano:
    """Scheduler and pool of one simulated nano-vLLM."""

    def __init__(
        self, num_blocks: int, block_size: int, max_num_seqs: int, max_tokens: int, chunked: bool
    ) -> None:
        self.pool = ModelBlocks(num_blocks, block_size)
        self.max_num_seqs, self.max_tokens, self.chunked = max_num_seqs, max_tokens, chunked
        self.waiting: list[ModelSequence] = []
        self.running: list[ModelSequence] = []
        self._step: list[ModelSequence] = []
        self._prefilling = False

    @property
    def free(self) -> list[int]:
        """Free blocks, the next one first."""
        return self.pool.free

    def waiting_rows(self) -> list[int]:
        """Rows that wait, the next one first."""
        return [seq.row for seq in self.waiting]

    def running_rows(self) -> list[int]:
        """Rows that run, in order."""
        return [seq.row for seq in self.running]

    def tables(self) -> dict[int, list[int]]:
        """Block tables of the rows that hold blocks."""
        return {seq.row: list(seq.table) for seq in self.waiting + self.running if seq.table}

    def add(self, row: int, tokens: list[int], max_tokens: int) -> None:
        """A request arrives."""
        self.waiting.append(ModelSequence(row, list(tokens), max_tokens))

    def drop_first_waiting(self) -> int:
        """Give up on the first waiting request."""
        return self.waiting.pop(0).row

    def step(self) -> Seen | None:
        """Schedule; None when nothing could be."""
        seen = Seen()
        self._step = self._prefill(seen)
        self._prefilling = bool(self._step)
        if not self._prefilling:
            self._step = self._decode(seen)
        return seen if self._step else None

    def settle(self, outputs: Sequence[Sequence[int]]) -> list[int]:
        """The step is computed: take in a token per sequence that samples; return who is done."""
        done = []
        for seq in self._step:
            first, stop = seq.computed, seq.computed + seq.scheduled
            if self.chunked or not self._prefilling:
                for i in range(first // self.pool.block_size, stop // self.pool.block_size):
                    self.pool.publish(seq, i)
            seq.computed = stop
            if stop < len(seq.tokens):
                continue
            seq.tokens.append(outputs[seq.row][len(seq.tokens) - seq.prompt])
            if len(seq.tokens) - seq.prompt == seq.max_tokens:
                self.pool.release(seq)
                self.running.remove(seq)
                done.append(seq.row)
        return done

    def _prefill(self, seen: Seen) -> list[ModelSequence]:
        step: list[ModelSequence] = []
        left = self.max_tokens
        while self.waiting and len(step) < self.max_num_seqs and left > 0:
            seq = self.waiting[0]
            length, wanted = len(seq.tokens), self.pool.wanted(seq)
            if self.chunked:
                hits = [] if seq.table else self.pool.hits(seq, wanted - 1)
                new = wanted - sum(self.pool.owners[block] > 0 for block in hits)
                if not seq.table and len(self.pool.free) < new:
                    break
                todo = length - (seq.computed if seq.table else len(hits) * self.pool.block_size)
                if todo > left and step:
                    break
            else:
                if length > left or len(self.pool.free) < wanted:
                    break
                hits = self.pool.hits(seq, length // self.pool.block_size)
                todo = length - len(hits) * self.pool.block_size
            if not seq.table:
                self.pool.take(seq, hits)
                seq.computed = len(hits) * self.pool.block_size
                seen.admitted.append((seq.row, seq.computed))
                if seq.admissions > 0:
                    seen.resumed.add(seq.row)
                seq.admissions += 1
                if not self.chunked:
                    for i in range(length // self.pool.block_size):
                        self.pool.publish(seq, i)
            seq.scheduled = min(todo, left)
            left -= seq.scheduled
            complete = seq.computed + seq.scheduled == length
            if complete:
                self.running.append(self.waiting.pop(0))
            step.append(seq)
            seen.scheduled.append((seq.row, seq.scheduled, complete))
        return step

    def _decode(self, seen: Seen) -> list[ModelSequence]:
        step: list[ModelSequence] = []
        queue = self.running
        self.running = []
        while queue and len(step) < self.max_num_seqs:
            seq = queue.pop(0)
            needs_block = len(seq.tokens) % self.pool.block_size == 1
            gave_up = False
            while needs_block and not self.pool.free and not gave_up:
                gave_up = not queue
                self._preempt(queue.pop() if queue else seq, seen)
            if gave_up:
                break
            if needs_block:
                seq.table.append(self.pool.pop())
            seq.scheduled = 1
            step.append(seq)
            seen.scheduled.append((seq.row, 1, True))
        self.running = step + queue
        return step

    def _preempt(self, victim: ModelSequence, seen: Seen) -> None:
        self.pool.release(victim)
        victim.computed = 0
        self.waiting.insert(0, victim)
        seen.preempted.append(victim.row)
