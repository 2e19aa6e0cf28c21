"""`read_snapshot`: a file of `torch.cuda.memory._dump_snapshot` as typed columns, without torch.

Owns: the file and the one error line that names it. Leaves to others: opcodes, tables, checks.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from kvatlas.device.assembly import assemble
from kvatlas.device.columns import Columns
from kvatlas.device.pickle_machine import PickleMachine
from kvatlas.device.pickle_source import Source
from kvatlas.device.snapshot import DeviceSnapshot
from kvatlas.errors import InputError

__all__ = ["read_snapshot"]


def read_snapshot(
    path: str | PathLike[str], *, on_read: Callable[[int], None] | None = None
) -> DeviceSnapshot:
    """Return the memory snapshot in a file; any pickle protocol, from Python or C++.

    The file is data: no name in it is ever looked up, and nothing of it is run. Time: O(bytes),
    some 10 MB/s (17 us per event). Memory: some 150 bytes per event, and distinct strings and
    stacks once; never the file.

    Args:
        path: what `torch.cuda.memory._dump_snapshot(path)` or
            `pickle.dump(torch.cuda.memory._snapshot(), file)` wrote.
        on_read: called with the number of bytes read, once per megabyte.

    Raises: InputError when it cannot be read, is no snapshot, or contradicts itself.
    """
    place = Path(path)
    try:
        status = place.stat()
        # Before it is opened: opening a pipe would wait for whoever writes into it.
        if not stat.S_ISREG(status.st_mode):
            raise InputError("not a plain file", remedy="copy it to one")
        with place.open("rb") as file:
            columns = Columns()
            root = PickleMachine(Source(file, status.st_size, on_read), columns).run()
        return assemble(root, columns)
    except OSError as error:
        raise InputError(error.strerror or "cannot be read", file=place) from None
    except InputError as error:
        error.file = error.file or str(place)
        raise
