"""From a name on the command line to a workload.

Owns: what TRACE may be, and which reading options go with it. Leaves to others: reading and
generating (`kvatlas.workload`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kvatlas.errors import InputError
from kvatlas.workload import Workload, detect, generate, load, reader_for, resolve

__all__ = ["open_workload"]


def open_workload(
    trace: str | None,
    *,
    format: str | None = None,
    limit: int | None = None,
    seed: int | None = None,
    sort: bool = False,
    last_block: str | None = None,
    tokens_per_id: int | None = None,
    identity_tokens: int | None = None,
    block_size: int = 16,
) -> Workload:
    """Return the workload of a file, of a built-in or fetched name, or the default one.

    Token ids are cut into blocks of `identity_tokens`, or else of `block_size`, so that any block
    size fits them. Raises: InputError.
    """
    given = {
        "sort": sort or None,
        "last_block": last_block,
        "tokens_per_id": tokens_per_id,
        "identity_tokens": identity_tokens,
    }
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if trace is not None and os.path.lexists(trace):
        reader = detect(trace) if format is None else reader_for(format)
        if "identity_tokens" in reader.options:
            options.setdefault("identity_tokens", block_size)
        if seed is not None:
            options["seed"] = seed
        return load(trace, format=reader.name, limit=limit, **options)

    from kvatlas.workload import generators

    name = generators.DEFAULT_GENERATOR if trace is None else trace
    if name in generators.names():
        if format is not None or options:
            field = "format" if format is not None else next(iter(options))
            raise InputError(
                "a built-in workload is not read from a file",
                field=field,
                value=name,
                remedy="leave the flag out",
            )
        if limit is not None and limit < 1:
            raise InputError("limit must be at least 1", field="limit", value=limit)
        workload = generate(name, seed=0 if seed is None else seed)
        return workload if limit is None else workload.head(limit)
    if os.sep in name or Path(name).suffix:
        raise InputError("no such file", file=name, remedy="check the path")
    if format is not None:
        options["format"] = format
    if seed is not None:
        options["seed"] = seed
    return resolve(name, limit=limit, **options)
