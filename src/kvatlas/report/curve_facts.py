"""What the report on capacity says in words: the same in a terminal and on a page.

Owns: the sentences and their order. Leaves to others: the figures, looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kvatlas.report.capacity_axis import short_count
from kvatlas.report.curve_document import Bounds, CurveDocument
from kvatlas.report.numbers import count, percent, seconds
from kvatlas.report.replay_facts import Fact

__all__ = [
    "bounds_rows",
    "curve_facts",
    "misses_at",
    "partial_line",
    "rule_words",
    "subtitle",
    "timing_fact",
]

_MISSES = (
    ("hit", "served from the cache under LRU"),
    ("policy", "the optimum would have hit them"),
    ("capacity", "no policy could keep them here"),
    ("granularity", "lost to whole blocks, last token"),
    ("cold", "never seen before"),
)
"""Where a prompt token goes; the shares add up to 1."""


def subtitle(workload: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return what was measured, in one line."""
    parts = [
        f"{count(workload['requests'])} request{'' if workload['requests'] == 1 else 's'}",
        f"{short_count(int(workload['prompt_tokens']))} prompt tokens",
        f"blocks of {config['block_size']} tokens",
    ]
    if config.get("bytes_per_block"):
        parts.append(f"{config['model']}: {count(config['bytes_per_block'])} bytes per block")
    return " · ".join(parts)


def partial_line(partial: str) -> str:
    """Return what to say first about a part; empty for a whole."""
    return f"PARTIAL: {partial}" if partial else ""


def bounds_rows(bounds: Bounds) -> list[tuple[str, str, float, str]]:
    """Return key, name, token hit rate and meaning of the bounds, the highest first."""
    rows = [
        ("content", "Content", bounds.content, "seen before"),
        ("ceiling", "Ceiling", bounds.ceiling, "no limit of capacity, whole blocks"),
        ("optimum", "Optimum", bounds.optimum, "the best of any policy"),
        ("lru", "LRU", bounds.lru, "a prefix cache alone"),
    ]
    if bounds.engine is not None:
        rows.append(("engine", "Engine", bounds.engine, "as configured, replayed"))
    return rows


def misses_at(bounds: Bounds) -> list[tuple[str, str, float]]:
    """Return name, meaning and share of where the prompt tokens go at one capacity."""
    shares = (
        bounds.lru,
        bounds.optimum - bounds.lru,
        bounds.ceiling - bounds.optimum,
        bounds.content - bounds.ceiling,
        1 - bounds.content,
    )
    return [
        (name, meaning, max(0.0, share))
        for (name, meaning), share in zip(_MISSES, shares, strict=True)
    ]


def curve_facts(document: CurveDocument) -> Iterator[Fact]:
    """Yield what else there is to know: ceilings, what counts as a hit, time spent."""
    ceiling, warm = document.ceiling, document.warm_ceiling
    rate, blocks = ceiling.token_hit_rate, ceiling.block_hit_rate
    if rate is None:
        yield Fact("Ceiling", "not known: no prompt token was looked up", "unknown")
    else:
        text = f"{percent(rate)} of the prompt tokens"
        if blocks is not None:
            text += f", {percent(blocks)} of the blocks looked up"
        if warm.first_row and warm.token_hit_rate is not None:
            text += (
                f"; {percent(warm.token_hit_rate)} of the tokens after a warm-up of "
                f"{count(warm.first_row)} requests"
            )
        yield Fact("Ceiling", text)
    yield Fact(
        "Content",
        f"{count(document.distinct_blocks)} different blocks: what a cache that never evicts "
        "would hold",
    )
    yield Fact("Counted", rule_words(document.config))
    yield Fact("Exact", "every hit is counted at every capacity; nothing is sampled")
    yield timing_fact(document.timing)


def rule_words(config: Mapping[str, Any]) -> str:
    """Return what the model counts as a hit, in words."""
    said = "requests one after another; leading blocks of a prompt that are in the cache"
    if config.get("count_partial"):
        return said + ", its partial last block too"
    if config.get("with_outputs"):
        return said + ", whole ones; answers take room and can be hit"
    return said + ", whole ones; answers are not cached"


def timing_fact(timing: Mapping[str, float]) -> Fact:
    """Return our own time in words."""
    stages = [
        f"{name.removesuffix('_s').replace('_', ' ')} {seconds(spent)}"
        for name, spent in timing.items()
        if name not in ("total_s", "startup_s") and name.endswith("_s") and spent >= 5e-4
    ]
    total = timing.get("total_s")
    said = ", ".join(stages)
    return Fact("Our time", said if total is None else f"{said}; {seconds(total)} in all")
