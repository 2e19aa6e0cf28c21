"""Drives any plain nano-vLLM (the model, or the real one) over a workload, the obvious way.

What comes out, step by step, is what `NanoReplay` gives: the stream of words, and the decisions.
The rules of the drive are the engine's: before each step the waiting queue is topped up or
receives what has arrived; whoever can never be served is set aside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from nano_model import Seen

from kvatlas.engine.replay import DriveConfig
from kvatlas.workload import Workload

STEP, ADMIT, GROW, PREEMPT, SCHEDULED = (0xFFFFFFFF - i for i in (0, 1, 2, 3, 5))


class PlainNano(Protocol):
    """What the drive needs of an engine."""

    @property
    def free(self) -> list[int]: ...
    def waiting_rows(self) -> list[int]: ...
    def running_rows(self) -> list[int]: ...
    def tables(self) -> dict[int, list[int]]: ...
    def add(self, row: int, tokens: list[int], max_tokens: int) -> None: ...
    def drop_first_waiting(self) -> int: ...
    def step(self) -> Seen | None: ...
    def settle(self, outputs: Sequence[Sequence[int]]) -> list[int]: ...


@dataclass
class PlainStep:
    """One step as it was decided, and the engine's state after it was taken in."""

    words: list[int]
    free: list[int]
    tables: dict[int, list[int]]
    waiting: list[int]
    running: list[int]


@dataclass
class PlainRun:
    """The decisions of a whole run."""

    counts: dict[str, int] = field(default_factory=dict)
    usages: list[float] = field(default_factory=list)
    holding: list[int] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)
    finished_ms: dict[int, float] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)
    sha: bytes = b""

    def decisions(self) -> dict[str, int | float | str]:
        """The decisions under the names of `ReplayResult.decisions`."""
        count, steps = self.counts, max(1, self.counts["steps"])
        rate = count["prefix_hits"] / max(1, count["prefix_queries"])
        return {
            **count,
            "hit_rate": round(rate, 6),
            "peak_usage": round(max(self.usages, default=0.0), 4),
            "mean_usage": round(sum(self.usages) / steps, 4),
            "mean_running": round(sum(self.holding) / steps, 2),
            "alloc_sha256": self.sha.hex()[:16],
            "freelist_sha256": hashlib.sha256(_as_bytes(self.free)).hexdigest()[:16],
        }


def tokens_of(workload: Workload, row: int) -> tuple[list[int], list[int]]:
    """Return prompt and output as token ids that are equal exactly where identities are."""
    span = workload.tokens_per_id
    prompt, output = int(workload.prompt_tokens[row]), int(workload.output_tokens[row])
    covered = 0
    if workload.prefix_known:
        covered = prompt + output if workload.outputs_identified else prompt
    ids = workload.ids[workload.id_offsets[row] : workload.id_offsets[row + 1]].tolist()
    tokens = [
        ids[at // span] * span + at % span if at < covered else -1 - (row << 24) - at
        for at in range(prompt + output)
    ]
    return tokens[:prompt], tokens[prompt:]


def drive_plain(
    engine: PlainNano,
    workload: Workload,
    num_blocks: int,
    block_size: int,
    drive: DriveConfig,
    run: PlainRun,
) -> Iterator[PlainStep]:
    """Run to the end; yield each step, fill `run` in."""
    names = (
        "finished steps empty_steps scheduled_tokens preemptions admissions_new admissions_resumed "
        "prefix_queries prefix_hits preempted_queries preempted_hits"
    )
    run.counts = {"requests": workload.num_requests, **dict.fromkeys(names.split(), 0)}
    count, digest = run.counts, hashlib.sha256()
    num_rows = workload.num_requests
    outputs: list[list[int]] = []
    arrival_ms = np.round(workload.arrival_s * 1e3, 6).tolist()
    lengths = workload.prompt_tokens.tolist()
    arrived, clock_ms = 0, 0.0
    while True:
        idle = not engine.waiting_rows() and not engine.running_rows()
        if idle and drive.arrivals == "timed" and arrived < num_rows:
            clock_ms = max(clock_ms, arrival_ms[arrived])
        while arrived < num_rows and (
            arrival_ms[arrived] <= clock_ms
            if drive.arrivals == "timed"
            else len(engine.waiting_rows()) < drive.queue_depth
        ):
            prompt, output = tokens_of(workload, arrived)
            outputs.append(output)
            # The last token is never computed, so it needs no place.
            if -(-(len(prompt) + len(output) - 1) // block_size) <= num_blocks:
                engine.add(arrived, prompt, len(output))
            else:
                run.rejected.append(arrived)
            arrived += 1
        if not engine.waiting_rows() and not engine.running_rows():
            if arrived == num_rows:
                break
            continue
        before = engine.tables()
        seen = engine.step()
        tables = engine.tables()
        count["steps"] += 1
        seen = seen or Seen()
        words = _words(count["steps"], seen, before, tables)
        digest.update(_as_bytes(words))
        words += [SCHEDULED, len(engine.free)]
        words += [word for row, tokens, _ in seen.scheduled for word in (row, tokens)]
        tokens = sum(tokens for _, tokens, _ in seen.scheduled)
        clock_ms += drive.step_ms_base + drive.step_ms_per_ktok * tokens / 1000.0
        run.usages.append((num_blocks - len(engine.free)) / num_blocks)
        run.holding.append(len(tables))
        count["scheduled_tokens"] += tokens
        count["preemptions"] += len(seen.preempted)
        for row, hit in seen.admitted:
            again = row in seen.resumed
            count["admissions_resumed" if again else "admissions_new"] += 1
            count["preempted_queries" if again else "prefix_queries"] += lengths[row]
            count["preempted_hits" if again else "prefix_hits"] += hit
        if seen.scheduled:
            for row, _, samples in seen.scheduled:
                lengths[row] += samples
            for row in engine.settle(outputs):
                run.finished_ms[row] = clock_ms
                count["finished"] += 1
        else:
            count["empty_steps"] += 1
            run.rejected.append(engine.drop_first_waiting())
        yield PlainStep(
            words,
            list(engine.free),
            engine.tables(),
            engine.waiting_rows(),
            engine.running_rows(),
        )
    run.sha, run.free = digest.digest(), list(engine.free)


def _as_bytes(words: list[int]) -> bytes:
    return np.array(words, "<u4").tobytes()


def _words(
    number: int, seen: Seen, before: dict[int, list[int]], after: dict[int, list[int]]
) -> list[int]:
    words = [STEP, number]
    for again in (False, True):
        for row, hit in seen.admitted:
            if (row in seen.resumed) == again:
                words += [ADMIT, row, hit, *after[row]]
    admitted = {row for row, _ in seen.admitted}
    for row, _, _ in seen.scheduled:
        if row not in admitted and len(after[row]) > len(before[row]):
            words += [GROW, row, *after[row][len(before[row]) :]]
    for row in sorted(seen.preempted):
        words += [PREEMPT, row]
    return words
