"""A server in small: a plain scheduler over the manager's public face that writes its calls down.

What each call did is read off the manager from outside (ids that it returned, keys before and
after), not off the twin's log, so that a verifier is held against something else than itself.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from kvatlas.engine import EngineConfig, KVCacheBlocks, KVCacheManager, Request
from kvatlas.engine.block_hashing import BlockHasher
from kvatlas.engine.kernels.state import I64, NONE
from kvatlas.events.live.calls import (
    Allocated,
    Arrived,
    Cached,
    Call,
    Effect,
    EffectKind,
    Finished,
    Freed,
    Hashed,
    LookedUp,
    Preempted,
    Reset,
    Sampled,
    StepBegan,
    StepEnded,
)


def digest(key: int) -> bytes:
    """A hash of 32 bytes for a key."""
    return key.to_bytes(8, "little") * 4


@dataclass
class _Served:
    request: Request
    row: int
    hashed: int = 0
    placeholders: int = 0
    stale: int = 0
    over: bool = False


@dataclass(frozen=True)
class _Batch:
    """A scheduled step: who computes how many tokens, and who samples one."""

    step: int
    entries: tuple[tuple[_Served, int, bool], ...]


@dataclass
class Server:
    """Serves requests first come, first served; `calls` is what a recorder would have written.

    A step's output stands before the calls that it causes. Whose token it was is not said for who
    ended with it, unless everybody got one: that is how a recorder sees it.
    """

    config: EngineConfig
    seed: int = 0
    calls: list[Call] = field(default_factory=list)
    preemptions: int = 0

    def __post_init__(self) -> None:
        self.manager = KVCacheManager(self.config, secret=b"calls")
        self.pool = self.manager._engine.pool
        self.hasher = BlockHasher(self.config.resolved_hash_block_size, b"calls")
        self.rng = random.Random(self.seed)
        self.waiting: deque[_Served] = deque()
        self.running: list[_Served] = []
        self.in_flight: deque[_Batch] = deque()
        self.step = self.arrivals = 0

    def run(self, requests: int, *, most_output: int = 30) -> list[Call]:
        """Serve so many requests to their ends, some aborted on the way."""
        prefixes = [[self.rng.randrange(50) for _ in range(24)] for _ in range(3)]
        ahead = int(self.config.async_scheduling)
        while self.arrivals < requests or self.waiting or self.running or self.in_flight:
            if self.arrivals < requests and self.rng.random() < 0.6:
                prompt = self.rng.choice(prefixes)[: self.rng.randrange(1, 24)]
                prompt = prompt + [self.rng.randrange(3) for _ in range(self.rng.randrange(1, 16))]
                self._arrive(prompt, self.rng.randrange(1, most_output))
            if self.waiting or self.running:
                self.in_flight.append(self._schedule())
                if len(self.in_flight) <= ahead:
                    continue
            if self.in_flight:
                self._update(self.in_flight.popleft())
            if self.running and self.rng.random() < 0.02:
                self._end(self.rng.choice(self.running), "FINISHED_ABORTED")
        self.calls.append(Reset(self.manager.reset_prefix_cache()))
        return self.calls

    def _arrive(self, prompt: list[int], max_tokens: int) -> None:
        served = _Served(Request(f"r{self.arrivals}", prompt, max_tokens), self.arrivals)
        hashes = tuple(map(digest, self._keys(served)))
        served.hashed = len(hashes)
        self.calls.append(
            Arrived(
                served.row, f"r{served.row}", 1.0 * self.step, len(prompt), max_tokens, 0, hashes
            )
        )
        self.arrivals += 1
        self.waiting.append(served)

    def _keys(self, served: _Served) -> list[int]:
        return self.hasher.extend(self.hasher.root(), served.request.all_token_ids)

    def _hash(self, served: _Served) -> None:
        keys = self._keys(served)[served.hashed :]
        if keys:
            self.calls.append(Hashed(served.row, served.hashed, tuple(map(digest, keys))))
            served.hashed += len(keys)

    def _schedule(self) -> _Batch:
        self.step += 1
        self.calls.append(StepBegan(self.step, 1.0 * self.step))
        self.manager.new_step_starts()
        budget = self.config.max_num_batched_tokens
        scheduled: list[tuple[_Served, int]] = []
        preempted = self._schedule_running(scheduled, budget)
        budget -= sum(tokens for _, tokens in scheduled)
        while not preempted and self.waiting and budget > 0:
            served = self.waiting[0]
            if len(self.running) >= self.config.max_num_seqs or served.stale:
                break
            blocks, hit = self.manager.get_computed_blocks(served.request)
            self._hash(served)
            self.calls.append(LookedUp(served.row, served.request.num_tokens, hit))
            new = min(served.request.num_tokens - hit, budget)
            served.request.num_computed_tokens = 0
            if not self._allocate(served, new, hit, blocks.blocks):
                break
            served.request.num_computed_tokens = hit
            self.running.append(self.waiting.popleft())
            scheduled.append((served, new))
            budget -= new
        entries = []
        for served, tokens in scheduled:
            served.request.num_computed_tokens += tokens
            computed = served.request.num_computed_tokens
            samples = computed >= served.request.num_tokens + served.placeholders
            served.placeholders += samples and self.config.async_scheduling
            entries.append((served, tokens, samples))
        self.calls.append(
            StepEnded(
                step=self.step,
                tokens=sum(tokens for _, tokens in scheduled),
                running=len(self.running),
                waiting=len(self.waiting),
                free_blocks=self.manager.get_num_free_blocks(),
                cached_keys=self._cached_keys(),
                rows=tuple(served.row for served, _ in scheduled),
                new_tokens=tuple(tokens for _, tokens in scheduled),
            )
        )
        return _Batch(self.step, tuple(entries))

    def _schedule_running(self, scheduled: list[tuple[_Served, int]], budget: int) -> bool:
        preempted = False
        at = 0
        while at < len(self.running) and budget > 0:
            served = self.running[at]
            request = served.request
            computed, late = request.num_computed_tokens, served.placeholders
            most = request.num_prompt_tokens + request.max_tokens
            new = min(request.num_tokens + late - computed, budget)
            if (late and computed + 2 - late >= most) or new == 0:
                at += 1
                continue
            while not self._allocate(served, new, 0, ()):
                victim = self.running.pop()
                self.calls.append(Preempted(victim.row))
                self._free(victim)
                victim.request.num_computed_tokens = victim.placeholders = 0
                victim.stale = sum(
                    tokens
                    for batch in self.in_flight
                    for s, tokens, _ in batch.entries
                    if s is victim
                )
                self.waiting.appendleft(victim)
                self.preemptions += 1
                preempted = True
                if victim is served:
                    return True
            scheduled.append((served, new))
            budget -= new
            at += 1
        return preempted

    def _allocate(
        self, served: _Served, new: int, hit: int, hits: tuple[tuple[int, ...], ...]
    ) -> bool:
        waiting = served not in self.running
        keys = self.pool.blocks["key"].copy()
        before = self.manager.get_block_ids(served.request.request_id)
        given = self.manager.allocate_slots(
            served.request, new, hit, KVCacheBlocks(hits) if hits else None,
            full_sequence_must_fit=waiting, has_scheduled_reqs=bool(self.running),
        )  # fmt: skip
        effects: list[Effect] = []
        after = self.manager.get_block_ids(served.request.request_id)
        for group, table in enumerate(before):
            left = [old for old, new_ in zip(table, after[group], strict=False) if old != new_]
            _note(effects, "freed", group, left[::-1])
        if given is not None:
            for group, ids in enumerate(hits):
                _note(effects, "touched", group, [i for i in ids if i in after[group] and i])
            for group, ids in enumerate(given.blocks):
                lost = [i for i in ids if keys[i] != NONE]
                _note(effects, "evicted", NONE, lost, [int(keys[i]) for i in lost])
                _note(effects, "allocated", group, list(ids))
        taken = {i for ids in (given.blocks if given else ()) for i in ids}
        keys[list(taken)] = NONE
        self._note_cached(effects, served, keys)
        self._hash(served)
        self.calls.append(
            Allocated(
                served.row, new, hit, given is not None, waiting, bool(self.running) and waiting, 0,
                tuple(effects),
            )
        )  # fmt: skip
        return given is not None

    def _note_cached(self, effects: list[Effect], served: _Served, before: I64) -> None:
        now = self.pool.blocks["key"]
        for group, table in enumerate(self.manager.get_block_ids(served.request.request_id)):
            new = [i for i in table if i and now[i] != before[i]]
            _note(effects, "cached", group, new, [int(now[i]) for i in new])

    def _update(self, batch: _Batch) -> None:
        at = len(self.calls)
        got: list[int] = []
        for served, tokens, samples in batch.entries:
            request = served.request
            is_stale = served.stale > 0
            served.stale = max(0, served.stale - tokens)
            if served.over or not samples:
                continue
            got.append(served.row)
            request.append_output_token_ids([1000 + served.row])
            if self.config.async_scheduling:
                served.placeholders -= not is_stale
                if served in self.running:
                    self._cache(served)
            if request.num_tokens >= request.num_prompt_tokens + request.max_tokens:
                self._end(served, "FINISHED_LENGTH_CAPPED")
        if len(got) < len(batch.entries):
            over = {call.row for call in self.calls[at:] if isinstance(call, Finished)}
            got = [NONE if row in over else row for row in got]
        self.calls.insert(at, Sampled(batch.step, batch.step + 0.7, tuple(got), (1,) * len(got)))

    def _cache(self, served: _Served) -> None:
        request = served.request
        before = self.pool.blocks["key"].copy()
        self.manager.cache_blocks(request, request.num_computed_tokens - served.placeholders)
        effects: list[Effect] = []
        self._note_cached(effects, served, before)
        if effects:
            self._hash(served)
            self.calls.append(Cached(served.row, tuple(effects)))

    def _free(self, served: _Served) -> None:
        effects: list[Effect] = []
        for group, table in enumerate(self.manager.get_block_ids(served.request.request_id)):
            _note(effects, "freed", group, [block for block in table[::-1] if block])
        self.manager.free(served.request)
        self.calls.append(Freed(served.row, tuple(effects)))

    def _end(self, served: _Served, status: str) -> None:
        if served in self.running:
            self.running.remove(served)
            self._free(served)
        else:
            self.waiting.remove(served)
        self.calls.append(Finished(served.row, status, served.request.num_tokens))
        served.over = True

    def _cached_keys(self) -> int:
        blocks = self.pool.blocks[self.pool.blocks["key"] != NONE]
        return len(set(zip(blocks["group"].tolist(), blocks["key"].tolist(), strict=True)))


def _note(
    effects: list[Effect],
    kind: EffectKind,
    group: int,
    blocks: list[int],
    keys: list[int] | None = None,
) -> None:
    if blocks:
        hashes = None if keys is None else tuple(map(digest, keys))
        effects.append(Effect(kind, group, tuple(blocks), hashes))
