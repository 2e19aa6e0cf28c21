"""What a replay report says, as short labelled sentences: the same in the terminal and in HTML.

Owns: which figures are shown, in which words and order. Leaves to others: the figures, and how a
sentence looks (`replay_terminal`, `run_html`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from kvatlas.report.document import Refused, ReplayDocument
from kvatlas.report.memory_words import block_size_words, budget_words
from kvatlas.report.numbers import count, percent, rate, seconds
from kvatlas.report.run_document import Table

__all__ = [
    "Fact",
    "Section",
    "headline",
    "never_served",
    "notes",
    "partial_warning",
    "sections",
    "subtitle",
]

Tone = Literal["plain", "unknown", "alarm"]

_SHOWN_REQUESTS = 3


@dataclass(frozen=True, slots=True)
class Fact:
    """A label (empty when it goes on) and a sentence."""

    label: str
    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Section:
    """A block of facts under a heading."""

    title: str
    remark: str
    facts: tuple[Fact, ...]


def headline(document: ReplayDocument) -> tuple[tuple[str, str, str], ...]:
    """Return label, figure and explanation of the shares that come first."""
    pool = "a device pool" if document.config.get("host_blocks") else "a pool"
    return (
        (
            "Token hit rate",
            "prefix.token_hit_rate",
            "of the prompt tokens were found in the prefix cache at first admission",
        ),
        (
            "Optimum",
            "prefix.optimum_token_hit_rate",
            f"the most that any eviction policy could hit in {pool} of this size",
        ),
        (
            "Ceiling",
            "prefix.ceiling_token_hit_rate",
            "the ceiling is what an unbounded cache would find",
        ),
    )


def partial_warning(document: ReplayDocument) -> str:
    """Return what to say first about a replay that was stopped."""
    finished = count(document.decisions["finished"])
    return (
        f"PARTIAL: interrupted after {finished} of {count(document.workload['requests'])} requests;"
        " every figure but the ceiling is of the part that was replayed"
    )


def subtitle(document: ReplayDocument) -> str:
    """Return the settings that matter most, in one line."""
    config = document.config
    arrivals = "requests at their own times"
    if config["arrivals"] == "backlog":
        arrivals = f"a backlog of {count(config['queue_depth'])}"
    sizes = " and ".join(str(size) for size in config["block_sizes"])
    up_to = "" if document.hybrid is None else "up to "
    words = (
        f"{count(document.workload['requests'])} requests",
        f"{up_to}{count(config['num_blocks'])} blocks of {sizes} tokens",
        f"{count(config['max_num_seqs'])} seqs",
        f"{count(config['max_num_batched_tokens'])} tokens a step",
        arrivals,
    )
    return " · ".join(words)


def sections(document: ReplayDocument) -> Iterator[Section]:
    """Yield the blocks of facts in their order."""
    yield Section("Memory", "", tuple(_memory(document)))
    yield Section("Pressure", "", tuple(_pressure(document)))
    yield Section("Queueing", "on the simulated clock", tuple(_queueing(document)))
    yield Section("Our own time", "", tuple(_time(document)))


def notes(document: ReplayDocument) -> Iterator[Fact]:
    """Yield what to believe, and what else a reader must know."""
    yield Fact("Exact", document.exact)
    yield Fact("Modelled", document.modelled)
    for note in document.notes:
        yield Fact("Note", note)


def never_served(document: ReplayDocument) -> dict[str, Table]:
    """Return the requests that were set aside as a table by name; nothing when there are none."""
    refused = document.never_served
    if document.blocked is not None:
        refused = (document.blocked, *refused)
    if not refused:
        return {}
    rows = tuple(
        (f"request {one.row}", one.prompt_tokens, one.output_tokens, one.blocks_needed, one.reason)
        for one in refused
    )
    columns = ("request", "prompt_tokens", "output_tokens", "blocks_needed", "why")
    return {"never_served": Table("Requests that are never served", columns, rows)}


def _memory(document: ReplayDocument) -> Iterator[Fact]:
    for label, text in (*block_size_words(document), *budget_words(document)):
        yield Fact(label, text)
    usage = [f"{percent(document.known('usage.peak'))} at its peak"]
    if document.figure("usage.time_weighted") is not None:
        usage.append(f"{percent(document.known('usage.time_weighted'))} mean over time")
    usage.append(f"{percent(document.known('usage.mean_over_steps'))} over steps")
    yield Fact("Usage", ", ".join(usage))
    waste = document.figure("waste.internal_time_weighted")
    if waste is None:
        yield _unknown(document, "Internal waste", "waste.internal_time_weighted")
    else:
        slots = count(round(document.known("waste.internal_mean_slots")))
        yield Fact("Internal waste", f"{percent(waste)} of the slots held ({slots} on average)")
    if document.figures.values.get("waste.final_length_share") is not None:
        share = percent(document.known("waste.final_length_share"))
        yield Fact("At final length", f"{share}, each request by itself, nothing shared")
    yield Fact("External", "costs nothing here: blocks are equal, any free one serves")
    if document.figure("attribution.cold") is not None:
        cold, capacity = (document.known(f"attribution.{name}") for name in ("cold", "capacity"))
        text = f"{percent(cold)} never seen before, {percent(capacity)} seen and evicted since"
        if document.known("attribution.granularity") > 0:
            text += f", {percent(document.known('attribution.granularity'))} lost to whole blocks"
        yield Fact("Why missed", text)
    yield Fact("Evicted", f"{count(document.known('prefix.evicted_blocks'))} cached blocks")
    if document.figures.values.get("tier.usage") is not None:
        yield from _host_tier(document)


def _host_tier(document: ReplayDocument) -> Iterator[Fact]:
    early = int(document.figures.values.get("pressure.prefetched") or 0)
    text = f"{count(document.known('tier.restored_blocks') - early)} blocks brought back"
    if document.figures.values.get("tier.host_token_hit_rate") is not None:
        share = percent(document.known("tier.host_token_hit_rate"))
        text += f" ({share} of the prompt tokens were found there)"
    written, gone = (document.known(f"tier.{name}_blocks") for name in ("written", "evictions"))
    text += f", {count(written)} written, {count(gone)} evicted"
    yield Fact("Host tier", text)
    if early:
        text = f"{count(early)} blocks brought back before admission, which hit on the device"
        yield Fact("Prefetched", text)
    if document.known("tier.moving_s"):
        share = percent(document.known("tier.moving_share"))
        text = f"{seconds(document.known('tier.moving_s'))}, {share} of the time that steps took"
        yield Fact("Moving blocks", text)


def _pressure(document: ReplayDocument) -> Iterator[Fact]:
    text = "none"
    if document.known("preemption.count"):
        lost = count(document.known("preemption.recomputed_tokens"))
        waste = percent(document.known("preemption.waste"))
        text = f"{count(document.known('preemption.count'))}, "
        text += f"{lost} tokens computed again ({waste} of all)"
    yield Fact("Preemptions", text)
    waiting = document.known("allocation.failed_waiting")
    running = document.known("allocation.failed_running")
    text = "none"
    if waiting or running:
        text = f"{count(waiting)} at admission, {count(running)} while running"
    yield Fact("Alloc failures", text)
    if document.never_served:
        text = f"{count(len(document.never_served))} of {count(document.workload['requests'])}"
        yield Fact("Never served", f"{text} requests; they were set aside", "alarm")
        for request in document.never_served[:_SHOWN_REQUESTS]:
            yield Fact("", _refused(request))
        left = len(document.never_served) - _SHOWN_REQUESTS
        if left > 0:
            yield Fact("", f"and {count(left)} more (--json lists them all)")
    if document.blocked is not None:
        text = f"the queue is blocked for ever by request {document.blocked.row}, as in vLLM"
        left = document.workload["requests"] - int(document.decisions["finished"])
        yield Fact("BLOCKED", f"{text}; {count(left)} requests are not served", "alarm")
        yield Fact("", _refused(document.blocked))


def _refused(request: Refused) -> str:
    return (
        f"request {request.row}: {count(request.prompt_tokens)} prompt"
        f" + {count(request.output_tokens)} output tokens need"
        f" {count(request.blocks_needed)} blocks; {request.reason}"
    )


def _queueing(document: ReplayDocument) -> Iterator[Fact]:
    if document.figure("queue.time_p50_s") is None:
        yield _unknown(document, "Queue time, TTFT", "queue.time_p50_s")
    for label, name in (
        ("Queue time", "queue.time"),
        ("First token", "latency.ttft"),
        ("Per token", "latency.tpot"),
        ("End to end", "latency.e2e"),
    ):
        if document.figure(f"{name}_p50_s") is not None:
            median = seconds(document.known(f"{name}_p50_s"))
            tail = seconds(document.known(f"{name}_p99_s"))
            yield Fact(label, f"{median} median, {tail} at the 99th percentile")
    if document.figure("queue.head_refused_share") is not None:
        share = document.known("queue.head_refused_share")
        text = "never for lack of blocks"
        if share:
            span = seconds(document.known("queue.head_refused_s"))
            text = f"for lack of blocks during {span} ({percent(share)} of the time)"
        yield Fact("Head refused", text)
        running = count(document.known("running.time_weighted"))
        waiting = count(document.known("queue.length_time_weighted"))
        yield Fact("On average", f"{running} running, {waiting} waiting")
    yield Fact("Clock", f"{seconds(document.known('clock.simulated_s'))} simulated")


def _time(document: ReplayDocument) -> Iterator[Fact]:
    timing = document.timing
    yield Fact(
        "Engine",
        f"{seconds(timing['engine_s'])} for {count(document.decisions['steps'])} steps, "
        f"{rate(timing['scheduled_tokens_per_s'])} scheduled tokens/s",
    )
    if timing["compile_s"] > 0:
        kernels = f"compiled in {seconds(timing['compile_s'])} (once)"
    elif timing["kernels_compiled"]:
        kernels = "from cache"
    else:
        kernels = "not compiled (NUMBA_DISABLE_JIT)"
    yield Fact(
        "Around it",
        f"start {seconds(timing['startup_s'])}, reading {seconds(timing['load_s'])},"
        f" measuring {seconds(timing['measure_s'])}; kernels {kernels}",
    )
    yield Fact("In all", seconds(timing["total_s"]))


def _unknown(document: ReplayDocument, label: str, name: str) -> Fact:
    return Fact(label, f"not known: {document.why(name)}", "unknown")
