"""`kvatlas oom`: what it does, from flags to reports.

Owns: telling snapshots from logs, which flags go together, progress and Ctrl-C. Leaves to others:
the explanation (`kvatlas.oom`), views (`kvatlas.report`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from kvatlas.cli.files import STDOUT, require_writable, write_output
from kvatlas.cli.interrupts import Interrupts
from kvatlas.cli.oom import OomFlags
from kvatlas.cli.progress import ProgressLine
from kvatlas.errors import InputError
from kvatlas.units import parse_bytes

if TYPE_CHECKING:
    from kvatlas.oom import Failure, FailureLog, KvBlock, SnapshotExplanation
    from kvatlas.report.oom_document import OomDocument

__all__ = ["run_oom"]

_FIELDS = frozenset(
    {"model", "block_size", "block_bytes", "device", "memory", "kv_cache_dtype", "snapshot"}
)
_FLAG_OF_FIELD = {"tp": "--tensor-parallel-size", "kv_dtype": "--kv-cache-dtype"}
_PICKLES = (b"(d", b"}q", b"(l", b"}(", b"(c")
"""How pickles of protocols 0 and 1 begin; later ones begin with byte 128."""


def run_oom(flags: OomFlags) -> int:
    """Explain, write and print, return the exit code 0. Raises: InputError."""
    if flags.json is not None:
        for read in (flags.source, flags.snapshot):
            require_writable(flags.json, "--json", None if read == STDOUT else read)
    with _naming_flags():
        document = _document(flags)
    if flags.json is not None:
        from kvatlas.report.replay_json import json_bytes

        write_output(flags.json, json_bytes(document.to_dict()), "--json")
    if flags.json != STDOUT:
        from kvatlas.report.console import make_console
        from kvatlas.report.oom_terminal import print_oom

        print_oom(make_console(), document)
    return 0


def _document(flags: OomFlags) -> OomDocument:
    from kvatlas.cli.version import version
    from kvatlas.oom import explain_failure
    from kvatlas.report.oom_document import OomDocument

    log, snapshot = _sources(flags)
    _require_together(flags, log, snapshot)
    found = None if log is None else _read_log(log)
    block = _block(flags, found)
    failure = None if found is None else _failure_of(found, flags.device)
    verdict = None
    if found is not None and failure is not None:
        verdict = explain_failure(failure, startup=found.startup, block=block)
    explained = None
    stacks: dict[int, str] = {}
    if snapshot is not None:
        explained, stacks = _explain(flags, snapshot, found, failure, block)
    return OomDocument(
        version=version(),
        config={name: value for name, value in asdict(flags).items() if name != "json"},
        log=found,
        failure=failure,
        log_verdict=verdict,
        snapshot=explained,
        snapshot_file=snapshot,
        stacks=stacks,
        block=block,
    )


def _sources(flags: OomFlags) -> tuple[str | None, str | None]:
    """Return (log, snapshot), either None."""
    if flags.source != STDOUT and is_snapshot(Path(flags.source)):
        if flags.snapshot is not None:
            raise InputError(
                "two snapshots",
                field="--snapshot",
                value=flags.snapshot,
                remedy="name the log first, or leave it out",
            )
        return None, flags.source
    return flags.source, flags.snapshot


def is_snapshot(path: Path) -> bool:
    """Say whether a file is a pickle, by its first bytes and its name. Raises: InputError."""
    if path.suffix in (".pickle", ".pkl"):
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(2)
    except OSError as error:
        raise InputError(error.strerror or "cannot be read", file=path) from None
    return head[:1] == b"\x80" or head in _PICKLES


def _require_together(flags: OomFlags, log: str | None, snapshot: str | None) -> None:
    if snapshot is None and flags.memory is not None:
        raise InputError(
            "a log cannot be replayed",
            field="--memory",
            value=flags.memory,
            remedy="add --snapshot PATH",
        )
    if flags.model is not None and flags.block_bytes is not None:
        raise InputError(
            "two sizes of one block",
            field="--block-bytes",
            value=flags.block_bytes,
            remedy="give either --model or --block-bytes",
        )
    for name in ("block_size", "kv_cache_dtype", "tensor_parallel_size"):
        if flags.model is None and getattr(flags, name) is not None:
            raise InputError(
                "says something of a model, and none is given",
                field="--" + name.replace("_", "-"),
                value=getattr(flags, name),
                remedy="add --model",
            )


def _read_log(path: str) -> FailureLog:
    from kvatlas.oom import read_failure_log

    total = None if path == STDOUT or not Path(path).is_file() else Path(path).stat().st_size
    with ProgressLine("Reading the log", total, "bytes") as line, Interrupts() as interrupts:
        return read_failure_log(path, on_bytes=line.update, stop=lambda: interrupts.wanted)


def _failure_of(log: FailureLog, device: int | None) -> Failure:
    """Return the first failure, or the first one of a device."""
    if device is None:
        return log.first
    for failure in log.failures:
        if failure.message is not None and failure.message.device == device:
            return failure
    named = sorted({each.message.device for each in log.failures if each.message is not None})
    raise InputError(
        "no failure of this GPU in the log",
        field="--device",
        value=device,
        remedy=f"GPUs with one: {named}",
    )


def _block(flags: OomFlags, log: FailureLog | None) -> KvBlock | None:
    from kvatlas.oom import kv_block_of_log, kv_block_of_model, kv_block_of_size

    if flags.block_bytes is not None:
        return kv_block_of_size(parse_bytes(flags.block_bytes, field="--block-bytes"))
    if flags.model is None:
        return None if log is None else kv_block_of_log(log.startup)
    said = {} if log is None else log.startup.config
    tp = flags.tensor_parallel_size
    if tp is None:
        text = said.get("tensor_parallel_size", "1")
        tp = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 1
    return kv_block_of_model(
        flags.model,
        block_size=flags.block_size,
        kv_dtype=flags.kv_cache_dtype or "auto",
        tp=tp,
    )


def _explain(
    flags: OomFlags,
    path: str,
    log: FailureLog | None,
    failure: Failure | None,
    block: KvBlock | None,
) -> tuple[SnapshotExplanation, dict[int, str]]:
    from kvatlas.device import DeviceTwin, read_snapshot
    from kvatlas.device.stack_words import stack_name
    from kvatlas.oom import explain_snapshot
    from kvatlas.oom.scene import failures_in

    memory = None if flags.memory is None else parse_bytes(flags.memory, field="--memory")
    if memory is not None and memory < 1:
        raise InputError("not a size of any memory", field="--memory", value=flags.memory)
    message = None if failure is None else failure.message
    device = flags.device
    if device is None and message is not None:
        device = message.device
    snapshot = read_snapshot(path)
    if device is not None and flags.device is None and snapshot.trace(device) is None:
        device = None  # a process that sees one GPU of several counts it as 0
    if device is None and len(snapshot.traces) > 1:
        failed = [each.device for each in snapshot.traces if failures_in(each)]
        device = failed[0] if len(failed) == 1 else None
    twin = DeviceTwin(snapshot, device)
    with (
        ProgressLine("Replaying under other settings", None, "settings") as line,
        Interrupts() as interrupts,
    ):
        found = explain_snapshot(
            twin,
            capacity_bytes=memory,
            message=message,
            startup=None if log is None else log.startup,
            block=block,
            on_done=line.update,
            stop=lambda: interrupts.wanted,
        )
    scene = found.scene
    numbers: set[int] = set()
    if scene is not None:
        numbers = {scene.stack, *(one.stack for one in scene.segments)}
        numbers |= {one.stack for one in scene.pinning}
        numbers |= {one.stack for one in scene.holders}
    return found, {number: stack_name(snapshot.stacks.of(number)) for number in numbers}


@contextmanager
def _naming_flags() -> Iterator[None]:
    """Give errors about a field the name of its flag."""
    try:
        yield
    except InputError as error:
        if error.file is None and error.field in _FLAG_OF_FIELD:
            error.field = _FLAG_OF_FIELD[error.field]
        elif error.file is None and error.field in _FIELDS:
            error.field = "--" + error.field.replace("_", "-")
        raise
