"""From the flags of studies of one trace (curve, policies, bench) to what they mean.

Owns: checking numbers and outputs, bytes per block, the engine that is replayed. Leaves to others:
lists (`capacity_lists`), what is done with it all (`curve_run`, `policies_run`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from kvatlas.cli.capacity_flags import StudyFlags
from kvatlas.cli.curve import CurveFlags
from kvatlas.cli.files import STDOUT, require_writable
from kvatlas.cli.policies import PoliciesFlags
from kvatlas.errors import InputError

if TYPE_CHECKING:
    from kvatlas.cli.bench_verdicts_flags import VerdictsFlags
    from kvatlas.engine import DriveConfig, EngineConfig
    from kvatlas.workload import Workload

__all__ = [
    "bytes_per_block",
    "check_counts",
    "check_flags",
    "check_outputs",
    "engine_of",
    "naming_capacity_flags",
    "open_trace",
    "require_somebody",
    "said_flags",
    "tier_sizes",
]

_MOST_BLOCKS = 1 << 40  # as `kvatlas.measure.curves.MOST_BLOCKS`, without loading it
_MOST_POINTS = 100_000
_MOST_TOKENS = 2**31 - 1
_FLAG_OF_FIELD = {
    "kv_dtype": "--kv-dtype",
    "count_partial": "--count-partial",
    "capacity_blocks": "--capacities",
    "eviction_policy": "--policies",
    "placement": "--policies",
    "prefill_share": "--prefill-share",
}
_OUTPUTS = ("json", "csv", "html")
_TIERS = (("HBM", "hbm"), ("host", "host_memory"), ("disk", "disk"))


@contextmanager
def naming_capacity_flags() -> Iterator[None]:
    """Let errors about a setting name the flag that holds it."""
    from kvatlas.cli.flag_names import naming_flags

    with naming_flags():
        try:
            yield
        except InputError as error:
            if error.line is None and error.field in _FLAG_OF_FIELD:
                error.field = _FLAG_OF_FIELD[error.field]
            raise


def check_flags(flags: CurveFlags | PoliciesFlags) -> None:
    """Check numbers that need no trace. Raises: InputError."""
    check_counts(flags, ("block_size", "blocks", "max_num_seqs", "max_num_batched_tokens"))
    if flags.replays < 0:
        raise InputError("must be 0 or more", field="--replays", value=flags.replays)
    if isinstance(flags, CurveFlags):
        _check_curve_flags(flags)


def check_counts(flags: StudyFlags, names: Sequence[str]) -> None:
    """Check that flags, where given, are counts. Raises: InputError."""
    for name in names:
        value = getattr(flags, name)
        most = _MOST_BLOCKS if name == "blocks" else _MOST_TOKENS
        if value is not None and not 1 <= value <= most:
            raise InputError(f"must be 1 to {most:,}", field=_flag(name), value=value)


def _check_curve_flags(flags: CurveFlags) -> None:
    if flags.points is not None and not 2 <= flags.points <= _MOST_POINTS:
        raise InputError(
            f"must be 2 to {_MOST_POINTS:,}",
            field="--points",
            value=flags.points,
            remedy="--all gives every breakpoint",
        )
    given = [
        name
        for name, there in (
            ("--capacities", flags.capacities is not None),
            ("--points", flags.points is not None),
            ("--all", flags.all_points),
        )
        if there
    ]
    if len(given) > 1:
        raise InputError(
            "two ways to choose the capacities", field=given[1], remedy=f"leave out {given[0]}"
        )
    for name in ("prefill_share", "warm_up"):
        value = getattr(flags, name)
        if not 0 <= value <= 1:
            raise InputError("must be 0 to 1", field=_flag(name), value=value)
    if flags.model is None:
        if flags.kv_dtype != "auto":
            raise InputError(
                "how many bytes a block takes depends on the model",
                field="--kv-dtype",
                value=flags.kv_dtype,
                remedy="add --model",
            )
        for _, name in _TIERS:
            if getattr(flags, name) is not None:
                raise InputError(
                    "how many bytes a block takes depends on the model",
                    field=_flag(name),
                    value=getattr(flags, name),
                    remedy="add --model",
                )


def check_outputs(flags: StudyFlags) -> None:
    """Check before the work that every output can be written after it. Raises: InputError."""
    written: dict[str, str] = {}
    for name in _OUTPUTS:
        path, flag = getattr(flags, name), f"--{name}"
        if path is None:
            continue
        require_writable(path, flag, flags.trace)
        if path == STDOUT and name == "html":
            raise InputError("not for a terminal", field=flag, remedy="name a file")
        place = path if path == STDOUT else os.path.realpath(path)
        if written.setdefault(place, flag) != flag:
            raise InputError("two outputs in one file", field=flag, remedy="name another file")


def tier_sizes(flags: CurveFlags) -> dict[str, int]:
    """Return bytes by tier, the fastest first. Raises: InputError."""
    from kvatlas.units import parse_bytes

    sizes = {}
    for title, name in _TIERS:
        text = getattr(flags, name)
        if text is None:
            continue
        sizes[title] = parse_bytes(text, field=_flag(name))
        if sizes[title] < 1:
            raise InputError(
                "no memory", field=_flag(name), value=text, remedy="leave the flag out"
            )
    return sizes


def bytes_per_block(flags: CurveFlags) -> tuple[int | None, tuple[str, ...]]:
    """Return what a block of content takes on one rank, and what to know. Raises: InputError."""
    if flags.model is None:
        return None, ()
    from kvatlas.engine.layers import block_bytes, group_layers
    from kvatlas.model import attention_block_size, bytes_per_token, kv_layers, load_model

    with naming_capacity_flags():
        facts = load_model(flags.model)
        groups = group_layers(kv_layers(facts, flags.block_size, flags.kv_dtype))
        used = attention_block_size(facts, flags.block_size, flags.kv_dtype)
        if len(groups) == 1 and used == flags.block_size:
            return block_bytes(groups), ()
        size = bytes_per_token(facts, flags.kv_dtype) * flags.block_size
    if not size:
        raise InputError(
            "no layer of this model keeps keys and values", field="--model", value=flags.model
        )
    return size, (
        "bytes are counted as if every attention layer kept every token: layers with a window may "
        "keep less, recurrent states and padding come on top",
    )


def open_trace(flags: StudyFlags) -> Workload:
    """Return the requests. Raises: InputError."""
    from kvatlas.cli.trace_source import open_workload

    with naming_capacity_flags():
        return open_workload(flags.trace, block_size=flags.block_size, **flags.reading())


def engine_of(flags: StudyFlags | VerdictsFlags) -> tuple[EngineConfig, DriveConfig]:
    """Return vLLM as the flags describe it, its pool's size left open. Raises: InputError."""
    from kvatlas.engine import DriveConfig, EngineConfig

    with naming_capacity_flags():
        config = EngineConfig(
            num_blocks=2,
            block_size=flags.block_size,
            max_num_seqs=flags.max_num_seqs,
            max_num_batched_tokens=flags.max_num_batched_tokens,
            max_model_len=flags.max_model_len,
        )
        return config, DriveConfig(arrivals=cast(Any, flags.arrivals))


def require_somebody(workload: Workload, config: EngineConfig) -> None:
    """Check that a pool can serve one request at least. Raises: InputError naming a setting."""
    from kvatlas.engine.workload_rows import blocks_needed, never_fits

    if not never_fits(workload, config).all():
        return
    if workload.num_requests == 0:
        raise InputError("no request to replay", field="trace", value=workload.name)
    short = workload.prompt_tokens < config.max_model_len
    if not short.any():
        raise InputError(
            f"no request of {workload.name} can be served: the shortest prompt has "
            f"{int(workload.prompt_tokens.min()):,} tokens",
            field="max_model_len",
            value=config.max_model_len,
        )
    least = int(blocks_needed(workload, config)[short].min()) + 1
    raise InputError(
        f"no request of {workload.name} can be served in this pool",
        field="num_blocks",
        value=config.num_blocks,
        remedy=f"the smallest needs {least:,} blocks, the null block included",
    )


def said_flags(flags: StudyFlags, **more: Any) -> dict[str, Any]:
    """Return every setting by the name of its flag, and what came of them."""
    said = {name: value for name, value in asdict(flags).items() if name not in _OUTPUTS}
    return {"trace": flags.trace, "block_size": flags.block_size, **said, **more}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
