"""A workload's description in a terminal.

Owns: its look. Leaves to others: the figures (`kvatlas.workload.describe`).
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kvatlas.report.console import bar, bar_columns, heading, two_columns
from kvatlas.report.numbers import count, seconds
from kvatlas.workload.describe import Description, Distribution
from kvatlas.workload.sharing import Sharing

__all__ = ["print_description"]


def print_description(console: Console, description: Description) -> None:
    """Print lengths, sharing, sessions and arrivals."""
    blank = Text()
    span = seconds(description.span_s)
    parts: list[RenderableType] = [
        blank,
        Text(description.name, style="bold"),
        Text(f"{count(description.requests)} requests over {span}", style="dim"),
        blank,
        heading("Lengths", "tokens"),
        _lengths(description),
        blank,
    ]
    for title, remark, rows in (
        (
            "Sharing",
            "as an unbounded cache would see it",
            _sharing(description.sharing, bar_columns(console)),
        ),
        ("Sessions", "", _sessions(description)),
        ("Arrivals", "a Poisson process has 1 for each of the ratios", _arrivals(description)),
    ):
        parts += [heading(title, remark), two_columns(rows), blank]
    if description.notes:
        notes = [("Note", Text(note)) for note in description.notes]
        parts += [two_columns(notes), blank]
    console.print(Group(*parts))


def _lengths(description: Description) -> Padding:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    for name in ("mean", "median", "90%", "99%", "longest", "in all"):
        table.add_column(name, justify="right")
    for label, lengths in (
        ("Prompts", description.prompt_tokens),
        ("Answers", description.output_tokens),
    ):
        table.add_row(label, *_six(lengths))
    return Padding(table, (0, 0, 0, 2))


def _six(lengths: Distribution) -> tuple[str, ...]:
    values = (lengths.mean, lengths.p50, lengths.p90, lengths.p99, lengths.max, lengths.total)
    return tuple(count(round(value)) for value in values)


def _sharing(sharing: Sharing | None, columns: int) -> Iterator[tuple[str, Text]]:
    if sharing is None:
        yield "Not known", Text("the trace has lengths only", style="dim")
        return
    rate_text = Text(f"{100 * sharing.ceiling_token_hit_rate:6.2f}%  ", style="bold")
    yield "Ceiling", rate_text + bar(sharing.ceiling_token_hit_rate, columns, "blue")
    yield (
        "",
        Text(
            f"of {count(sharing.queried_tokens)} prompt tokens were seen before, in full blocks of"
            f" {sharing.block_size}",
            style="dim",
        ),
    )
    yield "Requests", Text(f"{count(sharing.requests_with_reuse)} reuse at least one block")
    yield (
        "Distinct",
        Text(
            f"{count(sharing.distinct_ids)} identities of {sharing.tokens_per_id} tokens, "
            f"{count(sharing.unique_tokens)} tokens in all"
        ),
    )
    for number, prefix in enumerate(sharing.top_prefixes):
        text = f"{count(prefix.tokens)} tokens begin {count(prefix.requests)} prompts"
        yield "" if number else "Most shared", Text(text)
    if sharing.reuse is not None:
        yield (
            "Used again after",
            Text(
                f"{seconds(sharing.reuse.p50_s)} median, {seconds(sharing.reuse.p90_s)} at 90%, "
                f"{seconds(sharing.reuse.p99_s)} at 99% (cut off by the trace's end)"
            ),
        )


def _sessions(description: Description) -> Iterator[tuple[str, Text]]:
    sessions = description.sessions
    if sessions is None:
        yield "Not known", Text("no request names its session", style="dim")
        return
    yield (
        "Sessions",
        Text(f"{count(sessions.count)} with {count(sessions.requests)} requests"),
    )
    turns = sessions.turns
    yield (
        "Turns",
        Text(
            f"{count(round(turns.mean, 1))} mean, {count(turns.p50)} median, "
            f"{count(turns.max)} most"
        ),
    )
    if sessions.gap_s is not None:
        gap = sessions.gap_s
        text = f"{seconds(gap.p50)} median, {seconds(gap.p90)} at 90%"
        yield "Turn to turn", Text(text)


def _arrivals(description: Description) -> Iterator[tuple[str, Text]]:
    arrivals = description.arrivals
    if arrivals.requests_per_s is None:
        yield "Not known", Text("all requests come at one moment", style="dim")
        return
    yield "Rate", Text(f"{arrivals.requests_per_s:.3g} requests/s")
    if arrivals.gap_cv is not None:
        yield "Gaps", Text(f"{arrivals.gap_cv:.2f} coefficient of variation")
    known = [
        f"{ratio:.2f} in windows of {window_s} s"
        for window_s, ratio in arrivals.dispersion.items()
        if ratio is not None
    ]
    if known:
        yield "Dispersion", Text(", ".join(known))
    if arrivals.peak_to_mean_per_minute is not None:
        times = f"{arrivals.peak_to_mean_per_minute:.3g} times the mean minute"
        yield "Busiest minute", Text(times)
