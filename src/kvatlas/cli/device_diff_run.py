"""`kvatlas device diff`: what it does, from flags to reports.

Owns: the order of things, errors that name the flag, the exit code. Leaves to others: the
comparison (`kvatlas.device.diff`), conditions (`kvatlas.device.gate`), views (`kvatlas.report`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvatlas.cli.device_diff import DeviceDiffFlags
from kvatlas.cli.device_input import open_twin, parse_start
from kvatlas.cli.files import STDOUT, require_writable, write_output
from kvatlas.cli.interrupts import Interrupts
from kvatlas.cli.progress import ProgressLine
from kvatlas.cli.report_run import INTERRUPTED
from kvatlas.errors import InputError

if TYPE_CHECKING:
    from kvatlas.device import AllocatorSettings, DeviceTwin
    from kvatlas.device.diff import Side
    from kvatlas.device.gate import Condition
    from kvatlas.device.results import Start
    from kvatlas.report.device_diff_document import DeviceDiffDocument

__all__ = ["run_device_diff"]

FAILED = 1


def run_device_diff(flags: DeviceDiffFlags) -> int:
    """Compare, write and print; return 0, 1 where a condition of --fail-if holds, 130 on Ctrl-C.

    Raises: InputError.
    """
    if flags.json is not None:
        for path in (flags.before, flags.after):
            require_writable(flags.json, "--json", path)
    document = _document(flags)
    if document is None:
        print("kvatlas: interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    if flags.json is not None:
        from kvatlas.report.replay_json import json_bytes

        write_output(flags.json, json_bytes(document.to_dict()), "--json")
    if flags.json != STDOUT:
        from kvatlas.report.console import make_console
        from kvatlas.report.device_diff_terminal import print_device_diff

        print_device_diff(make_console(), document)
    return FAILED if any(each.met for each in document.outcomes) else 0


def _document(flags: DeviceDiffFlags) -> DeviceDiffDocument | None:
    from kvatlas.cli.version import version
    from kvatlas.device.diff import compare_sides
    from kvatlas.device.gate import judge, parse_condition
    from kvatlas.report.device_diff_document import DeviceDiffDocument

    start = parse_start(flags.start)
    conditions = [parse_condition(text) for text in flags.fail_if or ()]
    settings = _settings(flags.settings, conditions)
    # Both are opened before the work on either begins.
    twins = [open_twin(path, flags.device) for path in (flags.before, flags.after)]
    sides = _sides(twins, settings, start)
    if sides is None:
        return None
    found = compare_sides(*sides)
    return DeviceDiffDocument(
        version=version(),
        paths=(flags.before, flags.after),
        found=found,
        outcomes=tuple(judge(each, found) for each in conditions),
    )


def _settings(
    texts: Sequence[str] | None, conditions: Sequence[Condition]
) -> list[AllocatorSettings]:
    """Return what is tried on both: what was named, and what a condition is about."""
    from kvatlas.device import AllocatorSettings
    from kvatlas.device.diff import DIFF_SETTINGS

    try:
        named = [AllocatorSettings.parse(text) for text in texts or DIFF_SETTINGS]
    except InputError as error:
        error.field = f"--settings: {error.field}"
        raise
    return named + [each.settings for each in conditions if each.settings is not None]


def _sides(
    twins: Sequence[DeviceTwin], settings: Sequence[AllocatorSettings], start: Start | None
) -> tuple[Side, Side] | None:
    """Return what either snapshot shows, None after Ctrl-C: half a comparison is none."""
    from kvatlas.device.diff import side_of

    # The settings of one are tried on the other, too: only so can the two be told apart.
    tried = [*settings, *(twin.settings for twin in twins)]
    sides: list[Side] = []
    steps = 0
    total = len(twins) * (len(set(tried)) + 3)
    with Interrupts() as interrupts, ProgressLine("Comparing", total, "runs") as line:
        for twin in twins:
            for side in side_of(twin, tried, start=start):
                steps += 1
                line.update(steps)
                if interrupts.wanted:
                    return None
                if side is not None:
                    sides.append(side)
    return sides[0], sides[1]
