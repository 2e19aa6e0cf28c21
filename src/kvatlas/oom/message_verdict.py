"""Why a request failed, from PyTorch's message alone.

Owns: the ladder from what was free to what would have been enough, and the remedies that figures
alone allow. Leaves to others: reading the message (`message`), replays (`snapshot_verdict`).

The message says more than it seems to: before PyTorch gives up it returns every whole free segment
to the driver, so that what is "reserved by PyTorch but unallocated" then lies in segments that live
tensors pin. What it calls "allocated in private pools" are the free bytes inside those pools.
"""

from __future__ import annotations

from kvatlas.budget.startup_log import StartupLog
from kvatlas.oom.kv_block import KvBlock
from kvatlas.oom.message import OomMessage
from kvatlas.oom.message_remedies import message_remedies
from kvatlas.oom.phases import PHASE_WORDS, Phase
from kvatlas.oom.verdict import DRIVERS_OWN, RUNGS, Cause, OomVerdict, Step, cause_of_rung, ladder
from kvatlas.units import format_bytes

__all__ = ["message_verdict"]

_SEGMENTS = {
    2 << 20: "2 MiB is the segment that requests of up to 1 MiB share: less may have been asked.",
    20 << 20: "20 MiB is the segment that requests of 1 to 10 MiB share: less may have been asked.",
}


def message_verdict(
    message: OomMessage,
    *,
    phase: Phase | None = None,
    startup: StartupLog | None = None,
    block: KvBlock | None = None,
) -> OomVerdict:
    """Return the verdict on one message; O(1).

    Args:
        phase: when in the server's life it came; decides whether the KV cache could give way.
        startup: what the server said when it started.
        block: one KV block, to say costs in blocks.
    """
    asked = message.asked_bytes
    available, limited = _available(message)
    rungs: list[tuple[str, int | None]] = [
        ("allowed and unused" if limited else "free on the device", available)
    ]
    if message.unallocated_bytes is not None:
        rungs.append((RUNGS["stuck"], message.unallocated_bytes))
    if message.idle_bytes:
        rungs.append((RUNGS["idle"], message.idle_bytes))
    if not limited and message.others_bytes != 0:
        rungs.append((RUNGS["others"], message.others_bytes))
    steps, first = ladder(asked, tuple(rungs), message.slack_bytes)
    tight = not limited and 0 <= available - asked < DRIVERS_OWN
    if tight:
        steps, first = ladder(asked, (("free, kept by the driver", 0), *rungs[1:]))
    cause: Cause = "capacity"
    if first == 0:
        cause = "memory-fraction" if limited else "driver-refused"
    elif first is not None:
        cause = cause_of_rung(steps[first].name)
    elif limited and message.free_bytes + message.slack_bytes >= asked:
        cause = "memory-fraction"
    if 0 < message.total_bytes < asked:
        cause = "request-size"
    short = max(0, asked - (0 if tight else available))
    return OomVerdict(
        cause=cause,
        line=_line(message, cause, steps, first, phase),
        reasons=tuple(_reasons(message)),
        steps=steps,
        remedies=tuple(message_remedies(message, cause, phase, startup, block, short)),
        notes=tuple(_notes(message, phase, steps, tight)),
    )


def _available(message: OomMessage) -> tuple[int, bool]:
    """Return the bytes that the process could still get, and whether its own limit decides."""
    reserved = message.reserved_bytes
    if message.allowed_bytes is None or reserved is None:
        return message.free_bytes, False
    left = max(0, message.allowed_bytes - reserved)
    return (left, True) if left < message.free_bytes else (message.free_bytes, False)


