"""From counts to a moment: all of it in its place.

Owns: requests, rates, groups, and what else is put beside the gauges. Leaves to others: pool, waste
and cache (`gauges`), the map (`cells`), alerts (`alerts`), top requests (`roster`).
"""

from __future__ import annotations

from kvatlas.events import FragmentationSnapshot, Header, snapshot_of
from kvatlas.events.snapshot import EMPTY, USED
from kvatlas.measure import Figures
from kvatlas.watch.alerts import WINDOW_S, Evidence
from kvatlas.watch.cells import cells_of
from kvatlas.watch.gauges import (
    Lacks,
    Sight,
    evictions_of,
    failures_of,
    pool_of,
    prefix_of,
    runs_of,
    waste_of,
)
from kvatlas.watch.history import Window, history_of, window_of
from kvatlas.watch.moment import Cells, GroupRow, Moment, Playback, Rates, Requests
from kvatlas.watch.roster import top_requests
from kvatlas.watch.tally import LiveTally

__all__ = ["RATE_S", "moment_of"]

RATE_S = 10.0
"""What rates are a mean over, seconds."""
_RECENT_S = 5.0


def moment_of(
    sight: Sight,
    figures: Figures,
    playback: Playback | None,
    cells: int,
    blocks: tuple[int, int] | None,
) -> Moment:
    """Return the moment; O(blocks + requests)."""
    header, tally, health = sight.header, sight.tally, sight.health
    lacks = Lacks(figures.unavailable)
    snapshot = snapshot_of(sight.state)
    states = snapshot.states()
    samples = tally.samples()
    now_ms = float(tally.sums.time_ms) + 1e3 * (health.age_s or 0.0)
    minute, recent = window_of(samples, now_ms, WINDOW_S), window_of(samples, now_ms, _RECENT_S)
    pool = pool_of(sight, lacks)
    requests = _requests(tally)
    started = sight.feed.started_unix_s()
    return Moment(
        engine=sight.feed.label,
        version=header.engine,
        producer=header.producer,
        generation=sight.generation,
        time_s=now_ms / 1e3,
        wall_unix_s=None if started is None else started + now_ms / 1e3,
        step=int(tally.now.step),
        events=int(tally.now.events),
        computed_tokens=int(tally.sums.tokens),
        caching=header.caching,
        health=health,
        playback=playback,
        pool=pool,
        waste=waste_of(tally, pool, minute, lacks),
        free_runs=runs_of(states != USED),
        empty_runs=runs_of(states == EMPTY),
        prefix=prefix_of(header, tally, minute, lacks),
        evictions=evictions_of(sight, lacks),
        failures=failures_of(tally),
        requests=requests,
        rates=_rates(window_of(samples, now_ms, RATE_S)),
        groups=_groups(header, tally),
        top=top_requests(snapshot, tally, sight.feed.names, now_ms),
        alerts=sight.book.judge(
            Evidence(
                now_s=now_ms / 1e3,
                minute=minute,
                recent=recent,
                before=Window(samples, float(samples["time_ms"][0]), now_ms - 1e3 * WINDOW_S),
                usage=pool.usage,
                total_blocks=pool.total_blocks,
                running=requests.running,
                waiting=requests.waiting,
                health=health,
            )
        ),
        cells=_cells(snapshot, cells, blocks),
        history=history_of(samples, pool.total_blocks),
        memory=[dict(sample) for sample in sight.feed.memory()],
        figures=dict(figures.values),
        unavailable=dict(lacks),
    )


def _requests(tally: LiveTally) -> Requests:
    counted = ("arrived", "admitted", "resumed", "preemptions", "finished", "aborted", "set_aside")
    return Requests(
        running=int(tally.now.running),
        waiting=int(tally.now.waiting),
        **{name: int(tally.sums[name]) for name in counted},
    )


def _rates(window: Window) -> Rates:
    return Rates(
        window_s=window.span_s,
        tokens_per_s=window.per_s(window["tokens"]),
        steps_per_s=window.per_s(window["steps"]),
        arrivals_per_s=window.per_s(window["arrived"]),
        finished_per_s=window.per_s(window["finished"]),
        preemptions_per_s=window.per_s(window["preemptions"]),
        evictions_per_s=window.per_s(window.evictions),
    )


def _groups(header: Header, tally: LiveTally) -> list[GroupRow]:
    rows = []
    for number, (spec, counts) in enumerate(zip(header.groups, tally.groups, strict=True)):
        used, page = int(counts.used), spec.page_size_bytes
        rows.append(
            GroupRow(
                group=number,
                kind=spec.kind,
                block_size=spec.block_size,
                window=spec.window,
                used_blocks=used,
                evictable_blocks=int(counts.evictable),
                held_slots=used * spec.block_size if spec.slots_hold_tokens else None,
                allocated_blocks=int(counts.allocated),
                hit_blocks=int(counts.touched),
                cached_blocks=int(counts.cached),
                evicted_blocks=int(counts.evicted),
                used_bytes=used * page if page else None,
            )
        )
    return rows


def _cells(
    snapshot: FragmentationSnapshot, most: int, blocks: tuple[int, int] | None
) -> Cells | None:
    return cells_of(snapshot, most, blocks) if most > 0 else None
