"""Settings tried on a snapshot in a terminal, laid out for 80 columns: the best comes first.

Owns: its words and its look. Leaves to others: every figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from kvatlas.device.survival import COLLECTING_FRACTION
from kvatlas.device.trials import Trial
from kvatlas.report.curve_terminal import terminal_head, terminal_notes
from kvatlas.report.device_what_if_document import DeviceWhatIfDocument
from kvatlas.report.device_words import outcome, settings_name, subtitle, unverified_note
from kvatlas.report.numbers import count, percent
from kvatlas.report.text_table import TextTable, terminal_table
from kvatlas.units import format_bytes

__all__ = ["print_device_what_if"]


def print_device_what_if(console: Console, document: DeviceWhatIfDocument) -> None:
    """Print the whole report."""
    ranked = sorted(document.trials, key=lambda one: one.survival.capacity_bytes)
    parts: list[RenderableType] = [
        Text(),
        *terminal_head(
            document.path,
            subtitle(document.recorded, document.recorded_settings),
            _sentences(document),
            document.partial,
        ),
        Text(),
        *terminal_table(_needs_table(document, ranked)),
        Text(),
        *terminal_table(_peaks_table(document, ranked)),
        Text(),
        *terminal_notes(tuple(_notes(document))),
    ]
    console.print(Group(*parts))


def _sentences(document: DeviceWhatIfDocument) -> Iterator[str]:
    least, own = document.least, document.as_recorded
    if least is None:
        yield "Nothing was tried."
        return
    best = least.survival.capacity_bytes
    sentence = f"Least memory: {_name(least)}, {format_bytes(best)}"
    if own is not None and own is not least:
        saved = own.survival.capacity_bytes - best
        sentence += (
            f", {format_bytes(saved)} ({percent(saved / own.survival.capacity_bytes)}) less than "
            "the recorded settings need"
            if saved
            else ", as much as the recorded settings need"
        )
    yield f"{sentence}."
    if document.failed_in_bytes is not None and document.memory_bytes is None:
        mebibytes = document.failed_in_bytes >> 20
        yield (
            f"The recording ran out of memory in {format_bytes(document.failed_in_bytes)}: who "
            f"passes in as much says --memory {mebibytes}MiB."
        )
    if document.memory_bytes is not None:
        passed = sum(not each.run.oom for each in document.trials)
        yield (
            f"In {format_bytes(document.memory_bytes)} {count(passed)} of "
            f"{count(len(document.trials))} settings pass."
        )
    if not document.recorded.identical:
        yield (
            "The twin does not replay this recording to the byte "
            f"({count(document.recorded.differences)} differences): take the figures as estimates."
        )


def _needs_table(document: DeviceWhatIfDocument, ranked: Sequence[Trial]) -> TextTable:
    limited = document.memory_bytes is not None
    first = ranked[0].survival.capacity_bytes if ranked else 0
    rows = []
    for each in ranked:
        more = each.survival.capacity_bytes - first
        row = [_name(each), format_bytes(each.survival.capacity_bytes)]
        row.append(f"+{format_bytes(more)}" if more else "")
        if limited:
            row += [outcome(each.run), count(each.run.retries)]
        rows.append(tuple(row))
    inside = (f"in {format_bytes(document.memory_bytes or 0)}", "retries") if limited else ()
    return TextTable(
        title="Memory needed",
        remark="the smallest in which the requests pass, to 2 MiB",
        columns=("", "needs", "more", *inside),
        rows=tuple(rows),
        words=frozenset({0, 3}) if limited else frozenset({0}),
        marked=frozenset(at for at, each in enumerate(ranked) if each is document.as_recorded),
        note="in bold: the recorded settings" if document.as_recorded else "",
    )


def _peaks_table(document: DeviceWhatIfDocument, ranked: Sequence[Trial]) -> TextTable:
    limited = document.memory_bytes is not None
    remark = "of those that ran out of memory: until then" if limited else "without a limit"
    return TextTable(
        title="At the peak of reserved bytes",
        remark=remark,
        columns=("", "reserved", "stuck", "releasable", "most stuck"),
        rows=tuple(
            (
                _name(each),
                format_bytes(each.run.peak_reserved_bytes),
                format_bytes(each.run.stuck_at_peak_bytes),
                format_bytes(each.run.releasable_at_peak_bytes),
                format_bytes(each.run.peak_stuck_bytes),
            )
            for each in ranked
        ),
        marked=frozenset(at for at, each in enumerate(ranked) if each is document.as_recorded),
    )


def _name(trial: Trial) -> str:
    fraction = trial.asked.fraction
    usual = _collects(trial) and fraction == COLLECTING_FRACTION
    return settings_name(trial.survival.text, None if usual else fraction)


def _notes(document: DeviceWhatIfDocument) -> Iterator[str]:
    if any(_collects(each) for each in document.trials):
        yield (
            "garbage collection acts only under a memory fraction, here 0.99 by default; "
            "set it too, with torch.cuda.set_per_process_memory_fraction() or "
            "per_process_memory_fraction"
        )
    if document.start == "rebuilt":
        yield (
            "every run begins with the blocks that were there allocated anew, so that all settings "
            "begin alike; --start recorded keeps the segments that were there"
        )
    yield from unverified_note(document.unverified)


def _collects(trial: Trial) -> bool:
    return bool(trial.asked.settings.garbage_collection_threshold)
