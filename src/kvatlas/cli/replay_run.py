"""`kvatlas replay`: the run, from flags to reports.

Owns: the order of things, Ctrl-C, progress, the exit code. Leaves to
others: the engine (`engines`), the trace (`trace_source`), what the result says (`replay_summary`),
every view (`kvatlas.report`).
"""

from __future__ import annotations

import sys
from importlib import import_module
from threading import Thread
from typing import TYPE_CHECKING

from kvatlas.cli.block_size_words import AUTO
from kvatlas.cli.files import STDOUT, require_writable, write_output
from kvatlas.cli.interrupts import Interrupts
from kvatlas.cli.progress import ProgressLine
from kvatlas.cli.replay_events import EventFile, event_file
from kvatlas.cli.replay_flags import ReplayFlags
from kvatlas.cli.stopwatch import Stopwatch
from kvatlas.errors import InputError

if TYPE_CHECKING:
    from kvatlas.engine.replay import Replay
    from kvatlas.report.document import ReplayDocument
    from kvatlas.report.run_document import RunDocument

__all__ = ["INTERRUPTED", "run_replay"]

INTERRUPTED = 130
"""The exit code after Ctrl-C."""

_TERMINAL_VIEW = "kvatlas.report.replay_terminal"
_SLICE_STEPS = 1 << 16
_SLOW_SLICE_STEPS = 8  # uncompiled, a slice of the usual size would take minutes


def run_replay(flags: ReplayFlags) -> int:
    """Run one replay, write and print its reports, return the exit code. Raises: InputError."""
    try:
        with Stopwatch() as watch, event_file(flags) as events:
            _check_outputs(flags)
            document, run = _replay(flags, watch, events)
    except KeyboardInterrupt:
        print("kvatlas: interrupted before there was anything to report", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    if flags.json is not None:
        from kvatlas.report.replay_json import replay_json

        write_output(flags.json, replay_json(document), "--json")
    if flags.html is not None and run is not None:
        from kvatlas.report.run_html import run_html

        write_output(flags.html, run_html(run), "--html")
    if flags.json != STDOUT:
        from kvatlas.report.console import make_console
        from kvatlas.report.replay_terminal import print_replay

        print_replay(make_console(), document)
    return INTERRUPTED if document.partial else 0


def _check_outputs(flags: ReplayFlags) -> None:
    files = {"--json": flags.json, "--html": flags.html, "--events": flags.events}
    for flag, path in files.items():
        if path is not None:
            require_writable(path, flag, flags.trace)
            if path == STDOUT and flag != "--json":
                raise InputError("not for a terminal", field=flag, remedy="name a file")
    written: dict[str, str] = {}
    for flag, path in files.items():
        if path is not None and path != STDOUT and written.setdefault(path, flag) != flag:
            raise InputError("two outputs in one file", field=flag, remedy="name another file")


def _replay(
    flags: ReplayFlags, watch: Stopwatch, events: EventFile | None
) -> tuple[ReplayDocument, RunDocument | None]:
    from kvatlas.cli.auto_block_size import chosen_for, refuse_auto
    from kvatlas.cli.engines import choose_engine
    from kvatlas.cli.flag_names import naming_flags
    from kvatlas.cli.memory_budget import refuse_budget
    from kvatlas.cli.recorded_prediction import PredictionListener, with_prediction
    from kvatlas.cli.recorded_source import open_source, recording_at
    from kvatlas.cli.replay_summary import said_config, said_workload, summarise
    from kvatlas.cli.trace_source import open_workload

    recording = recording_at(flags.trace)
    refuse_auto(flags, recorded=recording is not None)
    refuse_budget(flags, recorded=recording is not None)
    choice = None if recording is not None else choose_engine(flags)
    watch.watch_compiler()
    watch.startup_is_over()
    source = None
    with watch.stage("load_s"), naming_flags():
        if recording is not None:
            source = open_source(flags, recording)
            flags = source.flags
        choice = source.choice if source is not None else choice or choose_engine(flags)
        workload = (
            source.workload
            if source is not None
            else open_workload(flags.trace, block_size=choice.identity_tokens, **flags.reading())
        )
        if flags.block_size == AUTO:
            choice = chosen_for(flags, choice, workload, choose_engine)
    with watch.stage("build_s"), naming_flags():
        replay = choice.build(workload, flags.checksum)
        if events is not None:
            events.open(replay, choice, said_config(flags, choice), said_workload(workload))
        listener = None if source is None else PredictionListener(replay, choice.title, events)
    with watch.stage("kernels_s"):
        _make_ready(replay)
    if flags.json != STDOUT:
        # The engine runs without the interpreter's lock: the other core has time for imports.
        Thread(target=import_module, args=[_TERMINAL_VIEW], daemon=True).start()
    with watch.stage("run_s"), Interrupts() as interrupts:
        _run(replay, interrupts)
        if events is not None:
            events.close(interrupted=interrupts.wanted)
    document = summarise(flags, choice, replay, watch)
    if source is not None and listener is not None:
        document = with_prediction(document, source, listener)
    if events is None or (flags.html is None and flags.json is None):
        return document, None
    with watch.stage("measure_s"):
        run = _analysed(flags, events, replay, document)
    document.figures.add(run.figures)
    return document, run


def _make_ready(replay: Replay) -> None:
    """Compile the engine, or load it from disk, by running no step at all."""
    next(replay.slices(max_steps=0))


def _run(replay: Replay, interrupts: Interrupts) -> None:
    """Run to the end, or to the first slice after Ctrl-C."""
    from kvatlas.jit import COMPILED

    steps = _SLICE_STEPS if COMPILED else _SLOW_SLICE_STEPS
    with ProgressLine("replaying", replay.workload.num_requests, "requests") as progress:
        for _ in replay.slices(max_steps=steps):
            progress.update(replay.requests_finished)
            if interrupts.wanted:
                break


def _analysed(
    flags: ReplayFlags, events: EventFile, replay: Replay, document: ReplayDocument
) -> RunDocument:
    from kvatlas.cli.run_analysis import analyse
    from kvatlas.events import open_recording
    from kvatlas.report.replay_facts import never_served, notes

    return analyse(
        open_recording(events.path),
        what_if=flags.html is not None,
        frames=flags.html is not None,
        workload=replay.workload,
        figures=document.figures,
        notes=tuple(f"{fact.label}: {fact.text}" for fact in notes(document)),
        tables=never_served(document),
    )
