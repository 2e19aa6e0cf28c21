"""`kvatlas bench verdicts`: what it does, from flags to reports.

Owns: the order of things, Ctrl-C, progress, the exit code. Leaves to others: trials and verdicts
(`kvatlas.plan.small_policies`), views (`kvatlas.report.verdicts`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from kvatlas.cli.bench_verdicts_flags import VerdictsFlags
from kvatlas.cli.capacity_input import engine_of, require_somebody
from kvatlas.cli.files import STDOUT, require_writable, write_output
from kvatlas.cli.flag_names import naming_flags
from kvatlas.cli.interrupts import Interrupts
from kvatlas.cli.progress import ProgressLine
from kvatlas.cli.report_run import INTERRUPTED
from kvatlas.errors import InputError
from kvatlas.registry import named

if TYPE_CHECKING:
    from kvatlas.engine import DriveConfig, EngineConfig
    from kvatlas.plan.small_policies import TraceVerdicts

__all__ = ["run_verdicts"]

_SHARE = 0.5
"""Of the peak demand, where neither --share nor --blocks is given."""


def run_verdicts(flags: VerdictsFlags) -> int:
    """Try every policy on every trace, write and print, return the exit code. Raises: InputError.

    After Ctrl-C the policies that are done are reported.
    """
    from kvatlas.plan.policy_trials import Interrupted

    if flags.json is not None:
        require_writable(flags.json, "--json", None)
    if flags.blocks is not None and not 2 <= flags.blocks < 2**31:
        raise InputError("must be 2 to below 2**31", field="--blocks", value=flags.blocks)
    if flags.share is not None and flags.blocks is not None:
        raise InputError(
            "two sizes for one pool",
            field="--share",
            value=flags.share,
            remedy="give either --blocks or --share",
        )
    if flags.blocks is None:
        flags = replace(flags, share=_SHARE if flags.share is None else flags.share)
    if flags.share is not None and not 0 < flags.share <= 1:
        raise InputError(
            "a share of the peak demand, above 0 and at most 1", field="--share", value=flags.share
        )
    names = None if flags.policies is None else _names(flags.policies)
    done: list[TraceVerdicts] = []
    traces: list[str | None] = [*flags.traces] if flags.traces else [None]
    partial = ""
    with Interrupts() as interrupts:
        for trace in traces:
            with suppress(Interrupted):
                done.append(_verdicts(flags, trace, names, interrupts))
            if interrupts.wanted:
                partial = _cut(done, len(traces), names)
                break
    if partial and not done:
        print("kvatlas: interrupted before there was anything to report", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    from kvatlas.cli.version import version
    from kvatlas.report.verdicts import print_verdicts, verdicts_json

    if flags.json is not None:
        said = {name: value for name, value in asdict(flags).items() if name != "json"}
        write_output(flags.json, verdicts_json(version(), said, done, partial), "--json")
    if flags.json != STDOUT:
        from kvatlas.report.console import make_console

        print_verdicts(make_console(), done, partial)
    return INTERRUPTED if partial else 0


def _cut(done: Sequence[TraceVerdicts], traces: int, names: list[str] | None) -> str:
    """Return what is missing after Ctrl-C, nothing where everything had been done."""
    from kvatlas.plan.small_policies import SMALL_POLICIES

    said = [f"{len(done)} of {traces} traces begun"] if len(done) < traces else []
    if done:
        tried = {trial.name for trial in done[-1].trials}
        without = [name for name in names or SMALL_POLICIES if name not in tried]
        if without:
            said.append(f"{done[-1].trace} without {', '.join(without)}")
    return f"interrupted: {'; '.join(said)}" if said else ""


def _names(text: str) -> list[str]:
    from kvatlas.plan.small_policies import SMALL_POLICIES

    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError("no policy", field="--policies", value=text)
    return [named(SMALL_POLICIES, name, "policy", field="--policies").name for name in names]


def _verdicts(
    flags: VerdictsFlags, trace: str | None, names: list[str] | None, interrupts: Interrupts
) -> TraceVerdicts:
    from kvatlas.cli.trace_source import open_workload
    from kvatlas.plan.policy_trials import Interrupted, pool_under_pressure, try_policies

    with naming_flags():
        config, drive = _engine(flags)
        workload = open_workload(trace, limit=flags.limit, block_size=flags.block_size)
        with ProgressLine("replaying", workload.num_requests, "requests") as line:

            def go_on(what: str, finished: int) -> None:
                line.update(finished, workload.num_requests, f"{workload.name}: {what}")
                if interrupts.wanted:
                    raise Interrupted

            peak = None
            blocks = flags.blocks
            if blocks is None:
                plenty: Callable[[int], None] = lambda finished: go_on("demand", finished)  # noqa: E731
                share = _SHARE if flags.share is None else flags.share
                blocks, peak = pool_under_pressure(workload, config, drive, share, plenty)
            config = config.with_(num_blocks=blocks)
            require_somebody(workload, config)
            return try_policies(
                workload,
                config,
                drive,
                names,
                peak_blocks=peak,
                on_progress=go_on,
            )


def _engine(flags: VerdictsFlags) -> tuple[EngineConfig, DriveConfig]:
    config, drive = engine_of(flags)
    return config, replace(
        drive, step_ms_base=flags.step_ms_base, step_ms_per_ktok=flags.step_ms_per_ktok
    )
