"""What an explanation of an out-of-memory error lists, as texts.

Owns: columns, rows and their words. Leaves to others: looks (`text_table`), every figure.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvatlas.oom import Failure, OomVerdict, Remedy, Scene
from kvatlas.oom.phases import PHASE_WORDS
from kvatlas.report.device_tables import stack_holders_table, stack_pinners_table
from kvatlas.report.device_words import settings_name
from kvatlas.report.numbers import count, signed_bytes, times
from kvatlas.report.oom_document import OomDocument
from kvatlas.report.text_table import TextTable
from kvatlas.units import counted, format_bytes

__all__ = [
    "failures_table",
    "holders_table",
    "ladder_table",
    "oom_facts",
    "pinning_table",
    "pools_table",
    "remedy_words",
    "segments_table",
    "settings_table",
    "under",
]

_DASH = "–"
_UNKNOWN = "stack not known"
_ROWS = 8
_ODD = "; what passes in less and not in this is no mistake: more memory is not always better"


def ladder_table(verdict: OomVerdict) -> TextTable:
    """Return what would have been enough."""
    words = {True: "yes", False: "no", None: "cannot tell"}
    return TextTable(
        title="What would have been enough",
        columns=("", "bytes", "together", "enough"),
        rows=tuple(
            (
                step.name if not at else f"+ {step.name}",
                _DASH if step.size_bytes is None else format_bytes(step.size_bytes),
                format_bytes(step.sum_bytes),
                words[step.suffices],
            )
            for at, step in enumerate(verdict.steps)
        ),
        words=frozenset({0, 3}),
    )


def remedy_words(remedy: Remedy) -> str:
    """Return what a remedy rests on and costs: `replayed · no KV block`."""
    words: list[str] = ["advice, not checked" if remedy.basis == "advice" else remedy.basis]
    if remedy.kv_blocks:
        words.append(f"{remedy.kv_blocks:,} KV block{'' if remedy.kv_blocks == 1 else 's'}")
    elif remedy.kv_bytes:
        words.append(f"{format_bytes(remedy.kv_bytes)} of KV cache")
    elif remedy.basis == "replayed":
        words.append("no KV block")
    return " · ".join(words)


def under(document: OomDocument) -> str:
    """Return the line under the title: what was explained."""
    parts = []
    if document.log is not None and document.failure is not None:
        where = "standard input" if document.log.file == "-" else document.log.file
        parts.append(f"{where}, line {document.failure.line:,}")
    if document.snapshot is not None:
        found = document.snapshot
        parts.append(f"{document.snapshot_file}, GPU {found.device}")
    return " · ".join(parts)


def settings_table(document: OomDocument) -> TextTable:
    """Return the settings that were replayed, least memory first."""
    found = document.snapshot
    rows = () if found is None else found.settings_rows
    marked = frozenset(at for at, row in enumerate(rows) if row.recorded)
    names = [settings_name(row.text) + (" (as recorded)" if row.recorded else "") for row in rows]
    title, note = "The same requests under other settings", "from fresh segments in every row"
    if found is None or found.capacity_bytes is None:
        own = sum(row.needs_bytes for row in rows if row.recorded)
        return TextTable(
            title=title,
            columns=("", "needs", "beside the recorded"),
            rows=tuple(
                (name, format_bytes(row.needs_bytes), signed_bytes(row.needs_bytes - own))
                for name, row in zip(names, rows, strict=True)
            ),
            marked=marked,
            note=note,
        )
    return TextTable(
        title=title,
        remark=f"in {format_bytes(found.capacity_bytes)}",
        columns=("", "needs", "spare", "passes", "KV blocks"),
        rows=tuple(
            (
                name,
                format_bytes(row.needs_bytes),
                format_bytes(row.spare_bytes),
                "yes" if row.survives else "no",
                _DASH if row.kv_blocks is None else count(-row.kv_blocks),
            )
            for name, row in zip(names, rows, strict=True)
        ),
        words=frozenset({0, 3}),
        marked=marked,
        note=f"{note}; KV blocks: to give up so that the requests pass"
        + (_ODD if any(row.spare_bytes >= 0 and not row.survives for row in rows) else ""),
    )


def pinning_table(scene: Scene, stacks: dict[int, str]) -> TextTable:
    """Return the stacks whose blocks pin free bytes."""
    return stack_pinners_table(
        (one, stacks.get(one.stack) or _UNKNOWN) for one in scene.pinning[:_ROWS]
    )


def segments_table(scene: Scene, stacks: dict[int, str]) -> TextTable:
    """Return the segments with most free bytes that are pinned."""
    return TextTable(
        title="Pinned segments",
        remark=f"the {min(_ROWS, len(scene.segments))} of {scene.pinned_segments:,} with most free "
        "bytes",
        columns=("address", "size", "free", "largest", "pinned by", "smallest block of"),
        rows=tuple(
            (
                f"{one.address:#x}",
                format_bytes(one.size_bytes),
                format_bytes(one.free_bytes),
                format_bytes(one.largest_bytes),
                f"{one.live_blocks:,} of {format_bytes(one.live_bytes)}",
                stacks.get(one.stack) or _UNKNOWN,
            )
            for one in scene.segments[:_ROWS]
        ),
        words=frozenset({0, 5}),
    )


def holders_table(scene: Scene, stacks: dict[int, str]) -> TextTable:
    """Return who holds most."""
    rows = (
        (one.held_bytes, one.blocks, stacks.get(one.stack) or _UNKNOWN)
        for one in scene.holders[:_ROWS]
    )
    return stack_holders_table(rows, active_bytes=scene.active_bytes)


def pools_table(scene: Scene) -> TextTable:
    """Return the private pools."""
    return TextTable(
        title="Private memory pools",
        columns=("pool", "segments", "reserved", "in use", "free inside"),
        rows=tuple(
            (
                f"({one.pool[0]}, {one.pool[1]})",
                count(one.segments),
                format_bytes(one.reserved_bytes),
                format_bytes(one.active_bytes),
                format_bytes(one.reserved_bytes - one.active_bytes),
            )
            for one in scene.pools[:_ROWS]
        ),
        note="CUDA graphs and torch.cuda.MemPool have such pools; nobody else may use them",
    )


def failures_table(document: OomDocument) -> TextTable:
    """Return the failures of a log, where there is more than one."""
    failures = [] if document.log is None else document.log.failures
    if len(failures) < 2:
        failures = []
    return TextTable(
        title="Failures in the log",
        remark="of the last start that failed",
        columns=("line", "process", "what", "times"),
        rows=tuple(
            (count(each.line), each.who or _DASH, failure_words(each), count(each.times))
            for each in failures[:_ROWS]
        ),
        words=frozenset({1, 2}),
        note=f"and {len(failures) - _ROWS:,} more" if len(failures) > _ROWS else "",
    )


def failure_words(failure: Failure) -> str:
    """Return a failure in some words."""
    if failure.message is not None:
        message = failure.message
        return (
            f"GPU {message.device}: {format_bytes(message.asked_bytes)} asked, "
            f"{format_bytes(message.free_bytes)} free"
        )
    assert failure.refusal is not None
    return failure.refusal.kind.replace("-", " ")


def oom_facts(document: OomDocument) -> Iterator[tuple[str, str]]:
    """Yield the figures that need no table."""
    log, failure, found = document.log, document.failure, document.snapshot
    if log is not None and failure is not None:
        yield "Log", f"{counted(log.lines, 'line')}; the failure is there {times(failure.times)}"
        if log.cut:
            yield "Interrupted", "the rest of the log was not read"
        if log.startup.version:
            starts = f"vLLM {log.startup.version}"
            if log.starts > 1:
                starts += f"; {log.failed_starts:,} of {log.starts:,} starts failed"
            yield "Server", starts
        if failure.who:
            yield "Process", failure.who
        if failure.phase is not None:
            yield "When", PHASE_WORDS[failure.phase]
        if failure.calls:
            chosen = [call for call in failure.calls if "/torch/" not in call.file][-3:]
            yield (
                "Calls",
                " < ".join(
                    f"{call.name} ({call.file.rpartition('/')[2]}:{call.line})"
                    for call in reversed(chosen or failure.calls[-3:])
                ),
            )
    if found is not None:
        yield "Snapshot", counted(found.events, "event")
        yield "Settings", settings_name(found.settings)
        if found.scene is not None and found.scene.recorded:
            which = f"event {found.scene.event:,}"
            if found.scene.failures > 1:
                which += f", one of {found.scene.failures:,}"
            yield "Failure", which
        yield "Smallest memory", f"{format_bytes(found.survival_bytes)}, under these settings"
        if found.untried:
            yield "Interrupted", f"{found.untried} settings were not tried"
    if document.block is not None:
        block = document.block
        tokens = "" if block.tokens is None else f" of {block.tokens:,} tokens"
        about = "" if block.exact else "about "
        yield "KV block", f"{about}{format_bytes(block.size_bytes)}{tokens} ({block.source})"
