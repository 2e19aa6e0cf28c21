"""The replay report in a terminal.

Owns: which figures are shown, in which words and order. Leaves to others: the figures, and the JSON
and HTML forms. Laid out for 80 columns.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from kvatlas.report.console import bar, facts, heading
from kvatlas.report.document import Refused, ReplayDocument
from kvatlas.report.numbers import count, percent, rate, seconds

__all__ = ["print_replay"]

_SHOWN_REQUESTS = 3
_BAR_COLUMNS = 44

Row = tuple[str, str | Text]


def print_replay(console: Console, document: ReplayDocument) -> None:
    """Print the whole report."""
    blank = Text()
    parts: list[RenderableType] = [blank, *_title(document), blank, _headline(document), blank]
    for title, remark, rows in (
        ("Memory", "", _memory(document)),
        ("Pressure", "", _pressure(document)),
        ("Queueing", "on the simulated clock", _queueing(document)),
        ("Our own time", "", _time(document)),
    ):
        parts += [heading(title, remark), facts(rows), blank]
    notes = [("Exact", document.exact), ("Modelled", document.modelled)]
    parts += [facts([*notes, *(("Note", note) for note in document.notes)]), blank]
    console.print(Group(*parts))


def _title(document: ReplayDocument) -> Iterator[Text]:
    work, config = document.workload, document.config
    if document.partial:
        done = count(document.decisions["finished"])  # type: ignore[arg-type]
        yield Text(
            f"PARTIAL: interrupted after {done} of {count(work['requests'])} requests;"
            " every figure is of the part that was replayed",
            style="bold red",
        )
        yield Text()
    title = Text(str(work["name"]), style="bold")
    title.append(" on ", style="not bold")
    title.append(document.engine)
    yield title
    arrivals = config["arrivals"]
    if arrivals == "backlog":
        arrivals = f"backlog, {count(config['queue_depth'])} waiting"
    words = (
        f"{count(work['requests'])} requests",
        f"{count(config['num_blocks'])} blocks of {_block_tokens(document)} tokens",
        f"{count(config['max_num_seqs'])} seqs",
        f"{count(config['max_num_batched_tokens'])} tokens a step",
        arrivals,
    )
    yield Text(" · ".join(words), style="dim")


def _block_tokens(document: ReplayDocument) -> str:
    return " and ".join(str(size) for size in document.config["block_sizes"])


def _headline(document: ReplayDocument) -> RenderableType:
    rows: list[Row] = []
    for label, name, style in (
        ("Token hit rate", "prefix.token_hit_rate", "green"),
        ("Ceiling", "prefix.ceiling_token_hit_rate", "blue"),
    ):
        value = document.figure(name)
        if value is None:
            rows.append((label, Text(f"not known: {document.why(name)}", style="dim")))
        else:
            text = Text(f"{100 * value:6.2f}%  ", style="bold")
            rows.append((label, text + bar(value, _BAR_COLUMNS, style)))
    remark = Text(
        "share of prompt tokens found in the prefix cache at first admission;"
        " the ceiling is that of an unbounded cache",
        style="dim",
    )
    return Group(facts(rows), Padding(facts([("", remark)]), 0))


def _memory(document: ReplayDocument) -> Iterator[Row]:
    usage = [f"{percent(_known(document, 'usage.peak'))} at its peak"]
    over_time = document.figure("usage.time_weighted")
    if over_time is not None:
        usage.append(f"{percent(over_time)} mean over time")
    usage.append(f"{percent(_known(document, 'usage.mean_over_steps'))} over steps")
    yield "Usage", ", ".join(usage)
    waste = document.figure("waste.internal_time_weighted")
    if waste is None:
        yield "Internal waste", _unknown(document, "waste.internal_time_weighted")
    else:
        slots = count(round(_known(document, "waste.internal_mean_slots")))
        yield "Internal waste", f"{percent(waste)} of the slots held, {slots} slots on average"
    yield "Evicted", f"{count(_known(document, 'prefix.evicted_blocks'))} cached blocks"


def _pressure(document: ReplayDocument) -> Iterator[Row]:
    preempted = _known(document, "preemption.count")
    text = "none"
    if preempted:
        lost = count(_known(document, "preemption.recomputed_tokens"))
        text = f"{count(preempted)}, {lost} tokens computed again"
        waste = document.figure("preemption.waste")
        text += f" ({percent(waste)} of all)" if waste is not None else ""
    yield "Preemptions", text
    waiting = _known(document, "allocation.failed_waiting")
    running = _known(document, "allocation.failed_running")
    refused = "none"
    if waiting or running:
        refused = f"{count(waiting)} at admission, {count(running)} while running"
    yield "Failed to allocate", refused
    if document.never_served:
        text = f"{count(len(document.never_served))} of {count(document.workload['requests'])}"
        text += " requests are never served and were set aside"
        yield "Never served", Text(text, style="bold red")
        for request in document.never_served[:_SHOWN_REQUESTS]:
            yield "", _refused(request)
        if len(document.never_served) > _SHOWN_REQUESTS:
            left = len(document.never_served) - _SHOWN_REQUESTS
            yield "", f"and {count(left)} more (--json lists them all)"
    if document.blocked is not None:
        row = document.blocked.row
        yield (
            "BLOCKED",
            Text(
                f"request {row} can never be served and, as in vLLM, blocks the queue for ever",
                style="bold red",
            ),
        )
        yield "", _refused(document.blocked)


def _refused(request: Refused) -> str:
    return (
        f"request {request.row}: {count(request.prompt_tokens)} prompt"
        f" + {count(request.output_tokens)} output tokens need"
        f" {count(request.blocks_needed)} blocks; {request.reason}"
    )


def _queueing(document: ReplayDocument) -> Iterator[Row]:
    if document.figure("queue.time_p50_s") is None:
        yield "Queue time, TTFT", _unknown(document, "queue.time_p50_s")
    for label, name in (
        ("Queue time", "queue.time"),
        ("First token", "latency.ttft"),
        ("Per token", "latency.tpot"),
        ("End to end", "latency.e2e"),
    ):
        median = document.figure(f"{name}_p50_s")
        if median is not None:
            tail = seconds(_known(document, f"{name}_p99_s"))
            yield label, f"{seconds(median)} median, {tail} at the 99th percentile"
    refused = document.figure("queue.head_refused_share")
    if refused is not None:
        waited = seconds(_known(document, "queue.head_refused_s"))
        text = f"{waited} for lack of blocks ({percent(refused)} of the time)" if refused else "never"
        yield "Head refused", text
    running = document.figure("running.time_weighted")
    if running is not None:
        waiting = count(_known(document, "queue.length_time_weighted"))
        yield "On average", f"{count(running)} running, {waiting} waiting"
    yield "Clock", f"{seconds(_known(document, 'clock.simulated_s'))} simulated"


def _time(document: ReplayDocument) -> Iterator[Row]:
    timing, counts = document.timing, document.decisions
    yield (
        "Engine",
        f"{seconds(timing['engine_s'])} for {count(counts['steps'])} steps, "  # type: ignore[arg-type]
        f"{rate(timing['scheduled_tokens_per_s'])} scheduled tokens/s",
    )
    if timing["compile_s"] > 0:
        kernels = f"compiled in {seconds(timing['compile_s'])} (once)"
    elif timing["kernels_compiled"]:
        kernels = "from cache"
    else:
        kernels = "not compiled (NUMBA_DISABLE_JIT)"
    yield (
        "Around it",
        f"start {seconds(timing['startup_s'])}, reading {seconds(timing['load_s'])},"
        f" measuring {seconds(timing['measure_s'])}; kernels {kernels}",
    )
    yield "In all", seconds(timing["total_s"])


def _known(document: ReplayDocument, name: str) -> float:
    value = document.figure(name)
    return 0.0 if value is None else value


def _unknown(document: ReplayDocument, name: str) -> Text:
    return Text(f"not known: {document.why(name)}", style="dim")
