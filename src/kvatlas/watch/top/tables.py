"""Requests in rows, and everything that has no place in the overview.

Owns: columns and words. Leaves to others: which requests they are (`kvatlas.watch.roster`).
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from kvatlas.report.map_legend import letter_style
from kvatlas.report.numbers import count, percent, seconds
from kvatlas.report.plain_text import plain
from kvatlas.watch.moment import FreeRuns, Moment, RequestRow
from kvatlas.watch.top.areas import LABEL, Look
from kvatlas.watch.top.map_part import letters_of

__all__ = ["detail_lines", "request_lines"]

_COLUMNS = (
    ("blocks", 7),
    ("runs", 6),
    ("prompt", 8),
    ("computed", 9),
    ("hit", 8),
    ("lost", 5),
    ("since", 12),
)
_STATE = 10
_MIB = 1 << 20


def request_lines(moment: Moment, look: Look, width: int, rows: int) -> list[Text]:
    """Return a heading and at most `rows` requests: most blocks first, then longest waiting."""
    name_columns = max(6, width - 2 - _STATE - sum(size for _, size in _COLUMNS) - 1)
    title = "Top requests" if name_columns > 12 else "Requests"
    heading = Text(f"  {title:<{name_columns}}", style="bold")
    heading.append(f"{'state':<{_STATE}}", style="not bold dim")
    for title, size in _COLUMNS:
        heading.append(f"{title:>{size}}", style="not bold dim")
    letters = letters_of(moment)
    lines = [heading]
    for request in moment.top[:rows]:
        letter = letters.get(request.row, " ")
        line = Text(f"{letter} ", style=letter_style(letter) if letter != " " else "")
        line.append_text(_named(request, name_columns))
        line.append(f"{request.state:<{_STATE}}", style=_style(request))
        for text, (_, size) in zip(_cells(request), _COLUMNS, strict=True):
            line.append(f"{text:>{size}}", style="default")
        lines.append(line)
    if len(lines) == 1:
        lines.append(Text("  nobody holds blocks or waits", style="dim"))
    return lines


def _named(request: RequestRow, columns: int) -> Text:
    """Return a request's own id; of a long one both ends, for servers put what differs last."""
    name = plain(request.name or f"request {request.row}", 400)
    most = columns - 1
    if len(name) > most:
        head = most // 3
        name = f"{name[:head]}…{name[len(name) - (most - head - 1) :]}"
    text = Text(name)
    text.truncate(most, overflow="ellipsis", pad=True)
    return text.append(" ")


def _style(request: RequestRow) -> str:
    return {"running": "green", "waiting": "default", "preempted": "red"}[request.state]


def _cells(request: RequestRow) -> tuple[str, ...]:
    numbers = (
        request.blocks,
        request.runs,
        request.tokens,
        request.computed_tokens,
        request.hit_tokens,
        request.preemptions,
    )
    return (*(count(number) for number in numbers), seconds(round(request.since_s, 1)))


def detail_lines(moment: Moment, look: Look, width: int) -> list[Text]:
    """Return groups, causes, free runs, the recorder's health, memory, and all alerts."""
    lines = [Text("Details", style="bold")]
    for label, text in _facts(moment):
        lines.append(Text(f"  {label:<{LABEL}}{text}"))
    return lines


def _facts(moment: Moment) -> Iterator[tuple[str, str]]:
    for alert in moment.alerts:
        yield alert.level, f"{alert.name}: {plain(alert.text, 400)}"
    for group in moment.groups:
        window = f", window {count(group.window)}" if group.window is not None else ""
        yield (
            f"Group {group.group}",
            f"{plain(group.kind, 24)}, {count(group.block_size)} tokens{window}: "
            f"{count(group.used_blocks)} used, {count(group.evictable_blocks)} evictable; "
            f"{count(group.allocated_blocks)} allocated, {count(group.evicted_blocks)} evicted",
        )
    evictions, failures, requests = moment.evictions, moment.failures, moment.requests
    yield (
        "Evicted",
        f"{count(evictions.prefill)} for prefill, {count(evictions.decode)} for decode, "
        f"{count(evictions.explicit)} explicit, {count(evictions.replaced)} replaced; "
        f"{count(evictions.resets)} resets forgot {count(evictions.forgotten)}",
    )
    yield (
        "Refused",
        f"{count(failures.admission)} at admission, {count(failures.prefill)} at prefill, "
        f"{count(failures.decode)} at decode; {count(requests.resumed)} admitted again",
    )
    yield "Free runs", _runs(moment.free_runs, "empty or evictable")
    yield "", _runs(moment.empty_runs, "empty only")
    waste = moment.waste
    means = ", ".join(
        f"{'?' if share is None else percent(share)} {what}"
        for share, what in (
            (waste.internal, "now"),
            (waste.internal_60s, "over 60 s"),
            (waste.internal_time_weighted, "over the run"),
        )
    )
    yield "Waste", f"of the held slots: {means}"
    yield "Recorder", _recorder(moment)
    for text in (moment.health.partial, moment.health.fault, moment.health.last_error):
        if text:
            yield "", plain(text, 400)
    yield from _memory(moment)


def _runs(runs: FreeRuns, what: str) -> str:
    if runs.efi is None:
        return f"none ({what})"
    return (
        f"{count(runs.count)}, median {count(runs.p50)}, largest {count(runs.largest)} of "
        f"{count(runs.blocks)} blocks; EFI {percent(runs.efi)} ({what})"
    )


def _recorder(moment: Moment) -> str:
    health = moment.health
    size = f"{health.bytes_on_disk / _MIB:,.1f} MiB"
    if health.bytes_bound:
        size += f" of {health.bytes_bound / _MIB:,.0f}"
    text = f"{count(moment.events)} events, {size}; {count(health.lost_events)} lost, "
    text += f"{count(health.lost_segments)} segments dropped, {count(health.errors)} errors"
    if health.age_s is not None:
        text += f"; last event {seconds(round(health.age_s, 1))} ago"
    return text


def _memory(moment: Moment) -> Iterator[tuple[str, str]]:
    if not moment.memory:
        return
    newest = moment.memory[-1]
    rss = newest.get("rss_bytes")
    said = "?" if rss is None else f"{rss / _MIB:,.0f} MiB resident"
    pauses = newest.get("gc") or {}
    if pauses:
        said += f"; {count(pauses.get('pauses', 0))} collections"
        said += f", longest pause {pauses.get('pause_ms_max', 0):.1f} ms"
    yield "Process", said
    for device in newest.get("torch") or ():
        yield "Torch", plain(_device(device), 200)
    for device in newest.get("nvml") or ():
        yield "NVML", plain(_device(device), 200)
    for name in ("process", "torch", "nvml"):
        reason = newest.get(f"{name}_reason")
        if reason:
            yield name.capitalize() if name != "nvml" else "NVML", plain(reason, 200)


def _device(device: dict[str, object]) -> str:
    parts = []
    for name, value in device.items():
        if name.endswith("_bytes") and isinstance(value, int):
            parts.append(f"{name.removesuffix('_bytes').replace('_', ' ')} {value / _MIB:,.0f} MiB")
    return ", ".join(parts)
