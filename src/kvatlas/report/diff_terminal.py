"""The comparison of two runs in a terminal, laid out for 80 columns.

Owns: its look. Leaves to others: what changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from kvatlas.measure.diff import FigureChange
from kvatlas.measure.request_changes import QuantityChange, SizeClass
from kvatlas.report.console import heading, two_columns
from kvatlas.report.diff_document import DiffDocument, Side
from kvatlas.report.figure_text import figure_text
from kvatlas.report.numbers import count, percent
from kvatlas.report.plain_text import plain

__all__ = ["print_diff"]

_VERDICTS = {True: ("better", "green"), False: ("worse", "red"), None: ("", "")}
_LABELS = {
    "queue_time_s": "Queue time",
    "hit_tokens": "Cached tokens",
    "preemptions": "Preempted",
    "lost_tokens": "Tokens lost",
    "end_s": "End",
}
_NAMED = 2
_SMALL = 0.005
"""Relative changes below this one are counted, not listed."""
_MAIN = (
    "prefix.token_hit_rate", "prefix.ceiling_token_hit_rate", "prefix.evicted_blocks",
    "prefix.evicted_premature_blocks", "attribution.cold", "attribution.capacity",
    "attribution.granularity", "attribution.configuration", "usage.time_weighted", "usage.peak",
    "waste.internal_time_weighted", "waste.temporal", "running.time_weighted",
    "queue.length_time_weighted", "queue.head_refused_share", "queue.head_of_line_s",
    "queue.time_mean_s", "queue.time_p99_s", "latency.ttft_mean_s", "latency.ttft_p99_s",
    "latency.tpot_mean_s", "latency.e2e_mean_s", "latency.e2e_p99_s", "preemption.count",
    "preemption.wasted_tokens", "allocation.failed_admission", "allocation.failed_prefill",
    "allocation.failed_decode", "fragmentation.efi", "fragmentation.runs_per_request_mean",
    "life.lifetime_p50_s", "life.reuse_gap_p50_s", "working_set.w60s_mean_blocks",
    "clock.simulated_s",
)  # fmt: skip
"""The figures that are listed without being asked for."""
_VALUE_CHARACTERS = 24


def print_diff(console: Console, document: DiffDocument, *, all_figures: bool = False) -> None:
    """Print settings, figures (the main ones, or all), and for whom they changed."""
    parts: list[RenderableType] = [Text(), *_title(document), Text()]
    parts += [*_settings(document), Text(), *_figures(document, all_figures), Text()]
    if not document.not_comparable:
        parts += [*_requests(document), Text()]
    if document.notes:
        notes = ((("Note"), Text(plain(note, 2000))) for note in document.notes)
        parts += [two_columns(notes), Text()]
    console.print(Group(*parts))


def _title(document: DiffDocument) -> Iterator[Text]:
    for mark, side in (("A", document.before), ("B", document.after)):
        yield Text(f"{mark}  ", style="bold").append(plain(side.title, 200))
        yield Text(f"   {plain(side.path, 200)}", style="dim")
        if side.partial:
            yield Text(f"   PARTIAL: {plain(side.partial, 400)}", style="bold red")
    if document.not_comparable:
        yield Text(
            f"{plain(document.not_comparable, 400)}; settings and figures are compared, requests "
            "are not",
            style="bold yellow",
        )


def _settings(document: DiffDocument) -> Iterator[RenderableType]:
    if not document.settings:
        yield heading("Settings", "all the same")
        return
    yield heading("Settings", "those that differ")
    grid = _grid("", "A", "B")
    for name, (before, after) in document.settings.items():
        grid.add_row(plain(name), *(Text(_value(each)) for each in (before, after)))
    yield Padding(grid, (0, 0, 0, 2), expand=False)


def _figures(document: DiffDocument, all_figures: bool) -> Iterator[RenderableType]:
    same = f"{count(document.figures_same)} others did not move"
    if not document.figures:
        yield heading("Figures", f"none moved; {same}")
        return
    yield heading("Figures", f"those that moved; {same}")
    grid = _grid("", "A", "B", "change", "")
    listed = [
        each
        for each in document.figures
        if all_figures
        or (each.name in _MAIN and (each.relative is None or abs(each.relative) >= _SMALL))
    ]
    for each in listed:
        verdict, style = _VERDICTS[each.better]
        grid.add_row(
            plain(each.name),
            _figure(each.name, each.before),
            _figure(each.name, each.after),
            Text(_change(each)),
            Text(verdict, style=style),
        )
    yield Padding(grid, (0, 0, 0, 2), expand=False)
    left = len(document.figures) - len(listed)
    if left:
        text = f"{count(left)} more moved, by little or with these (--all lists them)"
        yield Padding(Text(text, style="dim"), (0, 0, 0, 2), expand=False)


def _change(each: FigureChange) -> str:
    if each.relative is not None:
        share = each.relative
        sign = "+" if share > 0 else "-"
        # Ten times as much and more is read better as a factor.
        if each.before and each.after and share >= 9:
            return f"x{count(round(each.after / each.before, 1))}"
        return f"{sign}{percent(abs(share))}"
    return "" if each.change is None else figure_text(each.name, each.change, signed=True)


def _figure(name: str, value: float | None) -> Text:
    return Text("not known", style="dim") if value is None else Text(figure_text(name, value))


def _requests(document: DiffDocument) -> Iterator[RenderableType]:
    moved = [each for each in document.requests if each.better or each.worse]
    yield heading("For whom", "each request held against itself")
    if not moved:
        same = Text("nothing changed for any request")
        yield Padding(same, (0, 0, 0, 2), expand=False)
    else:
        grid = _grid("", "better", "worse", "same", "mean A", "mean B", "change")
        for each in moved:
            name = each.quantity.name
            grid.add_row(
                _LABELS[name],
                Text(count(each.better), style="green" if each.better else ""),
                Text(count(each.worse), style="red" if each.worse else ""),
                count(each.compared - each.better - each.worse),
                _figure(name, each.before),
                _figure(name, each.after),
                _difference(name, each.before, each.after),
            )
        yield Padding(grid, (0, 0, 0, 2), expand=False)
        yield from _by_size(document.sizes, moved)
        yield from _extremes(moved, document.after)
    yield from _one_sided(document.requests)


def _difference(name: str, before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return ""
    return figure_text(name, after - before, signed=True)


def _pair(name: str, pair: tuple[float, float] | None) -> str:
    if pair is None:
        return "–"
    return _difference(name, *pair)


def _by_size(sizes: tuple[SizeClass, ...], moved: list[QuantityChange]) -> Iterator[RenderableType]:
    if len(sizes) < 2:
        return
    yield Text()
    yield heading("By length of the prompt", "how the mean changed")
    grid = _grid("tokens", "requests", *(_LABELS[each.quantity.name] for each in moved))
    for size in sizes:
        names = [each.quantity.name for each in moved]
        cells = [_pair(name, size.means.get(name)) for name in names]
        grid.add_row(f"{count(size.least)} to {count(size.most)}", count(size.requests), *cells)
    yield Padding(grid, (0, 0, 0, 2), expand=False)


def _extremes(moved: list[QuantityChange], side: Side) -> Iterator[RenderableType]:
    grid = _grid("", "request", "A", "B", "change")
    for each in moved:
        name = each.quantity.name
        for word, rows in (("gained most", each.winners), ("lost most", each.losers)):
            for at, (request, before, after) in enumerate(rows[:_NAMED]):
                label = f"{_LABELS[name]}, {word}" if at == 0 else ""
                own = side.names.get(request)
                said = str(request) if own is None else f"{request} {plain(own, 20)}"
                values = (figure_text(name, value) for value in (before, after))
                grid.add_row(label, Text(said), *values, _difference(name, before, after))
    yield Text()
    yield heading("Who most")
    yield Padding(grid, (0, 0, 0, 2), expand=False)


def _one_sided(changes: tuple[QuantityChange, ...]) -> Iterator[RenderableType]:
    for each in changes:
        if each.quantity.name == "end_s" and (each.only_before or each.only_after):
            text = (
                f"served in A only: {count(each.only_before)}; in B only: {count(each.only_after)}"
            )
            yield Padding(Text(text, style="bold"), (0, 0, 0, 2), expand=False)


def _grid(*titles: str) -> Grid:
    grid = Grid(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for at, title in enumerate(titles):
        grid.add_column(title, justify="right" if at else "left", no_wrap=not at, overflow="fold")
    return grid


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return plain(f"{value:g}" if isinstance(value, float) else value, _VALUE_CHARACTERS)