def _line(
    message: OomMessage,
    cause: Cause,
    steps: tuple[Step, ...],
    first: int | None,
    phase: Phase | None,
) -> str:
    asked = format_bytes(message.asked_bytes)
    limited = cause == "memory-fraction" or steps[0].name.startswith("allowed")
    there = f"{format_bytes(message.free_bytes)} free"
    on_device = f"{there} on the device"
    if limited:
        left, allowed = format_bytes(steps[0].size_bytes or 0), message.allowed_bytes or 0
        there = on_device = f"{left} left of the {format_bytes(allowed)} that it is allowed"
    began = f"{PHASE_WORDS[phase][0].upper()}{PHASE_WORDS[phase][1:]}: " if phase else ""
    if cause == "request-size":
        return (
            f"{began}{asked} asked, more than the {format_bytes(message.total_bytes)} that the "
            "device has: no setting and no smaller KV cache makes room for that."
        )
    if cause == "memory-fraction":
        return (
            f"{began}{asked} asked, {there} by its memory fraction; the device had "
            f"{format_bytes(message.free_bytes)} free."
        )
    if cause == "driver-refused":
        return f"{began}{asked} asked, {there} when PyTorch looked afterwards."
    if cause == "fragmentation":
        stuck = format_bytes(message.unallocated_bytes or 0)
        return (
            f"{began}{asked} asked, {on_device}, and {stuck} free in "
            "segments that live tensors pin: enough together, nowhere in one piece."
        )
    if cause == "private-pools":
        return (
            f"{began}{asked} asked, {on_device}; "
            f"{format_bytes(message.idle_bytes)} lie free inside pools that only CUDA graphs or "
            "their owner may use."
        )
    if cause == "other-processes":
        short = format_bytes(message.asked_bytes - steps[(first or 1) - 1].sum_bytes)
        held = format_bytes(steps[first or 0].size_bytes or 0)
        return (
            f"{began}{asked} asked, {there}, {short} short; {held} of the "
            "device are not this process's."
        )
    last = format_bytes(max(0, message.asked_bytes - steps[-1].sum_bytes))
    return (
        f"{began}{asked} asked, {there}; with every free byte in one piece "
        f"it would still be {last} short."
    )


def _reasons(message: OomMessage) -> list[str]:
    found = [
        f"GPU {message.device} has {format_bytes(message.total_bytes)}, of which "
        f"{format_bytes(message.free_bytes)} were free."
    ]
    if message.allocated_bytes is not None:
        found.append(
            f"PyTorch held {format_bytes(message.reserved_bytes or message.allocated_bytes)}: "
            f"{format_bytes(message.allocated_bytes)} in live tensors"
            + (f", {format_bytes(message.idle_bytes)} idle in private pools"
               if message.idle_bytes else "")
            + (f", {format_bytes(message.unallocated_bytes)} stuck."
               if message.unallocated_bytes is not None else ".")
        )  # fmt: skip
    if message.outside_bytes is not None:
        found.append(
            f"This process held {format_bytes(message.outside_bytes)} outside PyTorch: CUDA "
            "context, NCCL, libraries."
        )
    for process, size in message.others:
        held = "an unknown amount" if size is None else format_bytes(size)
        own = ""
        if process == message.own_process:
            own = ": by its size this process, under its number outside the container"
        found.append(f"Process {process} held {held}{own}.")
    return found


def _notes(
    message: OomMessage, phase: Phase | None, steps: tuple[Step, ...], tight: bool
) -> list[str]:
    found = []
    if tight:
        found.append(
            f"The last {format_bytes(message.free_bytes)} of a device are of no use: the driver "
            "keeps some MiB for itself."
        )
    if (message.reserved_bytes or 0) > message.total_bytes > 0:
        found.append(
            "PyTorch holds more than the device has: the driver moves memory to the host, as on "
            "Windows, and everything is slow long before it fails."
        )
    if message.since != "2.1":
        found.append(
            "A message of PyTorch before 2.1: expandable segments came with 2.1; max_split_size_mb "
            "is what older ones have."
        )
    if message.allocated_bytes is None:
        found.append("The message is cut off: what PyTorch held is not in it.")
    if message.asked_bytes in _SEGMENTS:
        found.append(_SEGMENTS[message.asked_bytes])
    if phase == "graphs":
        found.append(
            "While a CUDA graph is captured PyTorch releases nothing: part of what is stuck here "
            "may be whole free segments."
        )
    if (
        message.process_bytes is None
        and message.own_process is None
        and steps[-1].name == RUNGS["others"]
    ):
        found.append(
            "The driver did not say what this process holds outside PyTorch; it is taken to be "
            "1 GiB at most."
        )
    if message.idle_bytes:
        found.append(
            'PyTorch calls the free bytes inside private pools "allocated in private pools"; here '
            "they are counted as free."
        )
    if any(step.suffices is None for step in steps if step.size_bytes is not None):
        found.append(
            "Two printed decimals leave it open whether "
            f"{format_bytes(message.asked_bytes)} would have fitted: "
            f"{format_bytes(message.slack_bytes)} decide."
        )
    return found
