"""The steps that requests of given lengths take when blocks never run out: which, and how long.

Owns: a schedule without blocks, and internal waste over its clock. Leaves to others: the real
schedule (`kvatlas.engine`), which also shares blocks, runs out of them and preempts.

The rules are vLLM's for first come, first served: every running request gets its next token, what
is left of the token budget goes to prompts in order, the last of which may get a part. While no
request waits for blocks, their size changes nothing about it, so one schedule serves all sizes.
With a limit on long prompts' chunks several prompts are under way at once; a token budget that then
runs out may hit another request than in vLLM, which goes by the order of admission.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kvatlas.engine import DriveConfig, EngineConfig
from kvatlas.errors import InputError
from kvatlas.workload import Workload

__all__ = ["StepSchedule", "schedule_steps"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
_CELLS = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class StepSchedule:
    """Who holds how many tokens in which step.

    Attributes:
        prompts, steps: (N,) prompt tokens, and steps with the whole prompt: one per output token.
        first_step: (N,) the step that completes the prompt.
        step_ms: (S,) how long each step takes.
        parts: (M, 2) of prompts that take several steps: a step before the last, tokens held then.
    """

    prompts: I64
    steps: I64
    first_step: I64
    step_ms: F64
    parts: I64

    def waste(self, block_size: int) -> float:
        """Return internal waste over the clock, 0 to 1; O(output tokens)."""
        held = self.step_ms[self.parts[:, 0]]
        blocks = -(-self.parts[:, 1] // block_size)
        allocated = float((held * blocks).sum()) * block_size
        live = float((held * self.parts[:, 1]).sum())
        for rows in _portions(self.steps):
            count = self.steps[rows]
            starts = np.repeat(np.cumsum(count) - count, count)
            since = np.arange(starts.size) - starts
            tokens = np.repeat(self.prompts[rows], count) + since
            held = self.step_ms[np.repeat(self.first_step[rows], count) + since]
            allocated += float((held * -(-tokens // block_size)).sum()) * block_size
            live += float((held * tokens).sum())
        return 1 - live / allocated


def _portions(steps: I64) -> list[slice]:
    """Return slices of requests with some millions of steps each, so that memory is bounded."""
    which = np.cumsum(steps) // _CELLS
    edges = [0, *(np.flatnonzero(np.diff(which)) + 1).tolist(), steps.size]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def schedule_steps(
    workload: Workload, config: EngineConfig, drive: DriveConfig | None = None
) -> StepSchedule:
    """Return the steps of a workload in a pool without end; O(steps + requests).

    Of `config` only the limits of a step count, of `drive` the arrivals and the step times.

    Raises: InputError: no requests, priorities, or a token budget below the running requests.
    """
    drive = drive or DriveConfig()
    if config.policy != "fcfs":
        raise InputError("only fcfs", field="policy", value=config.policy)
    budget, seats = config.max_num_batched_tokens, config.max_num_seqs
    if budget < seats:
        raise InputError(
            "must be at least max_num_seqs", field="max_num_batched_tokens", value=budget
        )
    if not workload.num_requests:
        raise InputError("no requests", field="workload", value=workload.name)
    prompts = workload.prompt_tokens.astype(np.int64)
    steps = np.maximum(1, workload.output_tokens.astype(np.int64))
    timed = drive.arrivals == "timed"
    arrivals = (workload.arrival_s * 1e3).tolist() if timed else [0.0] * prompts.size
    first, times, parts = _play(
        prompts.tolist(), steps.tolist(), arrivals, budget, seats, config, drive
    )
    return StepSchedule(
        prompts,
        steps,
        np.array(first, np.int64),
        np.array(times, np.float64),
        np.array(parts, np.int64).reshape(-1, 2),
    )


def _play(
    prompts: list[int],
    steps: list[int],
    arrivals_ms: list[float],
    budget: int,
    seats: int,
    config: EngineConfig,
    drive: DriveConfig,
) -> tuple[list[int], list[float], list[tuple[int, int]]]:
    chunk = config.long_prefill_token_threshold or budget
    first, times, parts = [0] * len(prompts), list[float](), list[tuple[int, int]]()
    leaving: Counter[int] = Counter()  # requests by their last step
    partial: list[list[int]] = []  # [row, tokens computed]
    decoding, head, step, clock_ms = 0, 0, 0, 0.0
    while head < len(prompts) or partial or decoding:
        if not partial and not decoding:
            clock_ms = max(clock_ms, arrivals_ms[head])
        left, going_on, started = budget - decoding, list[list[int]](), 0
        waiting = iter(partial)
        while left > 0:
            item = next(waiting, None)
            if item is None:
                taken = decoding + started + len(going_on)
                if head == len(prompts) or taken >= seats or arrivals_ms[head] > clock_ms:
                    break
                item, head = [head, 0], head + 1
            row = item[0]
            tokens = min(prompts[row] - item[1], chunk, left)
            left -= tokens
            item[1] += tokens
            if item[1] < prompts[row]:
                going_on.append(item)
                parts.append((step, item[1]))
                continue
            first[row] = step
            leaving[step + steps[row] - 1] += 1
            started += 1
        for item in waiting:  # no token left for them: they hold what they have
            going_on.append(item)
            parts.append((step, item[1]))
        times.append(drive.step_ms_base + drive.step_ms_per_ktok * (budget - left) / 1000)
        clock_ms += times[-1]
        partial = going_on
        decoding += started - leaving.pop(step, 0)
        step += 1
    return first, times, parts
