"""What the report on a snapshot says, in a terminal and on a page.

Owns: its sentences and facts. Leaves to others: tables (`device_tables`), how a stack is named
(`stack_words`), looks, every figure.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvatlas.device.stack_words import stack_name
from kvatlas.report.device_report_document import DeviceReportDocument
from kvatlas.report.device_tables import stack_holders_table, stack_pinners_table
from kvatlas.report.device_words import unverified_note
from kvatlas.report.numbers import count, percent, seconds, times
from kvatlas.report.text_table import TextTable
from kvatlas.units import format_bytes

__all__ = ["facts", "holders_table", "notes", "pinners_table", "sentences", "warning"]


def warning(document: DeviceReportDocument) -> str:
    """Return what to read before everything else; empty where there is nothing."""
    recorded = document.found.recorded
    if recorded.identical:
        return ""
    where = "at its end"
    if recorded.first_difference is not None:
        where = f"from event {count(recorded.first_difference)} on"
    return (
        f"The twin decides otherwise than the recording {where}: sizes and stuck bytes after that "
        "are the twin's, not the recorded ones"
    )


def sentences(document: DeviceReportDocument) -> Iterator[str]:
    """Yield what matters most: failures, stuck bytes, who pins them."""
    peak = {one.name: one for one in document.found.peaks}
    if document.found.failures:
        first = document.found.failures[0]
        yield (
            f"Out of memory {times(len(document.found.failures))}: at event {count(first.event)} "
            f"{format_bytes(first.asked_bytes)} were asked for and the driver had "
            f"{format_bytes(first.free_bytes)}."
        )
    stuck, reserved = peak["stuck"], peak["reserved"]
    if not stuck.nbytes:
        yield "Nothing was ever stuck: every free byte could have gone back to the driver."
        return
    share = percent(stuck.nbytes / max(1, reserved.nbytes))
    yield (
        f"At most {format_bytes(stuck.nbytes)} were stuck (event {count(stuck.event)}), {share} of "
        f"the {format_bytes(reserved.nbytes)} reserved at the peak: free memory that live blocks "
        "kept from everybody else."
    )
    moment = document.found.moment
    if document.found.pinners and moment.stuck_bytes:
        most = document.found.pinners[0]  # the first row of the table
        pins = most.pins
        plural = "segment" if pins.segments == 1 else "segments"
        yield (
            f"At event {count(moment.event)} blocks of {stack_name(most.calls)} pin "
            f"{count(pins.segments)} {plural}: {format_bytes(pins.alone_bytes)} would go back if "
            f"they alone were freed"
            + (f", {format_bytes(pins.shared_bytes)} with others'." if pins.shared_bytes else ".")
        )


def facts(document: DeviceReportDocument) -> Iterator[tuple[str, str]]:
    """Yield labels and sentences."""
    recorded, moment = document.found.recorded, document.found.moment
    same = "every address, segment and block, and both totals, as recorded"
    if not recorded.identical:
        same = (
            f"{count(recorded.addresses_equal)} of {count(recorded.allocs)} addresses, "
            f"{count(recorded.blocks_equal)} of {count(recorded.blocks)} final blocks as recorded"
        )
    yield "Replayed", f"{same} ({count(recorded.allocs)} allocations)"
    for peak in document.found.peaks:
        when = f", {seconds(peak.time_us / 1e6)} in" if document.found.span_us else ""
        yield (
            f"Peak {peak.name}",
            f"{format_bytes(peak.nbytes)} at event {count(peak.event)}{when}",
        )
    went = "memory never went back to the driver"
    if document.found.releases:
        went = f"memory went back to the driver {count(document.found.releases)} times"
    yield "Releases", went
    free = (
        (moment.stuck_bytes, "stuck"),
        (moment.releasable_bytes, "releasable"),
        (moment.idle_bytes, "idle in private pools"),
    )
    parts = [f"{format_bytes(nbytes)} {word}" for nbytes, word in free if nbytes]
    waits = ""
    if moment.waiting_bytes:
        waits = f", {format_bytes(moment.waiting_bytes)} wait for another stream"
    yield (
        f"Event {count(moment.event)}",
        f"{moment.why}: {format_bytes(moment.reserved_bytes)} reserved in "
        f"{count(moment.segments)} segments, {format_bytes(moment.allocated_bytes)} allocated in "
        f"{count(moment.blocks)} blocks{waits}; free: {', '.join(parts) or 'nothing'}",
    )
    if recorded.unseen_tails:
        yield (
            "Not seen",
            f"the length of {count(recorded.unseen_tails)} blocks from before the trace",
        )
    if not document.whole:
        shown = document.shown
        yield (
            "Pictures",
            f"of events {count(shown.start)} to {count(shown.stop - 1)} of "
            f"{count(recorded.events)}; facts above are of all",
        )


def notes(document: DeviceReportDocument) -> Iterator[str]:
    """Yield what a user must know."""
    yield from unverified_note(document.found.recorded.unverified)
    yield from document.notes


def pinners_table(document: DeviceReportDocument, rows: int = 8) -> TextTable:
    """Return who pins stuck bytes at the moment."""
    return stack_pinners_table(
        [(one.pins, stack_name(one.calls)) for one in document.found.pinners[:rows]],
        remark=f"at event {count(document.found.moment.event)}, {document.found.moment.why}",
    )


def holders_table(document: DeviceReportDocument, rows: int = 8) -> TextTable:
    """Return who holds most at the moment."""
    moment = document.found.moment
    return stack_holders_table(
        [
            (one.held_bytes, one.blocks, stack_name(one.calls))
            for one in document.found.holders[:rows]
        ],
        active_bytes=moment.allocated_bytes + moment.waiting_bytes,
        remark=f"at event {count(moment.event)}",
    )
