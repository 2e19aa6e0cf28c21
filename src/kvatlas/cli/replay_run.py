"""`kvatlas replay`: the run, from flags to reports.

Owns: the order of things, Ctrl-C, progress, sampling for the charts, the exit code. Leaves to
others: the engine (`engines`), the trace (`trace_source`), what the result says (`replay_summary`),
every view (`kvatlas.report`).
"""

from __future__ import annotations

import sys
from importlib import import_module
from threading import Thread
from typing import TYPE_CHECKING

from kvatlas.cli.files import STDOUT, require_writable, write_output
from kvatlas.cli.interrupts import Interrupts
from kvatlas.cli.progress import ProgressLine
from kvatlas.cli.replay_events import EventFile, event_file
from kvatlas.cli.replay_flags import ReplayFlags
from kvatlas.cli.stopwatch import Stopwatch
from kvatlas.errors import InputError

if TYPE_CHECKING:
    from kvatlas.engine.replay import Replay
    from kvatlas.measure import Recorder
    from kvatlas.report.document import ReplayDocument

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
            document = _replay(flags, watch, events)
    except KeyboardInterrupt:
        print("kvatlas: interrupted before there was anything to report", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    if flags.json is not None:
        from kvatlas.report.replay_json import replay_json

        write_output(flags.json, replay_json(document), "--json")
    if flags.html is not None:
        from kvatlas.report.replay_html import replay_html

        write_output(flags.html, replay_html(document), "--html")
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
    named = [path for path in files.values() if path not in (None, STDOUT)]
    if len(set(named)) < len(named):
        flag = next(flag for flag, path in reversed(files.items()) if named.count(path) > 1)
        raise InputError("two outputs in one file", field=flag, remedy="name another file")


def _replay(flags: ReplayFlags, watch: Stopwatch, events: EventFile | None) -> ReplayDocument:
    from kvatlas.cli.engines import choose_engine
    from kvatlas.cli.flag_names import naming_flags
    from kvatlas.cli.replay_summary import said_config, said_workload, summarise
    from kvatlas.cli.trace_source import open_workload
    from kvatlas.measure import Recorder

    choice = choose_engine(flags)
    watch.watch_compiler()
    watch.startup_is_over()
    with watch.stage("load_s"), naming_flags():
        workload = open_workload(
            flags.trace,
            format=flags.format,
            limit=flags.limit,
            seed=flags.seed,
            sort=flags.sort,
            last_block=flags.last_block,
            tokens_per_id=flags.tokens_per_id,
            identity_tokens=flags.identity_tokens,
            block_size=choice.identity_tokens,
        )
    with watch.stage("build_s"), naming_flags():
        replay = choice.build(workload, flags.checksum, events.listener() if events else None)
        if events is not None:
            events.open(replay, choice, said_config(flags, choice), said_workload(workload))
    with watch.stage("kernels_s"):
        _make_ready(replay)
    recorder = Recorder() if flags.html is not None else None
    if flags.json != STDOUT:
        # The engine runs without the interpreter's lock: the other core has time for imports.
        Thread(target=import_module, args=[_TERMINAL_VIEW], daemon=True).start()
    with watch.stage("run_s"), Interrupts() as interrupts:
        _run(replay, recorder, interrupts)
        if events is not None:
            events.close(interrupted=interrupts.wanted)
    return summarise(flags, choice, replay, recorder, watch)


def _make_ready(replay: Replay) -> None:
    """Compile the engine, or load it from disk, by running no step at all."""
    next(replay.slices(max_steps=0))


def _run(replay: Replay, recorder: Recorder | None, interrupts: Interrupts) -> None:
    """Run to the end, or to the first slice after Ctrl-C."""
    with ProgressLine("replaying", replay.workload.num_requests, "requests") as progress:
        finished = False
        while not finished and not interrupts.wanted:
            steps = _slice_steps(recorder)
            finished = True
            # Goes on where the last call of it stopped.
            for _ in replay.slices(max_steps=steps):
                progress.update(replay.requests_finished)
                if recorder is not None:
                    recorder.add(replay.sums())
                if interrupts.wanted or _slice_steps(recorder) != steps:
                    finished = False
                    break


def _slice_steps(recorder: Recorder | None) -> int:
    """Return the steps between two looks at Ctrl-C, progress, and the sums for the charts."""
    from kvatlas.jit import COMPILED

    most = _SLICE_STEPS if COMPILED else _SLOW_SLICE_STEPS
    return most if recorder is None else min(most, recorder.steps_per_sample)
