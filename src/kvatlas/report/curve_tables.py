"""What the report on capacity lists: the curve, tiers, the engine's points, advice; as texts.

Owns: columns, rows, digits and their words. Leaves to others: looks (`text_table`), every figure.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvatlas.report.capacity_axis import CapacityUnits, short_count
from kvatlas.report.curve_document import Advice, CurveDocument
from kvatlas.report.numbers import count, percent
from kvatlas.report.text_table import TextTable

__all__ = [
    "advice_table",
    "curve_table",
    "engine_table",
    "named_capacities",
    "points",
    "rate_or_dash",
    "signed_points",
    "tier_table",
    "units_of",
]

_DASH = "–"


def units_of(document: CurveDocument) -> CapacityUnits:
    """Return what a block of this document is."""
    return CapacityUnits(
        int(document.config["block_size"]), document.config.get("bytes_per_block") or None
    )


def points(share: float) -> str:
    """Return a difference of shares in percentage points: "9.1"."""
    return f"{100 * share:.1f}"


def signed_points(share: float) -> str:
    """Return a difference of shares in percentage points with its sign; what rounds to 0 has none.

    "+9.1", "-0.3", "0.0".
    """
    text = f"{100 * share:+.1f}"
    return "0.0" if float(text) == 0 else text


def rate_or_dash(hits: int, queried: int) -> str:
    """Return a hit rate, or a dash where nothing was looked up."""
    return percent(hits / queried) if queried else _DASH


def named_capacities(document: CurveDocument) -> dict[int, str]:
    """Return capacities that have a name: knee, the one that was asked about, tiers."""
    named: dict[int, list[str]] = {}
    if document.knee.capacity_blocks:
        named.setdefault(document.knee.capacity_blocks, []).append("knee")
    if document.focus is not None:
        named.setdefault(document.focus.capacity_blocks, []).append(document.focus_name)
    for mark in document.marks:
        named.setdefault(mark.capacity_blocks, []).append(mark.name)
    return {blocks: ", ".join(names) for blocks, names in sorted(named.items())}


def curve_table(document: CurveDocument, most: int | None = None) -> TextTable:
    """Return the curve row by row; at most `most` rows besides those that have a name."""
    table, units = document.table, units_of(document)
    named = named_capacities(document)
    capacities = table.capacity_blocks.tolist()
    rows: list[tuple[str, ...]] = []
    marked = set()
    ceiling = document.ceiling.hit_tokens
    queried = table.queried_tokens
    for at in _chosen(capacities, named, most):
        blocks, hits = capacities[at], int(table.hit_tokens[at])
        best = hits + int(table.policy_tokens[at])
        if blocks in named:
            marked.add(len(rows))
        rows.append(
            (
                named.get(blocks, ""),
                count(blocks),
                *_sizes(units, blocks),
                rate_or_dash(hits, queried),
                rate_or_dash(best, queried),
                points((best - hits) / queried) if queried else _DASH,
                rate_or_dash(hits, ceiling),
            )
        )
    shown = "" if len(rows) == len(capacities) else f"{len(rows)} of {len(capacities)} rows"
    return TextTable(
        title="Token hit rate by capacity",
        remark=shown,
        columns=("", "blocks", *_size_names(units), "LRU", "optimum", "gap", "of ceiling"),
        rows=tuple(rows),
        note="gap: percentage points between LRU and the optimum; of ceiling: LRU's hits over "
        f"those without a limit of capacity. {document.table_note}".strip(),
        marked=frozenset(marked),
    )


def _chosen(capacities: list[int], named: dict[int, str], most: int | None) -> list[int]:
    if most is None or len(capacities) <= most:
        return list(range(len(capacities)))
    last = len(capacities) - 1
    even = {round(last * i / (most - 1)) for i in range(most)}
    special = {at for at, blocks in enumerate(capacities) if blocks in named}
    # A row right beside one with a name says nothing new.
    even = {at for at in even if at in (0, last) or not {at - 1, at + 1} & special}
    return sorted(even | special)


def _sizes(units: CapacityUnits, blocks: int) -> tuple[str, ...]:
    if units.bytes_per_block is not None:
        return (units.memory(blocks),)
    return (short_count(blocks * units.block_size),)


def _size_names(units: CapacityUnits) -> tuple[str, ...]:
    return ("memory",) if units.bytes_per_block is not None else ("tokens",)


def tier_table(document: CurveDocument) -> TextTable:
    """Return what each memory tier buys together with those before it."""
    units = units_of(document)
    rows = tuple(
        (
            mark.name,
            units.memory(mark.capacity_blocks) or _DASH,
            count(mark.capacity_blocks),
            percent(mark.lru),
            percent(mark.optimum),
            f"{mark.prefill_speedup:.2f}x",
        )
        for mark in document.marks
    )
    share = document.config.get("prefill_share", 1.0)
    return TextTable(
        title="Memory tiers",
        remark="each with those before it; a hit anywhere counts",
        columns=("", "memory", "blocks", "LRU", "optimum", "prefill"),
        rows=rows,
        note=f"prefill: the ideal speed-up 1 / (1 - a h), h the LRU token hit rate, a = {share:g} "
        "the share of prefill's time that a hit saves; loading from a slower tier costs nothing "
        "in it",
    )


def engine_table(document: CurveDocument) -> TextTable:
    """Return the replays of the engine beside LRU alone."""
    table = document.table
    lru = dict(zip(table.capacity_blocks.tolist(), table.hit_tokens.tolist(), strict=True))
    rows = []
    for point in document.engine:
        alone = lru.get(point.capacity_blocks)
        apart = _DASH
        if alone is not None and table.queried_tokens and point.queried_tokens:
            apart = signed_points(point.token_hit_rate - alone / table.queried_tokens)
        rows.append(
            (
                count(point.num_blocks),
                rate_or_dash(point.hit_tokens, point.queried_tokens),
                apart,
                count(point.preemptions),
                count(point.never_served),
            )
        )
    return TextTable(
        title="The engine itself",
        remark="replayed: running requests pin blocks, answers take room",
        columns=("pool blocks", "token hit rate", "to LRU", "preemptions", "never served"),
        rows=tuple(rows),
        words=frozenset(),
        note="to LRU: percentage points between it and a prefix cache alone of the same capacity",
    )


def advice_table(document: CurveDocument, *, reasons: bool = False) -> TextTable:
    """Return the capacity for each wanted token hit rate, and how sure it is.

    With `reasons` each row says why it is not converged, else the note says it for all.
    """
    units = units_of(document)
    memory = units.bytes_per_block is not None
    rows = []
    for each in document.advice:
        cells = [percent(each.target), _known(each.capacity_blocks)]
        if memory:
            need = each.capacity_blocks
            cells.append(_DASH if need is None else units.memory(need))
        error = _DASH if each.held_out_error is None else f"{100 * each.held_out_error:+.1f}%"
        cells += [_interval(each), error, _converged(each, reasons)]
        rows.append(tuple(cells))
    names = ("target", "blocks needed", *(("memory",) if memory else ()), "95% interval")
    last = len(names) + 1
    why = [f"{targets}: {reason}" for reason, targets in _reasons(document.advice)]
    note = (
        "For LRU. Held out: how far the first half's answer lies from the second half's need; "
        "above 2% the trace is too short, or its traffic changes: trust the interval."
    )
    return TextTable(
        title="How much for a wanted token hit rate",
        columns=(*names, "held out", ""),
        rows=tuple(rows),
        words=frozenset({last}),
        note=f"{note} Not converged: {'; '.join(why)}." if why and not reasons else note,
    )


def _converged(each: Advice, reasons: bool) -> str:
    if each.converged:
        return "converged"
    return f"NOT CONVERGED: {each.reason}" if reasons else "NOT CONVERGED"


def _reasons(advice: Iterable[Advice]) -> Iterable[tuple[str, str]]:
    """Return each reason with the targets that it holds for."""
    targets: dict[str, list[str]] = {}
    for each in advice:
        if each.reason:
            targets.setdefault(each.reason, []).append(percent(each.target))
    return [(reason, _joined(names)) for reason, names in targets.items()]


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _known(blocks: int | None) -> str:
    return "no capacity" if blocks is None else count(blocks)


def _interval(each: Advice) -> str:
    if each.low_blocks is None:
        return _DASH
    high = "no limit" if each.high_blocks is None else short_count(each.high_blocks)
    return f"{short_count(each.low_blocks)} to {high}"
