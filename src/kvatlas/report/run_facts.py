"""What a report on a run's events says, as short labelled sentences, section by section.

Owns: which figures are shown, in which words and order. Leaves to others: the figures, and how a
sentence looks. A figure that was not measured at all is left out; one that cannot be had says why.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvatlas.report.fact_sheet import FactSheet
from kvatlas.report.numbers import count, percent, seconds
from kvatlas.report.replay_facts import Fact, Section
from kvatlas.report.run_document import RunDocument

__all__ = ["MISSES", "is_cost_note", "partial_warning", "sections", "subtitle"]

MISSES = (
    ("attribution.cold", "Cold", "never seen before: no cache could have had it"),
    ("attribution.capacity", "Capacity", "seen, and evicted since: more blocks would have kept it"),
    ("attribution.granularity", "Granularity", "lost to whole blocks and to the last token"),
    ("attribution.configuration", "Configuration", "the settings kept it from being found"),
)
"""Why prompt tokens were missed: figure, name, meaning. The shares add up to 1."""


def partial_warning(document: RunDocument) -> str:
    """Return what to say first about a recording that is only a part; empty when it is whole."""
    if not document.partial:
        return ""
    return f"PARTIAL: {document.partial}; every figure is of the part that was recorded"


def is_cost_note(note: str) -> bool:
    """Return whether a note says what external fragmentation costs: it goes beside its figures."""
    return note.startswith("External fragmentation")


def subtitle(document: RunDocument) -> str:
    """Return the settings that matter most in one line, less those that nobody recorded."""
    config, words = document.config, []
    requests = document.workload.get("requests")
    if requests is not None:
        words.append(f"{count(requests)} requests")
    if config.get("num_blocks") is not None:
        text = f"{count(config['num_blocks'])} blocks"
        sizes = config.get("block_sizes") or ()
        if sizes:
            text += f" of {' and '.join(str(size) for size in sizes)} tokens"
        words.append(text)
    for key, unit in (("max_num_seqs", "seqs"), ("max_num_batched_tokens", "tokens a step")):
        if config.get(key) is not None:
            words.append(f"{count(config[key])} {unit}")
    if config.get("arrivals") == "backlog" and config.get("queue_depth") is not None:
        words.append(f"a backlog of {count(config['queue_depth'])}")
    elif config.get("arrivals") == "timed":
        words.append("requests at their own times")
    if document.producer != "replay":
        words.append(f"recorded {document.producer}")
    return " · ".join(words)


def sections(document: RunDocument) -> Iterator[Section]:
    """Yield the blocks of facts in their order; empty ones are left out."""
    for title, remark, facts in (
        ("Prefix cache", "", _prefix(document)),
        ("Memory", "", _memory(document)),
        ("Fragmentation", "", _fragmentation(document)),
        ("Life of blocks", "cached blocks", _life(document)),
        ("Contention", "", _contention(document)),
    ):
        found = tuple(facts)
        if found:
            yield Section(title, remark, found)


_FAILURES = {
    "admission": "{} at admission",
    "prefill": "{} in the middle of a prompt",
    "decode": "{} while decoding",
}


def _prefix(document: RunDocument) -> Iterator[Fact]:
    sheet = FactSheet(document)
    # The bounds know one cache of the pool's size: no tier below it.
    alone = "of the device alone" if document.config.get("host_blocks") else "alone"
    yield from sheet.parts(
        "Hit rate",
        ("prefix.token_hit_rate", "{} of the prompt tokens at first admission"),
        ("prefix.block_hit_rate", "{} of the full blocks"),
    )
    yield from sheet.parts(
        "Requests",
        ("prefix.request_any", "{} found something"),
        ("prefix.request_full", "{} found all that can be found"),
    )
    yield from sheet.parts(
        "This size",
        ("prefix.lru_token_hit_rate", f"LRU {alone} would hit {{}}"),
        ("prefix.optimum_token_hit_rate", "the best eviction policy {}"),
    )
    yield from sheet.line("Ceiling", "prefix.ceiling_token_hit_rate", "{} in an unbounded cache")
    yield from sheet.line(
        "Readmissions", "prefix.readmission_token_hit_rate", "{} of the tokens after a preemption"
    )
    yield from sheet.parts(
        "Evicted",
        ("prefix.evicted_blocks", "{} blocks"),
        ("prefix.evicted_premature_blocks", "{} of them asked for again (premature)"),
        ("prefix.evicted_never_asked_blocks", "{} never"),
    )
    yield from sheet.line(
        "Pollution", "prefix.pollution_share", "{} of what was evicted was never asked for again"
    )
    yield from sheet.parts(
        "Reuse from",
        ("prefix.reuse_within_session", "the same session {}"),
        ("prefix.reuse_across_sessions", "another session {}"),
    )
    yield from sheet.parts(
        "Beside it",
        ("prefix.duplicate_blocks_mean", "{} duplicate blocks"),
        ("prefix.stranded_blocks_mean", "{} stranded (cached, but the prefix before is gone)"),
        ("prefix.unhashed_tail_slots_mean", "{} slots in tails too short to cache"),
    )


def _memory(document: RunDocument) -> Iterator[Fact]:
    sheet = FactSheet(document)
    yield from sheet.parts(
        "Usage",
        ("usage.time_weighted", "{} mean over time"),
        ("usage.peak", "{} at its peak"),
        ("usage.resident_time_weighted", "{} with what could be evicted"),
    )
    yield from sheet.line(
        "Internal waste", "waste.internal_time_weighted", "{} of the slots held hold no token"
    )
    yield from sheet.line(
        "At final length",
        "waste.final_length_share",
        "{}: each request by itself, nothing shared, at its last token; above, a shared block "
        "counts once and every moment counts, also when a prompt is half computed",
    )
    yield from sheet.parts(
        "Of what is kept",
        ("waste.temporal", "{} holds nothing of use at the time"),
        ("waste.never_used_share", "never used {}"),
        ("waste.not_yet_used_share", "not yet used {}"),
        ("waste.idle_cached_share", "idle but cached {}"),
    )
    for phase in ("prefill", "decode"):
        yield from sheet.parts(
            f"In {phase}",
            (f"waste.{phase}_blocks", "{} blocks allocated"),
            (f"waste.{phase}_share", "{} of its slots wasted"),
            (f"waste.{phase}_evictions", "{} evictions"),
            (f"waste.{phase}_failures", "{} failures"),
            (f"waste.{phase}_preemptions", "{} preemptions"),
        )
    yield from sheet.parts(
        "Working set",
        *(
            (name, f"{{}} blocks in {name.split('.w')[1].split('s_')[0]} s")
            for name in document.figures.values
            if name.startswith("working_set.w") and name.endswith("_mean_blocks")
        ),
        ("working_set.pinned_mean_blocks", "{} owned at any one time"),
    )


def _fragmentation(document: RunDocument) -> Iterator[Fact]:
    sheet = FactSheet(document)
    yield from sheet.parts(
        "Free runs",
        ("fragmentation.free_runs", "{} on average over time"),
        ("fragmentation.largest_free_run", "the largest of {} blocks"),
    )
    yield from sheet.parts(
        "External index",
        ("fragmentation.efi", "{} (free: empty and evictable)"),
        ("fragmentation.efi_empty", "{} (empty only)"),
    )
    unusable = [
        (name, f"{{}} in pieces of {2 ** int(order):,}")
        for name in document.figures.values
        if name.startswith("fragmentation.ufsi_order_")
        and (order := name.rsplit("_", 1)[1]).isdigit()
    ]
    yield from sheet.parts("Unusable", *unusable)
    yield from sheet.parts(
        "Contiguity",
        ("fragmentation.runs_per_request_mean", "{} runs per request"),
        ("fragmentation.blocks_per_run_mean", "{} blocks per run"),
    )
    for note in document.notes:
        if is_cost_note(note):
            yield Fact("What it costs", note)


def _life(document: RunDocument) -> Iterator[Fact]:
    sheet = FactSheet(document)
    for label, stem, what in (
        ("Lifetime", "life.lifetime", "allocated to evicted"),
        ("Idle", "life.idle", "last use to evicted"),
        ("Reuse gap", "life.reuse_gap", "from use to use"),
    ):
        yield from sheet.parts(
            label,
            (f"{stem}_p50_s", "{} median"),
            (f"{stem}_p90_s", "{} at 90%"),
            (f"{stem}_mean_s", f"{{}} mean ({what})"),
        )
    yield from sheet.line(
        "", "life.reuse_gap_blocks_p50", "{} other blocks used in between (median)"
    )
    yield from sheet.line(
        "Not over yet", "life.censored_share", "{} outlive the recording: their end is not known"
    )


def _contention(document: RunDocument) -> Iterator[Fact]:
    sheet, values = FactSheet(document), document.figures.values
    preemptions = values.get("preemption.count")
    if preemptions is not None:
        text = count(preemptions) if preemptions else "none"
        wasted = values.get("preemption.wasted_tokens")
        if preemptions and wasted is not None:
            text += f", {count(wasted)} computed tokens lost for good"
        share = values.get("preemption.waste")
        if preemptions and share is not None:
            text += f" ({percent(share)} of all)"
        yield Fact("Preemptions", text)
    failures = [(f"allocation.failed_{when}", words) for when, words in _FAILURES.items()]
    if any(values.get(name) for name, _ in failures):
        happened = [(name, words) for name, words in failures if values.get(name)]
        yield from sheet.parts("Alloc failures", *happened)
    elif any(name in values for name, _ in failures):
        yield Fact("Alloc failures", "none")
    blocked_s = values.get("queue.head_of_line_s")
    if blocked_s is not None:
        text = f"{seconds(blocked_s)} in which a later request would have fitted"
        yield Fact(
            "Head of line", text if blocked_s else "never held up one that would have fitted"
        )
    else:
        yield from sheet.line("Head of line", "queue.head_of_line_s", "{}")
    yield from sheet.parts(
        "Queue time",
        ("queue.time_p50_s", "{} median"),
        ("queue.time_p99_s", "{} at the 99th percentile"),
    )
