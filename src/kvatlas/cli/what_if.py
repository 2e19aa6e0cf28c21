"""Findings for the reports: rules fired, changes replayed, with progress and Ctrl-C.

Owns: the progress line, Ctrl-C between replays, and whether changes are tried at all. Leaves to
others: rules, replays and words (`kvatlas.plan`), the reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvatlas.events.header import Header
    from kvatlas.measure import Figures
    from kvatlas.plan import Budget
    from kvatlas.report.run_document import Finding
    from kvatlas.workload import Workload

__all__ = ["findings_of"]


def findings_of(
    figures: Figures,
    header: Header,
    *,
    workload: Workload | None = None,
    partial: str = "",
    budget: Budget | None = None,
    wanted: bool = True,
) -> tuple[Finding, ...]:
    """Return the verdict on a recorded run; its changes are replayed if its requests are there.

    Args:
        figures: every measurement of the run.
        header: the recording's header.
        workload: the requests, where they are at hand; else they are read again.
        partial: why the recording is only a part, empty when it is whole.
        budget: replays and seconds to spend on trying changes.
        wanted: False names the changes and tries none.
    """
    from kvatlas.cli.interrupts import Interrupts
    from kvatlas.cli.progress import ProgressLine
    from kvatlas.plan import reload_workload, verdict

    requests: Workload | str
    if partial:
        requests = f"the recording is a part: {partial}"
    elif not wanted:
        requests = "nobody asked for it"
    else:
        requests = reload_workload(header) if workload is None else workload
    with ProgressLine("trying changes", None, "replays") as progress, Interrupts() as interrupts:
        return verdict(
            figures,
            header.config,
            header.workload,
            requests,
            budget=budget,
            on_progress=lambda begun, most, flags: progress.update(
                begun, most, f"trying {flags}" if flags else "replaying as it was"
            ),
            should_stop=lambda: interrupts.wanted,
        )
