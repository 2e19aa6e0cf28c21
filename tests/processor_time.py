"""Which test files take the processor's time: `pytest --processor-time`.

Seconds on the clock say little on a machine that does other things too; processor time, that of
processes that a test started and waited for included, says what a file costs everywhere.
Owns: taking the times where tests run, adding them up and printing them. Leaves to others: what is
too much (CONTRIBUTING.md).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Generator
from typing import Any

import pytest

FILES_SHOWN = 15


def processor_s() -> float:
    """Return this process's processor time and that of the children it has waited for."""
    taken = os.times()
    return taken.user + taken.system + taken.children_user + taken.children_system


class ProcessorTime:
    """Adds to each report the seconds since the one before it, and up what the reports say.

    A worker does the first, whoever prints the summary the second; without workers one does both.
    """

    def __init__(self) -> None:
        self._last_s = processor_s()
        self._files: defaultdict[str, float] = defaultdict(float)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        report = yield
        now_s = processor_s()
        report.processor_s, self._last_s = now_s - self._last_s, now_s
        return report

    def pytest_collection_finish(self) -> None:
        self._last_s = processor_s()

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._files[report.nodeid.partition("::")[0]] += getattr(report, "processor_s", 0.0)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self._files:
            return
        total_s = sum(self._files.values())
        terminalreporter.section(f"processor time of the tests: {total_s:.0f} s")
        shown = len(self._files) if terminalreporter.verbosity > 0 else FILES_SHOWN
        for name, seconds in sorted(self._files.items(), key=lambda file: -file[1])[:shown]:
            terminalreporter.write_line(f"{seconds:7.2f} s  {name}")
