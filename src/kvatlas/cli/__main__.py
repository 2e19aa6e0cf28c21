"""The entry point `kvatlas`: runs the app and turns errors into one line and an exit code.

Owns: exit codes. 0: done. 1: standard output was closed. 2: bad input or a bad flag. 130:
interrupted by Ctrl-C.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Sequence
from typing import NoReturn, TextIO

from kvatlas.cli.stopwatch import mark_start
from kvatlas.errors import InputError

__all__ = ["main", "run"]

_SPELLED = {"·": "-", "…": "...", "–": "-", "µ": "u"} | dict.fromkeys("█▉▊▋▌▍▎▏", "#")


def main() -> NoReturn:
    """Run the process's command line and end the process."""
    code = run()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed by the shell: `>&-`
                stream.flush()
    except OSError:  # closed by whoever read it
        code = code or 1
    # Without tearing the interpreter down: freeing compiled code and arrays one by one takes 0.1 s.
    os._exit(code)


def run(args: Sequence[str] | None = None) -> int:
    """Run the command line `args` (the process's own by default) and return the exit code."""
    mark_start()
    from kvatlas.cli.app import app

    codecs.register_error("kvatlas", _spell)
    for stream in (sys.stdout, sys.stderr):
        _never_fail_to_encode(stream)
    try:
        app(args=args, prog_name="kvatlas")
    except InputError as error:
        return _failed(str(error))
    except MemoryError as error:
        # NumPy goes on to describe the array at length.
        reason = str(error).split(" for an array")[0] or "out of memory"
        return _failed(f"not enough memory: {reason}; use a smaller --blocks or --max-num-seqs")
    except OSError as error:
        # Files raise InputError: this is standard output on a full disk, or the like.
        return _failed(f"cannot write the report: {error.strerror or error}")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    return 0


def _failed(line: str) -> int:
    print(f"kvatlas: {line}", file=sys.stderr)  # noqa: T201
    return 2


def _never_fail_to_encode(stream: TextIO) -> None:
    """Let a terminal without UTF-8 show something similar."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="kvatlas")


def _spell(error: UnicodeError) -> tuple[str, int]:
    """Replace what cannot be encoded: a codec's error handler."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(_SPELLED.get(character, "?") for character in lost), error.end


if __name__ == "__main__":
    main()
