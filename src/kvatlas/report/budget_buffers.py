"""The buffers against fragmentation and the replayed load behind them, as texts; a budget's notes.

Owns: which buffer is recommended in words, the load's table, the notes and their order. Leaves to
others: the other tables (`budget_tables`), every figure (`kvatlas.budget`).
"""

from __future__ import annotations

from collections.abc import Iterator

from kvatlas.budget import Buffers, RecordedLoad
from kvatlas.report.budget_document import BudgetDocument
from kvatlas.report.numbers import times
from kvatlas.report.text_table import TextTable
from kvatlas.units import counted, format_bytes

__all__ = ["budget_notes", "buffer_rows", "load_table"]


def buffer_rows(buffers: Buffers) -> Iterator[tuple[str, int, str, str]]:
    """Yield the buffers that there are: name, bytes, basis, how; ours is the recommended one."""
    own, published = buffers.own_bytes, buffers.published_bytes
    if published is not None:
        how = buffers.published_how if own is not None else f"recommended: {buffers.published_how}"
        yield "buffer, published", published, buffers.published_basis, how
    if own is not None:
        yield "buffer, measured", own, buffers.own_basis, f"recommended: {buffers.own_how}"


def load_table(load: RecordedLoad) -> TextTable:
    """Return what the replayed snapshot says."""
    rows = [
        ("reserved at most", load.peak_reserved_bytes, "from the driver, if memory is never short"),
        ("allocated at most", load.peak_allocated_bytes, "what the program holds"),
        ("stuck at most", load.peak_stuck_bytes, "free, in segments that live blocks pinned"),
    ]
    if load.idle_bytes:
        rows.append(("idle at the end", load.idle_bytes, "free in private pools: CUDA graphs"))
    if load.survival_bytes is not None:
        text = "the smallest memory in which the same requests are served"
        if load.survival_retries:
            text += f", releasing all that is cached {times(load.survival_retries)}"
        rows.append(("survives from", load.survival_bytes, text))
    same = "identical" if load.identical else "NOT identical"
    return TextTable(
        title="The recorded load",
        remark=f"{counted(load.events, 'event')} of device {load.device}, replayed: {same}",
        columns=("", "memory", "what it is"),
        rows=tuple((name, format_bytes(size), what) for name, size, what in rows),
        words=frozenset({0, 2}),
        note="under " + (load.settings or "default settings"),
    )


def budget_notes(document: BudgetDocument) -> Iterator[str]:
    """Yield what a reader must know, what is measured first."""
    if document.log is not None:
        yield from document.log.notes
    if document.load is not None:
        yield from _load_notes(document.load)
    yield from document.found.notes


def _load_notes(load: RecordedLoad) -> Iterator[str]:
    """Yield what a reader must know about a replayed snapshot."""
    if not load.identical:
        yield (
            "the replay of the snapshot differs from what was recorded: its figures may be off "
            "(kvatlas.device says where)"
        )
    if load.failures:
        yield (
            f"memory ran out {times(load.failures)} in the snapshot; the peaks are those with "
            "enough of it"
        )
    if load.survival_bytes is None:
        yield "interrupted before the survival capacity was known: stuck bytes are the buffer"
    if load.unverified:
        yield f"the snapshot's figures rest on: {'; '.join(load.unverified)}"
