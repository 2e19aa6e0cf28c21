"""`kvatlas replay RECORDING`: a recording in place of a trace.

Owns: telling a recording from a trace, which settings are the recorded ones when no flag says
otherwise, and the engine they make. Leaves to others: the load (`kvatlas.plan.recorded_load`), the
run (`replay_run`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from kvatlas.cli.reading_flags import ReadingFlags
from kvatlas.cli.replay_flags import ReplayFlags
from kvatlas.engine.settings import SETTINGS
from kvatlas.errors import InputError

if TYPE_CHECKING:
    from kvatlas.cli.engines import EngineChoice
    from kvatlas.events import AnyRecording
    from kvatlas.plan.recorded_load import RecordedLoad
    from kvatlas.plan.step_fit import StepFit
    from kvatlas.workload import Workload

__all__ = ["RecordedSource", "open_source", "recording_at"]

_MAGICS = (b"PAR1", b"\xff\xff\xff\xff")
_SETTINGS = {
    # A flag's field: what the recording's `config` calls it.
    "engine": "engine",
    "engine_version": "engine_version",
    "blocks": "num_blocks",
    "block_size": "block_size",
    **{setting.name: setting.key for setting in SETTINGS.values()},
}
_FLAGS = tuple(field.name for field in fields(ReplayFlags) if field.name in _SETTINGS)
_TYPED_AS_BYTES = {setting.name for setting in SETTINGS.values() if setting.in_bytes}
_OF_TRACES = tuple(field.name for field in fields(ReadingFlags) if field.name != "limit")


@dataclass(frozen=True, slots=True)
class RecordedSource:
    """A recording, ready to be replayed.

    Attributes:
        flags: the user's, the recorded settings where none was given.
        choice: the engine they make.
        workload: the load.
        load: the recording as it was.
        step_fit: how long the recorded steps took, None where the recording's clock was a model.
        changed: the settings that the user changed, as `--flag value`.
    """

    flags: ReplayFlags
    choice: EngineChoice
    workload: Workload
    load: RecordedLoad
    step_fit: StepFit | None
    changed: tuple[str, ...]


def recording_at(trace: str | None) -> AnyRecording | None:
    """Return the recording that TRACE names, None where it is a trace.

    Raises: InputError for a damaged recording, or a folder of several engines.
    """
    if trace is None:
        return None
    path = Path(trace)
    if path.is_dir():
        from kvatlas.events.live.folders import engine_folders

        if not engine_folders(path):
            return None
    elif not _may_be_recording(path):
        return None
    from kvatlas.events import open_recording

    try:
        return open_recording(trace)
    except InputError as error:
        # A Parquet file may be a trace as well.
        if "not a recording" in str(error):
            return None
        raise


def open_source(flags: ReplayFlags, recording: AnyRecording) -> RecordedSource:
    """Read the load and settle what is replayed. Raises: InputError naming a flag."""
    from kvatlas.plan.recorded_load import recorded_load
    from kvatlas.plan.step_fit import cycles_ms, fit_steps

    for name in _OF_TRACES:
        if name in flags.given:
            raise InputError(
                "a recording says itself how it is read", field=name, value=getattr(flags, name),
                remedy="leave the flag out",
            )  # fmt: skip
    _groups(recording.header.config.get("kv_cache_groups") or (), recording.path)
    load = recorded_load(recording)
    fit = None
    if recording.header.producer == "live":
        fit = fit_steps(cycles_ms(load.step_began_ms, load.step_span_ms), load.step_tokens)
    workload = _workload(load, recording)
    if flags.limit is not None:
        if flags.limit < 1:
            raise InputError("limit must be at least 1", field="limit", value=flags.limit)
        workload = workload.head(flags.limit)
    filled = _filled(flags, recording, fit)
    changed = tuple(
        _typed(name, getattr(flags, name))
        for name in _FLAGS
        if name in flags.given and getattr(flags, name) != _recorded(recording, name, fit)
    )
    return RecordedSource(filled, _engine(flags, filled, recording), workload, load, fit, changed)


def _typed(name: str, value: Any) -> str:
    """Return a setting as one types it."""
    setting = SETTINGS.get(_SETTINGS[name])
    words = (f"--{name.replace('_', '-')}", str(value)) if setting is None else setting.words(value)
    return " ".join(filter(None, words))


def _may_be_recording(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) in _MAGICS
    except OSError:
        return False


def _workload(load: RecordedLoad, recording: AnyRecording) -> Workload:
    """Return the trace that was replayed when the recording was made, or what it tells itself."""
    if recording.header.producer != "replay":
        return load.workload
    from kvatlas.plan.reload import reload_workload

    found = reload_workload(recording.header)
    if isinstance(found, str):
        return load.workload.with_(
            notes=(*load.workload.notes, f"{found}; the load is what the events tell")
        )
    return found


def _recorded(recording: AnyRecording, name: str, fit: StepFit | None) -> Any:
    if fit is not None and name == "step_ms_base":
        return fit.base_ms
    if fit is not None and name == "step_ms_per_ktok":
        return fit.per_ktok_ms
    value = recording.header.config.get(_SETTINGS[name])
    if name in _TYPED_AS_BYTES and isinstance(value, int | float):
        return str(int(value))
    return value


def _filled(flags: ReplayFlags, recording: AnyRecording, fit: StepFit | None) -> ReplayFlags:
    """Return the flags with the recorded settings where the user said nothing."""
    kinds = get_type_hints(ReplayFlags)
    changes: dict[str, Any] = {}
    for name in _FLAGS:
        value = _recorded(recording, name, fit)
        if name in flags.given or value is None:
            continue
        if name == "host_blocks" and flags.host_memory is not None:
            continue
        _require_kind(kinds[name], value, _SETTINGS[name], recording.path)
        changes[name] = value
    if recording.header.producer == "live" and "arrivals" not in flags.given:
        changes["arrivals"] = "timed"
    return replace(flags, **changes)


def _require_kind(kind: Any, value: object, name: str, path: str) -> None:
    """Check a recorded setting by the flag's type: a file may say anything."""
    able = get_args(kind) or (kind,)
    if float in able:
        able += (int,)
    if not isinstance(value, able) or (isinstance(value, bool) and bool not in able):
        raise InputError(
            "no such setting", file=path, field=name, value=value,
            remedy="the recording's header is damaged",
        )  # fmt: skip


