"""Alerts: what a person on duty should look at, and since when.

Owns: which conditions there are, their thresholds and sentences. Leaves to others: the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kvatlas.watch.history import Window
from kvatlas.watch.moment import Alert, Health

__all__ = ["AlertBook", "Evidence"]

WINDOW_S = 60.0
"""What rates and shares of an alert are taken over."""

_STORM_PREEMPTIONS = 5
_STORM_SHARE = 0.1
_FULL_USAGE = 0.98
_FULL_S = 5.0
_STARVED_SHARE = 0.5
_WASTE = 0.25
_WASTE_USAGE = 0.1
_FELL_BY = 0.15
_FELL_TO = 0.6
_FELL_QUERIES = 10_000
_STALL_S = 10.0
_LAG_EVENTS = 200_000

_LEVELS = {"bad": 0, "warn": 1, "info": 2}


class Evidence(NamedTuple):
    """What alerts are judged by.

    Attributes:
        now_s: the engine's clock.
        minute: the last minute; `recent`: the last `_FULL_S`; `before`: all before the minute.
        usage, used_blocks, running, waiting: now.
        total_blocks: of the pool.
        health: the feed's.
    """

    now_s: float
    minute: Window
    recent: Window
    before: Window
    usage: float
    total_blocks: int
    running: int
    waiting: int
    health: Health


class AlertBook:
    """Remembers since when each alert holds."""

    def __init__(self) -> None:
        self._since_s: dict[str, float] = {}

    def judge(self, seen: Evidence) -> list[Alert]:
        """Return the alerts that hold now, worst first."""
        found = list(_found(seen))
        names = {name for _, name, _ in found}
        self._since_s = {name: since_s for name, since_s in self._since_s.items() if name in names}
        for name in names:
            self._since_s.setdefault(name, seen.now_s)
        alerts = [
            Alert(level, name, text, self._since_s[name])  # type: ignore[arg-type]
            for level, name, text in found
        ]
        return sorted(alerts, key=lambda alert: (_LEVELS[alert.level], alert.since_s, alert.name))


def _found(seen: Evidence) -> Iterator[tuple[str, str, str]]:
    yield from _recorder(seen.health)
    yield from _pressure(seen)
    yield from _use(seen)


def _recorder(health: Health) -> Iterator[tuple[str, str, str]]:
    if health.fault:
        yield "bad", "unreadable", health.fault
    if health.lost_events or health.lost_segments:
        text = f"{health.lost_events:,} events lost for good"
        if health.lost_segments:
            text += f", {health.lost_segments:,} old segments dropped to stay within the bound"
        yield ("warn" if health.lost_events else "info"), "recording incomplete", text
    if health.errors:
        text = f"{health.errors:,} errors inside the recorder, vLLM goes on"
        yield (
            "bad",
            "recorder errors",
            text + (f": {health.last_error}" if health.last_error else ""),
        )
    if health.state == "cut off":
        yield "bad", "cut off", "the engine is gone, or the recording ends in the middle"
    if health.lag_events > _LAG_EVENTS:
        yield "info", "behind", f"{health.lag_events:,} recorded events are not shown yet"


def _pressure(seen: Evidence) -> Iterator[tuple[str, str, str]]:
    minute, recent = seen.minute, seen.recent
    preemptions = minute["preemptions"]
    admissions = minute.total("admitted", "resumed")
    if preemptions >= max(_STORM_PREEMPTIONS, _STORM_SHARE * admissions):
        share = f", {100 * preemptions / admissions:.0f} per 100 admissions" if admissions else ""
        text = f"{preemptions:,.0f} preemptions in {minute.span_s:.0f} s{share}"
        yield "bad", "preemption storm", text
    block_ms = 1e3 * recent.span_s * seen.total_blocks
    usage = recent["used_ms"] / block_ms if block_ms > 0 else 0.0
    lasting = recent.span_s >= _FULL_S / 2
    full = min(usage, seen.usage) >= _FULL_USAGE
    steps = recent["steps"]
    refused = min(1.0, recent["failed_admission"] / steps) if steps > 0 else 0.0
    starved = seen.waiting > 0 and refused >= _STARVED_SHARE
    if lasting and (full or starved):
        text = f"{100 * seen.usage:.1f}% of the blocks are owned, {seen.waiting:,} requests wait"
        if refused:
            text += f"; refused for lack of blocks in {100 * refused:.0f}% of the steps"
        yield ("bad" if starved else "warn"), "pool full", text
    idle = seen.health.age_s
    if (
        idle is not None
        and idle > _STALL_S
        and seen.running + seen.waiting > 0
        and seen.health.state in ("live", "quiet")
    ):
        text = f"{seen.running:,} running, {seen.waiting:,} waiting, no event for {idle:.0f} s"
        yield "bad", "stalled", text


def _use(seen: Evidence) -> Iterator[tuple[str, str, str]]:
    minute, before = seen.minute, seen.before
    waste = minute.ratio("wasted_ms", "held_ms")
    if waste is not None and waste > _WASTE and seen.usage > _WASTE_USAGE:
        yield "warn", "waste high", f"{100 * waste:.0f}% of the held slots hold no token"
    rate, usual = minute.ratio("hits", "queries"), before.ratio("hits", "queries")
    if rate is None or usual is None:
        return
    if min(minute["queries"], before["queries"]) < _FELL_QUERIES:
        return
    if rate < usual - _FELL_BY and rate < _FELL_TO * usual:
        text = f"{100 * rate:.0f}% in the last minute, {100 * usual:.0f}% before"
        yield "warn", "hit rate fell", text
