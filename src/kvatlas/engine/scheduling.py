"""`Scheduler`: continuous batching to embed, under vLLM's names.

Owns: a thin face over the scheduler's kernels: add requests, `schedule()`, run your model,
`update_from_output()`. Leaves to others: the rules (`scheduler`), the model, the clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kvatlas.engine.build import make_step
from kvatlas.engine.check import check_engine
from kvatlas.engine.config import EngineConfig
from kvatlas.engine.kernels import entries
from kvatlas.engine.kernels.state import (
    FINISHED,
    NEW_KIND,
    NONE,
    RUN_KIND,
    TOTALS,
    Engine,
    Step,
)
from kvatlas.engine.live_rows import Rows
from kvatlas.engine.request import Request
from kvatlas.errors import InputError, InvariantError
from kvatlas.records import one_record


@dataclass(frozen=True)
class SchedulerOutput:
    """What to run in this step.

    Attributes:
        num_scheduled_tokens: tokens per request id, in running order, new admissions last.
        scheduled_new: admitted for the first time; scheduled_resumed: again after a preemption.
        num_computed_tokens: per admitted request, the tokens found in the cache.
        block_tables: per scheduled request, its block ids per group.
        preempted: requests that lost their blocks in this step.
        sampling: requests whose prefill this step completes: the model samples one token for each.
        moves: (n, 3) blocks to copy before the model runs, in this order: 0 from a block to a slot
            of the host tier or 1 back, the block, the slot; for `kvatlas.tiers.HostBlocks.apply`.
    """

    num_scheduled_tokens: dict[str, int]
    scheduled_new: tuple[str, ...]
    scheduled_resumed: tuple[str, ...]
    num_computed_tokens: dict[str, int]
    block_tables: dict[str, tuple[list[int], ...]]
    preempted: tuple[str, ...]
    sampling: tuple[str, ...]
    step: Step
    moves: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 3), np.int32))

    @property
    def total_num_scheduled_tokens(self) -> int:
        """Tokens in this step."""
        return sum(self.num_scheduled_tokens.values())


class Scheduler:
    """Admits, schedules, preempts and finishes requests exactly as vLLM 0.32 would.

    With `async_scheduling` call `schedule()` once ahead: step k + 1 before the output of step k.

    Args:
        config: settings under vLLM's names.
        max_num_requests: live requests at most.
        secret: key of the block hash (`BlockHasher`).
    """

    def __init__(
        self, config: EngineConfig, *, max_num_requests: int = 4096, secret: bytes | None = None
    ) -> None:
        if config.host_blocks and config.policy == "priority" and not config.forget_uncomputed:
            raise InputError(
                "with priorities vLLM caches blocks that nobody computes, and a tier keeps them",
                field="forget_uncomputed",
                value=False,
                remedy="set it beside host_blocks",
            )
        self.config = config
        self._rows = Rows(config, max_num_requests, secret)
        self._engine = self._rows.engine
        self._totals = one_record(TOTALS)
        self._finished = np.zeros(config.max_num_seqs, np.int64)
        self._in_flight: deque[Step] = deque()
        self._leaving: list[int] = []

    @property
    def state(self) -> Engine:
        """The engine behind this face: look, don't touch."""
        return self._engine

    def add_request(self, request: Request) -> None:
        """Let a request wait. Raises InputError for a duplicate id, a prompt too long, no row."""
        if self._rows.known(request.request_id) is not None:
            raise InputError("duplicate request id", field="request_id", value=request.request_id)
        entries.add_request(self._engine, self._rows.row(request))

    def has_requests(self) -> bool:
        """Whether anyone waits or runs."""
        return self.num_running + self.num_waiting > 0

    @property
    def num_running(self) -> int:
        """Running requests."""
        return int(self._engine.queue.num_running)

    @property
    def num_waiting(self) -> int:
        """Waiting requests, preempted ones included."""
        return int(self._engine.queue.num_waiting)

    @property
    def prefix_cache_stats(self) -> dict[str, int]:
        """Prompt tokens looked up and found so far: first admissions, and after preemptions."""
        names = ("queries", "hits", "preempted_queries", "preempted_hits")
        return {name: int(getattr(self._totals, name)) for name in names}

    @property
    def usage(self) -> float:
        """Share of the blocks in use, 0 to 1."""
        return 1.0 - int(self._engine.pool.info.free) / (self.config.num_blocks - 1)

    def schedule(self) -> SchedulerOutput:
        """Decide one step. O(running + blocks touched)."""
        if len(self._in_flight) > int(self.config.async_scheduling):
            raise InputError(
                "the last step's output is missing",
                field="schedule",
                remedy="call update_from_output first",
            )
        engine, step = self._engine, make_step(self.config)
        entries.schedule(engine, step, self._totals)
        self._in_flight.append(step)
        count = int(step.info.entries)
        rows = step.entries["row"][:count].tolist()
        kinds = step.entries["kind"][:count].tolist()
        ids = [self._rows.request(row).request_id for row in rows]
        for row in rows:
            self._read_back(row)
        preempted = [self._rows.request(int(row)) for row in step.preempted[: step.info.preempted]]
        for request in preempted:
            request.num_computed_tokens = 0
            request.num_preemptions += 1
        admitted = [i for i, kind in enumerate(kinds) if kind != RUN_KIND]
        return SchedulerOutput(
            num_scheduled_tokens=dict(
                zip(ids, step.entries["tokens"][:count].tolist(), strict=True)
            ),
            scheduled_new=tuple(ids[i] for i in admitted if kinds[i] == NEW_KIND),
            scheduled_resumed=tuple(ids[i] for i in admitted if kinds[i] != NEW_KIND),
            num_computed_tokens={ids[i]: int(step.entries[i].hit) for i in admitted},
            block_tables={name: self.get_block_ids(name) for name in ids},
            preempted=tuple(request.request_id for request in preempted),
            sampling=tuple(ids[i] for i in range(count) if step.entries[i].sampled),
            step=step,
            moves=self._take_moves(),
        )

    def update_from_output(
        self, output: SchedulerOutput, sampled_token_ids: Mapping[str, Sequence[int] | int]
    ) -> list[Request]:
        """Take in the sampled tokens (one per request in `output.sampling`); return who finished.

        Raises InputError when a token is missing or outputs come out of order.
        """
        if not self._in_flight or self._in_flight[0] is not output.step:
            raise InputError(
                "outputs must come back in the order of their steps", field="update_from_output"
            )
        self._in_flight.popleft()
        for name in output.sampling:
            row = self._rows.known(name)
            if row is not None and int(self._engine.requests[row].status) < FINISHED:
                self._append(name, row, sampled_token_ids)
        done = entries.update_from_output(self._engine, output.step, self._totals, self._finished)
        rows = self._finished[: int(done)].tolist()
        finished = [self._rows.request(row) for row in rows]
        self._leave(rows)
        return finished

    def abort(self, request_id: str) -> None:
        """Finish a request now. Unknown ids are ignored, as in vLLM."""
        row = self._rows.known(request_id)
        if row is not None and int(self._engine.requests[row].status) < FINISHED:
            entries.abort(self._engine, row)
            self._leave([row])

    def get_block_ids(self, request_id: str) -> tuple[list[int], ...]:
        """Return the request's block tables, one per group; empty if it holds nothing."""
        row = self._rows.known(request_id)
        slot = NONE if row is None else int(self._engine.requests[row].slot)
        if slot == NONE:
            return tuple([] for _ in self.config.groups)
        lengths = self._engine.tables["length"][:, slot].tolist()
        return tuple(
            self._engine.table[group, slot, :length].tolist()
            for group, length in enumerate(lengths)
        )

    def _take_moves(self) -> NDArray[np.int32]:
        """Return what the host tier wants copied since the last step, and forget it."""
        tier = self._engine.pool.tier
        if tier is None:
            return np.zeros((0, 3), np.int32)
        if tier.info.lost_moves:
            raise InvariantError("a step moved more blocks than the list of moves has room for")
        moves = tier.moves[: int(tier.info.moves)].copy()
        tier.info.moves = tier.info.step_in = tier.info.step_out = 0
        return moves

    def check(self) -> None:
        """Check every invariant. O(blocks + requests). Raises InvariantError."""
        check_engine(self._engine)

    def _append(self, name: str, row: int, sampled: Mapping[str, Sequence[int] | int]) -> None:
        """Append one sampled token: its block's key must be known before the update caches it."""
        given = sampled.get(name)
        tokens = [given] if isinstance(given, int) else list(given or ())
        if len(tokens) != 1:
            raise InputError(
                f"request {name} must get one token", field="sampled_token_ids", value=given
            )
        request, record = self._rows.request(row), self._engine.requests[row]
        request.append_output_token_ids(tokens)
        num_tokens = int(record.num_tokens)
        new = request.update_block_keys(self._rows.hasher)
        if new:
            end = int(record.id_start) + len(request.block_keys)
            self._engine.ids[end - len(new) : end] = new
            record.covered = len(request.block_keys) * self._rows.hasher.block_size
        if tokens[0] in request.stop_token_ids:
            record.max_tokens = num_tokens + 1 - request.num_prompt_tokens

    def _read_back(self, row: int) -> None:
        self._rows.request(row).num_computed_tokens = int(self._engine.requests[row].computed)

    def _leave(self, rows: Sequence[int]) -> None:
        """Give rows back once no output of theirs is in flight."""
        waiting = [*self._leaving, *rows]
        self._leaving = [row for row in waiting if int(self._engine.requests[row].in_flight) > 0]
        for row in waiting:
            if row not in self._leaving:
                self._rows.release(self._rows.request(row).request_id)
