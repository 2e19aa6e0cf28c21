"""The entry point `kvatlas`: runs the app and turns errors into one line and an exit code.

Owns: exit codes. 0: done. 1: standard output was closed. 2: bad input or a bad flag. 130:
interrupted by Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn, TextIO

from kvatlas.cli.stopwatch import mark_start
from kvatlas.errors import InputError

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line `args` (the process's own by default) and exit."""
    mark_start()
    from kvatlas.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        _never_fail_to_encode(stream)
    try:
        app(args=args, prog_name="kvatlas")
    except InputError as error:
        _fail(str(error))
    except MemoryError as error:
        _fail(f"not enough memory: {error}; ask for fewer --blocks or --max-num-seqs")
    sys.exit(0)


def _fail(line: str) -> NoReturn:
    print(f"kvatlas: {line}", file=sys.stderr)  # noqa: T201
    sys.exit(2)


def _never_fail_to_encode(stream: TextIO) -> None:
    """Print what a terminal without UTF-8 cannot show as question marks."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


if __name__ == "__main__":
    main()
