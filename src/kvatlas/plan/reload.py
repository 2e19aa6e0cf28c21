"""The requests of a recorded run, read again from where its header says they came from.

Owns: finding them, and the proof that they are the same. Leaves to others: reading and generating
(`kvatlas.workload`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvatlas.errors import InputError
from kvatlas.events.header import Header
from kvatlas.workload import Workload, detect, generate, reader_for, resolve

__all__ = ["as_it_was_cut", "reload_workload"]

_READING = ("format", "seed", "sort", "last_block", "tokens_per_id", "identity_tokens")


def reload_workload(header: Header) -> Workload | str:
    """Return the workload of a recording, or in one line why it cannot be had.

    It must have the totals that the header says; a trace that was edited since is refused. Costs
    what reading the trace costs.
    """
    if header.producer != "replay":
        return (
            "a live recording, whose clock is the server's own: what other settings would do, "
            "`kvatlas replay RECORDING` says"
        )
    trace = header.config.get("trace")
    try:
        workload = _read(header, trace)
    except (InputError, OSError) as error:
        return f"the recorded requests cannot be read again: {error}"
    for name, found in _totals(workload).items():
        recorded = header.workload.get(name)
        if recorded is None and name not in ("requests", "prompt_tokens"):
            continue
        if recorded != found:
            source = "the built-in workload" if trace is None else f"the trace {trace}"
            return (
                f"{source} is not what was recorded: {name.replace('_', ' ')} {found:,}, the "
                f"recording says {recorded if recorded is None else format(recorded, ',')}"
            )
    return workload


def as_it_was_cut(config: Mapping[str, Any], workload: Workload) -> dict[str, Any]:
    """Return `config`, saying into how many tokens a trace of token ids was cut.

    Nobody has to say it as long as the block size stays: it is what they are cut into.
    """
    trace = config.get("trace")
    if not isinstance(trace, str) or not os.path.lexists(trace) or not workload.prefix_known:
        return dict(config)
    try:
        reader = reader_for(config["format"]) if config.get("format") else detect(trace)
    except (InputError, OSError):
        return dict(config)
    said = dict(config)
    if "identity_tokens" in reader.options:
        said["identity_tokens"] = workload.tokens_per_id
    return said


def _read(header: Header, trace: str | None) -> Workload:
    from kvatlas.workload import generators

    config = header.config
    name = generators.DEFAULT_GENERATOR if trace is None else trace
    limit = config.get("limit")
    if name in generators.names() and not (trace is not None and os.path.lexists(trace)):
        workload = generate(name, seed=config.get("seed") or 0)
        return workload if limit is None else workload.head(limit)
    options: dict[str, Any] = {
        option: config[option] for option in _READING if config.get(option) not in (None, False)
    }
    if os.path.lexists(name):
        reader = reader_for(options["format"]) if "format" in options else detect(name)
        span = header.workload.get("tokens_per_id")
        if "identity_tokens" in reader.options and span is not None:
            # Token ids were cut into the recorded engine's blocks.
            options.setdefault("identity_tokens", span)
    elif os.sep in name or Path(name).suffix:
        raise InputError("no such file", file=name)
    return resolve(name, limit=limit, **options)


def _totals(workload: Workload) -> dict[str, int]:
    totals = {
        "requests": workload.num_requests,
        "prompt_tokens": workload.total_prompt_tokens,
        "output_tokens": int(workload.output_tokens.sum(dtype="int64")),
    }
    if workload.prefix_known:
        totals |= {"tokens_per_id": workload.tokens_per_id, "distinct_ids": workload.num_ids}
    return totals