def _engine(flags: ReplayFlags, filled: ReplayFlags, recording: AnyRecording) -> EngineChoice:
    """Return the recorded engine, with the pool that the flags ask for."""
    from kvatlas.cli.engines import choose_engine

    if flags.model is not None or flags.kv_memory is not None:
        return choose_engine(replace(filled, blocks=flags.blocks, block_size=flags.block_size))
    groups = recording.header.config.get("kv_cache_groups")
    if filled.engine == "nano-vllm" or not groups:
        return choose_engine(filled)
    from kvatlas.cli.pools import PoolChoice

    blocks, block_size = filled.blocks or recording.header.num_blocks, filled.block_size or 16
    specs = _groups(groups, recording.path)
    said = {
        name: recording.header.config.get(name)
        for name in ("model", "kv_memory_bytes", "bytes_per_block", "bytes_per_token")
    }
    notes: tuple[str, ...] = ()
    if flags.block_size is not None and flags.block_size != recording.header.groups[0].block_size:
        if len(specs) > 1 or type(specs[0]).__name__ != "FullAttentionSpec" or block_size < 1:
            raise InputError(
                "the block sizes of this model's layers depend on each other",
                field="--block-size", value=flags.block_size, remedy="leave the flag out",
            )  # fmt: skip
        if flags.blocks is None:
            # As many as fit the same memory.
            blocks = blocks * recording.header.groups[0].block_size // block_size
            notes = (f"--block-size {block_size}: {blocks:,} blocks, the same memory",)
        specs, said = None, dict.fromkeys(said)
    pool = PoolChoice(
        num_blocks=blocks,
        block_size=block_size,
        groups=specs,
        said={"blocks_from": "--blocks", **said},
        notes=notes,
    )
    return choose_engine(
        filled,
        pool=pool,
        more={
            name: recording.header.config[name]
            for name in ("prefix_cache_retention_interval", "hash_block_size")
            if specs is not None and len(specs) > 1 and name in recording.header.config
        },
    )


def _groups(said: Any, path: str) -> Any:
    from kvatlas.plan.groups import group_of

    try:
        return tuple(group_of(group) for group in said)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"damaged KV cache groups: {error}", file=path, field="kv_cache_groups"
        ) from error
