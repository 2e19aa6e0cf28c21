"""A moment of a running engine, as every view shows it: numbers, rows and a map, JSON-able.

Owns: the names, units and shapes of what is shown live. Leaves to others: where the numbers come
from (`board`), how they look (`top`, `web`), their Prometheus names (`prometheus`).

What cannot be known is `None`, and `Moment.unavailable` says why under the dotted name of the
field, such as `"waste.internal"`. Ratios run 0 to 1. Times are seconds of the engine's own clock.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from kvatlas.watch.moment_parts import (
    Evictions,
    Failures,
    FreeRuns,
    Health,
    Playback,
    Pool,
    Prefix,
    Rates,
    Requests,
    State,
    Waste,
)

__all__ = [
    "Alert",
    "Cells",
    "Evictions",
    "Failures",
    "FreeRuns",
    "GroupRow",
    "Health",
    "History",
    "Moment",
    "Playback",
    "Pool",
    "Prefix",
    "Rates",
    "RequestRow",
    "Requests",
    "State",
    "Waste",
]


class GroupRow(msgspec.Struct, frozen=True):
    """A KV cache group.

    Attributes:
        group, kind, block_size, window: as in the header.
        used_blocks, evictable_blocks: of this group, now; `held_slots`: of its used blocks, None
            where blocks are not made of slots.
        allocated_blocks, hit_blocks, cached_blocks, evicted_blocks: events so far, blocks.
        used_bytes: None where the page size is not recorded.
    """

    group: int
    kind: str
    block_size: int
    window: int | None
    used_blocks: int
    evictable_blocks: int
    held_slots: int | None
    allocated_blocks: int
    hit_blocks: int
    cached_blocks: int
    evicted_blocks: int
    used_bytes: int | None


class RequestRow(msgspec.Struct, frozen=True):
    """A request that holds blocks, or waits.

    Attributes:
        row: its number; `name`: its own id (hostile input: escape it), "" when unknown.
        state: `running`, `waiting` or `preempted` (waits again).
        blocks: held, shared ones too; `runs`: ascending consecutive runs that they make.
        tokens: of the prompt; `computed_tokens`: as last told (at decoding, once per block);
            `hit_tokens`: found in the cache at its last admission.
        preemptions: how often it lost its blocks.
        since_s: how long it is in this state.
    """

    row: int
    name: str
    state: Literal["running", "waiting", "preempted"]
    blocks: int
    runs: int
    tokens: int
    computed_tokens: int
    hit_tokens: int
    preemptions: int
    since_s: float


class Alert(msgspec.Struct, frozen=True):
    """Something to look at.

    Attributes:
        level: `bad` (service suffers, or data is lost), `warn`, or `info`.
        name: a fixed word, such as `preemption storm`.
        text: a sentence with the numbers.
        since_s: on the engine's clock, when it began.
    """

    level: Literal["bad", "warn", "info"]
    name: str
    text: str
    since_s: float


class Cells(msgspec.Struct, frozen=True):
    """The block map, `per_cell` neighbouring blocks to a cell; blocks `[first, stop)`.

    Attributes:
        codes: one character per cell: `#` all used, `1` to `9` partly (in tenths), `=` evictable,
            `.` empty, `:` evictable and empty, `x` the null block alone.
        owners: the request that owns all used blocks of the cell, -1 nobody, -2 several.
    """

    first: int
    stop: int
    per_cell: int
    codes: str
    owners: list[int]


class History(msgspec.Struct, frozen=True):
    """K intervals, one after the other, older ones longer; lists of K, None where nothing is known.

    Attributes:
        start_s, end_s: bounds on the engine's clock.
        usage, evictable: share of the pool, mean over the interval; `waste`: of the held slots.
        hit_rate: of the tokens asked for in it. running, waiting: requests, mean.
        tokens_per_s: computed. preemptions, evictions, failures: how many in it.
    """

    start_s: list[float]
    end_s: list[float]
    usage: list[float | None]
    evictable: list[float | None]
    waste: list[float | None]
    hit_rate: list[float | None]
    running: list[float | None]
    waiting: list[float | None]
    tokens_per_s: list[float | None]
    preemptions: list[float]
    evictions: list[float]
    failures: list[float]


class Moment(msgspec.Struct, frozen=True):
    """All of it.

    Attributes:
        engine: the feed's label; `version`: whose rules, such as "vLLM 0.32"; `producer`: `live` or
            `replay`.
        generation: rises when the board began anew; what counted up starts at 0 then.
        time_s: the engine's clock; `wall_unix_s`: the same in Unix time, None where not known.
        step, events, computed_tokens: so far.
        caching: whether the prefix cache is on.
        memory: newest samples of the monitor, oldest first; [] where none.
        figures: every figure by its name on the metrics page, if they were asked for.
        unavailable: why a field or a figure is None.
    """

    engine: str
    version: str
    producer: str
    generation: int
    time_s: float
    wall_unix_s: float | None
    step: int
    events: int
    computed_tokens: int
    caching: bool
    health: Health
    playback: Playback | None
    pool: Pool
    waste: Waste
    free_runs: FreeRuns
    empty_runs: FreeRuns
    prefix: Prefix
    evictions: Evictions
    failures: Failures
    requests: Requests
    rates: Rates
    groups: list[GroupRow]
    top: list[RequestRow]
    alerts: list[Alert]
    cells: Cells | None
    history: History
    memory: list[dict[str, Any]]
    figures: dict[str, float | None]
    unavailable: dict[str, str]
