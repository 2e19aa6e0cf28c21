"""`kvatlas budget`: what it does, from flags to reports.

Owns: errors that name the flag, which view is written where. Leaves to others: what flags mean
(`budget_input`), the budget (`kvatlas.budget`), views (`kvatlas.report`).
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from kvatlas.cli.budget import BudgetFlags
from kvatlas.cli.budget_input import load_of, log_of, request_of
from kvatlas.cli.files import STDOUT, require_writable, write_output
from kvatlas.cli.report_run import INTERRUPTED
from kvatlas.errors import InputError

if TYPE_CHECKING:
    from kvatlas.budget import Budget, StartupLog
    from kvatlas.report.budget_document import BudgetDocument, LogSide

__all__ = ["run_budget"]

_FILES = ("json", "html", "log", "snapshot")
_FLAG_OF_FIELD = {
    "tp": "--tensor-parallel-size",
    "pp": "--pipeline-parallel-size",
    "dp": "--data-parallel-size",
    "kv_dtype": "--kv-cache-dtype",
    "length": "--lengths",
}
_FIELDS = frozenset(
    (
        "model",
        "device",
        "quantization",
        "dtype",
        "gpu_memory_utilization",
        "block_size",
        "max_num_seqs",
        "max_num_batched_tokens",
        "max_model_len",
        "concurrency",
        "model_runner",
        "fragmentation_factor",
        "survival_capacity",
    )
)


def run_budget(flags: BudgetFlags) -> int:
    """Plan, write and print, return the exit code: 0: it fits, 1: it does not, 130: Ctrl-C.

    Raises: InputError.
    """
    _check_files(flags)
    from kvatlas.cli.flag_names import naming_own_flags

    with naming_own_flags(_FIELDS, _FLAG_OF_FIELD):
        try:
            document = _document(flags)
        except KeyboardInterrupt:
            print("kvatlas: interrupted before there was anything to report", file=sys.stderr)  # noqa: T201
            return INTERRUPTED
    if flags.html is not None:
        from kvatlas.report.budget_html import budget_html

        write_output(flags.html, budget_html(document), "--html")
    if flags.json is not None:
        from kvatlas.report.replay_json import json_bytes

        write_output(flags.json, json_bytes(document.to_dict()), "--json")
    if flags.json != STDOUT:
        from kvatlas.report.budget_terminal import print_budget
        from kvatlas.report.console import make_console

        print_budget(make_console(), document)
    if document.load is not None and document.load.survival_bytes is None:
        return INTERRUPTED
    return 0 if document.verdict.fits else 1


def _check_files(flags: BudgetFlags) -> None:
    """Refuse outputs that cannot be, before anything is read. Raises: InputError."""
    if flags.html == STDOUT:
        raise InputError("a page is written to a file", field="--html", remedy="name one")
    for path, flag in ((flags.json, "--json"), (flags.html, "--html")):
        for source in (flags.log, flags.snapshot):
            if path is not None:
                require_writable(path, flag, source)
    both = flags.json, flags.html
    if None not in both and len({os.path.realpath(str(path)) for path in both}) == 1:
        raise InputError("two reports in one file", value=flags.html, remedy="name another file")


def _document(flags: BudgetFlags) -> BudgetDocument:
    from kvatlas.budget import (
        budget,
        command_line,
        length_fits,
        measured,
        replay_line,
        verdict,
        vllm_flags,
        with_measured,
    )
    from kvatlas.cli.version import version
    from kvatlas.report.budget_document import BudgetDocument

    load = load_of(flags)
    request = request_of(flags, load)
    log = log_of(flags)
    if flags.use_log:
        if log is None:
            raise InputError("without a log", field="--use-log", remedy="add --log PATH")
        request = with_measured(request, measured(log))
    found = budget(request)
    return BudgetDocument(
        version=version(),
        config={name: value for name, value in asdict(flags).items() if name not in _FILES},
        found=found,
        verdict=verdict(found),
        fits=length_fits(found),
        flags=vllm_flags(found),
        command=command_line(found),
        replay=replay_line(found),
        log=None if log is None else _log_side(found, log),
        load=load,
    )


def _log_side(found: Budget, log: StartupLog) -> LogSide:
    from kvatlas.budget import compare, log_notes, measured
    from kvatlas.report.budget_document import LogSide

    real = measured(log)
    return LogSide(
        file=log.file,
        version=log.version,
        real=real,
        rows=compare(found, real),
        notes=tuple(log_notes(found, log, real)),
    )
