"""`kvatlas device what-if`: what it does, from flags to reports.

Owns: the order of things, errors that name the flag, Ctrl-C between two settings. Leaves to others:
the trials (`kvatlas.device.trials`), views (`kvatlas.report`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvatlas.cli.device_input import open_twin, parse_start
from kvatlas.cli.device_what_if import DeviceWhatIfFlags
from kvatlas.cli.files import STDOUT, require_writable, write_output
from kvatlas.cli.interrupts import Interrupts
from kvatlas.cli.progress import ProgressLine
from kvatlas.cli.report_run import INTERRUPTED
from kvatlas.errors import InputError
from kvatlas.units import parse_bytes

if TYPE_CHECKING:
    from kvatlas.report.device_what_if_document import DeviceWhatIfDocument

__all__ = ["run_device_what_if"]

_FLAG_OF_FIELD = {"per_process_memory_fraction": "--fraction"}


def run_device_what_if(flags: DeviceWhatIfFlags) -> int:
    """Try, write and print, return the exit code: 0, or 130 with what was done until Ctrl-C.

    Raises: InputError.
    """
    if flags.json is not None:
        require_writable(flags.json, "--json", flags.snapshot)
    document = _document(flags)
    if flags.json is not None:
        from kvatlas.report.replay_json import json_bytes

        write_output(flags.json, json_bytes(document.to_dict()), "--json")
    if flags.json != STDOUT:
        from kvatlas.report.console import make_console
        from kvatlas.report.device_what_if_terminal import print_device_what_if

        print_device_what_if(make_console(), document)
    return INTERRUPTED if document.partial else 0


def _document(flags: DeviceWhatIfFlags) -> DeviceWhatIfDocument:
    from kvatlas.cli.version import version
    from kvatlas.device.trials import Trial, asked_settings, memory_at_failure, trials
    from kvatlas.report.device_what_if_document import DeviceWhatIfDocument

    start = parse_start(flags.start)
    memory = None if flags.memory is None else parse_bytes(flags.memory, field="--memory")
    if memory == 0:
        raise InputError("no memory at all", field="--memory", value=flags.memory)
    twin = open_twin(flags.snapshot, flags.device)
    try:
        asked = asked_settings(flags.settings or (), twin.settings, flags.fraction)
    except InputError as error:
        # A text of settings says which of its keys is wrong; the flag says where it stands.
        error.field = _FLAG_OF_FIELD.get(error.field or "", f"--settings: {error.field}")
        raise
    done: list[Trial] = []
    with Interrupts() as interrupts, ProgressLine("Trying", len(asked), "settings") as line:
        recorded = twin.replay_recorded()
        for trial in trials(twin, asked, memory_bytes=memory, start=start):
            done.append(trial)
            line.update(len(done))
            if interrupts.wanted:
                break
    left = len(asked) - len(done)
    return DeviceWhatIfDocument(
        version=version(),
        path=flags.snapshot,
        recorded_settings=twin.settings,
        recorded=recorded,
        failed_in_bytes=memory_at_failure(twin, recorded),
        memory_bytes=memory,
        start=start or "rebuilt",
        trials=tuple(done),
        partial=f"interrupted: {left} of {len(asked)} settings were not tried" if left else "",
    )
