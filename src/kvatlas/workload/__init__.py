"""Requests, as columns: the `Workload`, the readers of public traces and the traffic generators.

Light to import: NumPy and msgspec only; pyarrow, zstandard and the compiled kernels come in when a
call needs them.
"""

from __future__ import annotations

import os
from typing import Any

from kvatlas.errors import InputError
from kvatlas.workload.chain import Chainer, chain_ids
from kvatlas.workload.formats import Reader, detect, format_names, load, reader_for
from kvatlas.workload.model import Workload
from kvatlas.workload.readers.parquet import write_parquet

__all__ = [
    "Chainer",
    "Reader",
    "Workload",
    "chain_ids",
    "detect",
    "format_names",
    "generate",
    "load",
    "reader_for",
    "resolve",
    "write_parquet",
]


def generate(name: str, *, seed: int = 0, **knobs: Any) -> Workload:
    """Return the built-in workload `name`, made from `seed`; see `kvatlas.workload.generators`.

    Raises: InputError for an unknown name or knob.
    """
    from kvatlas.workload import generators

    return generators.generate(name, seed=seed, **knobs)


def resolve(name_or_path: str | os.PathLike[str], **options: Any) -> Workload:
    """Return the trace at a path if there is one, else the workload or public trace of that name.

    A public trace must have been fetched (`kvatlas.workload.fetch`); nothing is downloaded here.
    `options` go to `load` or to `generate`. Raises: InputError listing the built-in names.
    """
    from kvatlas.workload import generators
    from kvatlas.workload.public_traces import TRACES

    text = os.fspath(name_or_path)
    if os.path.lexists(text):
        return load(text, **options)
    names = generators.names()
    if text in names:
        return generate(text, **options)
    if text in TRACES:
        return _load_fetched(text, **options)
    raise InputError(
        "neither a file nor a built-in workload",
        value=text,
        remedy=f"give an existing path or one of {', '.join(names)}",
    )


def _load_fetched(name: str, **options: Any) -> Workload:
    from kvatlas.workload.fetch import cached
    from kvatlas.workload.public_traces import public_trace

    path = cached(name)
    if path is None:
        raise InputError(
            "this public trace was not fetched yet",
            value=name,
            remedy=f"run kvatlas traces fetch {name} first",
        )
    return load(path, **{"format": public_trace(name).format, **options})
