"""The verdicts on small policies as a terminal's tables and as JSON.

Owns: columns, words and keys (docs/guide/pressure.md). Leaves to others: trials and verdicts
(`kvatlas.plan.small_policies`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.text import Text

from kvatlas.report.console import two_columns
from kvatlas.report.numbers import blocks, count, requests, seconds
from kvatlas.report.replay_json import json_bytes
from kvatlas.report.text_table import TextTable, terminal_table

__all__ = ["VERDICTS_SCHEMA", "print_verdicts", "verdict_table", "verdicts_json"]

VERDICTS_SCHEMA = 1
"""Raised when a key goes or changes its meaning."""

_DASH, _OFF = "–", "off"
_FIGURES = (
    "token_hit_rate",
    "preemptions",
    "recomputed_tokens",
    "queue_mean_s",
    "finish_mean_s",
    "finished_after_s",
    "never_served",
    "acted",
)


class Trial(Protocol):
    """One replay, with a policy or without."""

    @property
    def name(self) -> str: ...
    @property
    def token_hit_rate(self) -> float | None: ...
    @property
    def preemptions(self) -> int: ...
    @property
    def queue_mean_s(self) -> float | None: ...
    @property
    def finish_mean_s(self) -> float | None: ...
    @property
    def finished_after_s(self) -> float: ...
    @property
    def never_served(self) -> int: ...
    @property
    def detail(self) -> str: ...
    @property
    def against(self) -> str: ...
    @property
    def verdict(self) -> str: ...
    @property
    def gains(self) -> tuple[str, ...]: ...
    @property
    def losses(self) -> tuple[str, ...]: ...


class Verdicts(Protocol):
    """All trials of one trace."""

    @property
    def trace(self) -> str: ...
    @property
    def requests(self) -> int: ...
    @property
    def num_blocks(self) -> int: ...
    @property
    def peak_blocks(self) -> int | None: ...
    @property
    def off(self) -> Trial: ...
    @property
    def trials(self) -> Sequence[Trial]: ...


def verdict_table(verdicts: Verdicts) -> TextTable:
    """Return one trace's policies, one a row, beside the replay without any."""
    remark = f"{requests(verdicts.requests)}, {blocks(verdicts.num_blocks)}"
    if verdicts.peak_blocks is not None:
        remark += f"; with plenty of memory {count(verdicts.peak_blocks)} are held at most"
    return TextTable(
        title=verdicts.trace,
        remark=remark,
        columns=("", "hit rate", "preempted", "queue", "finish", "end", "verdict"),
        rows=tuple(_row(trial) for trial in (verdicts.off, *verdicts.trials)),
        words=frozenset({0, 6}),
        marked=frozenset({0}),
    )


def _row(trial: Trial) -> tuple[str, ...]:
    rate = trial.token_hit_rate
    return (
        trial.name,
        _DASH if rate is None else f"{rate:.2%}",
        count(trial.preemptions),
        _DASH if trial.queue_mean_s is None else seconds(trial.queue_mean_s),
        _DASH if trial.finish_mean_s is None else seconds(trial.finish_mean_s),
        seconds(trial.finished_after_s),
        trial.verdict,
    )


def _moved(verdicts: Verdicts) -> Iterator[RenderableType]:
    """Yield what each policy chose and moved, where there is anything to say."""
    said = [(trial.name, Text(text)) for trial in verdicts.trials if (text := _words(trial))]
    if said:
        yield two_columns(said)


def _words(trial: Trial) -> str:
    moved = ", ".join((*trial.gains, *trial.losses))
    if trial.against != _OFF and moved:
        moved = f"beside {trial.against}: {moved}"
    return "; ".join(part for part in (trial.detail, moved) if part)


def print_verdicts(console: Console, done: Sequence[Verdicts], partial: str = "") -> None:
    """Print a table for each trace, and how the verdicts come about."""
    parts: list[RenderableType] = []
    if partial:
        parts += [Text(partial, style="bold"), Text("")]
    for verdicts in done:
        parts += [*terminal_table(verdict_table(verdicts)), *_moved(verdicts), Text("")]
    parts.append(
        Text(
            "queue, finish: mean time from arrival to first scheduled, and to the last token; end: "
            "when all were done. A figure counts when it moved by 0.1 points of hit rate, 5% of "
            "the preemptions or of the tokens they cost, 1% of a time. Gain: some are better and "
            "none worse; mixed: both. prefetch and hybrid are held against host-tier.",
            style="dim",
        )
    )
    console.print(Group(*parts))


def verdicts_json(
    version: str, config: Mapping[str, Any], done: Sequence[Verdicts], partial: str = ""
) -> bytes:
    """Return the documented JSON form; what is not known is null, never 0."""
    return json_bytes(
        {
            "schema": VERDICTS_SCHEMA,
            "kvatlas": version,
            "partial": bool(partial),
            "partial_reason": partial or None,
            "config": dict(config),
            "traces": [
                {
                    "trace": verdicts.trace,
                    "requests": verdicts.requests,
                    "num_blocks": verdicts.num_blocks,
                    "peak_blocks": verdicts.peak_blocks,
                    "off": _figures(verdicts.off),
                    "policies": {
                        trial.name: {
                            **_figures(trial),
                            "detail": trial.detail or None,
                            "against": trial.against,
                            "verdict": trial.verdict,
                            "gains": list(trial.gains),
                            "losses": list(trial.losses),
                        }
                        for trial in verdicts.trials
                    },
                }
                for verdicts in done
            ],
        }
    )


def _figures(trial: Trial) -> dict[str, Any]:
    return {name: getattr(trial, name) for name in _FIGURES}
