"""`kvatlas device lint`: what it does, from flags to reports.

Owns: where the text comes from, the exit code. Leaves to others: the rules (`kvatlas.device.conf`),
views (`kvatlas.report`).
"""

from __future__ import annotations

import os

from kvatlas.cli.device_lint import DeviceLintFlags
from kvatlas.cli.files import STDOUT, require_writable, write_output
from kvatlas.device.conf import Environment, lint_environment, lint_text
from kvatlas.report.device_lint_document import DeviceLintDocument

__all__ = ["run_device_lint"]


def run_device_lint(flags: DeviceLintFlags) -> int:
    """Read, write and print, return the exit code: 0 when all does as it says, 1 when not.

    Raises: InputError.
    """
    from kvatlas.cli.version import version

    if flags.json is not None:
        require_writable(flags.json, "--json")
    if flags.text is None:
        found = lint_environment(os.environ)
    else:
        found = Environment(None, lint_text(flags.text), ())
    document = DeviceLintDocument(version=version(), found=found)
    if flags.json is not None:
        from kvatlas.report.replay_json import json_bytes

        write_output(flags.json, json_bytes(document.to_dict()), "--json")
    if flags.json != STDOUT:
        from kvatlas.report.console import make_console
        from kvatlas.report.device_lint_terminal import print_device_lint

        print_device_lint(make_console(), document)
    return 0 if found.clean else 1
