"""`kvatlas budget`: what it does, from flags to reports.

Owns: sizes and lists in flags, errors that name the flag, which view is written where. Leaves to
others: the budget (`kvatlas.budget`), views (`kvatlas.report`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from kvatlas.cli.budget import BudgetFlags
from kvatlas.cli.capacity_lists import list_parts
from kvatlas.cli.files import STDOUT, require_writable, write_output
from kvatlas.errors import InputError
from kvatlas.units import parse_bytes

if TYPE_CHECKING:
    from kvatlas.budget import Budget, BudgetRequest, StartupLog
    from kvatlas.report.budget_document import BudgetDocument, LogSide

__all__ = ["run_budget"]

_FLAG_OF_FIELD = {
    "tp": "--tensor-parallel-size",
    "pp": "--pipeline-parallel-size",
    "dp": "--data-parallel-size",
    "kv_dtype": "--kv-cache-dtype",
    "length": "--lengths",
}
_FIELDS = frozenset(
    (
        "model",
        "device",
        "quantization",
        "dtype",
        "gpu_memory_utilization",
        "block_size",
        "max_num_seqs",
        "max_num_batched_tokens",
        "max_model_len",
        "concurrency",
        "model_runner",
        "fragmentation_factor",
        "survival_capacity",
    )
)


def run_budget(flags: BudgetFlags) -> int:
    """Plan, write and print, return the exit code: 0 when it fits, 1 when it does not.

    Raises: InputError.
    """
    if flags.json is not None:
        require_writable(flags.json, "--json", flags.log)
    with _naming_flags():
        document = _document(flags)
    if flags.json is not None:
        from kvatlas.report.replay_json import json_bytes

        write_output(flags.json, json_bytes(document.to_dict()), "--json")
    if flags.json != STDOUT:
        from kvatlas.report.budget_terminal import print_budget
        from kvatlas.report.console import make_console

        print_budget(make_console(), document)
    return 0 if document.verdict.fits else 1


def _document(flags: BudgetFlags) -> BudgetDocument:
    from kvatlas.budget import (
        budget,
        command_line,
        length_fits,
        measured,
        read_startup_log,
        replay_line,
        verdict,
        vllm_flags,
        with_measured,
    )
    from kvatlas.cli.version import version
    from kvatlas.report.budget_document import BudgetDocument

    request = _request(flags)
    log = None if flags.log is None else read_startup_log(flags.log)
    if flags.use_log:
        if log is None:
            raise InputError("without a log", field="--use-log", remedy="add --log PATH")
        request = with_measured(request, measured(log))
    found = budget(request)
    return BudgetDocument(
        version=version(),
        config={
            name: value for name, value in asdict(flags).items() if name not in ("json", "log")
        },
        found=found,
        verdict=verdict(found),
        fits=length_fits(found),
        flags=vllm_flags(found),
        command=command_line(found),
        replay=replay_line(found),
        log=None if log is None else _log_side(found, log),
    )


def _log_side(found: Budget, log: StartupLog) -> LogSide:
    from kvatlas.budget import compare, log_notes, measured
    from kvatlas.report.budget_document import LogSide

    real = measured(log)
    return LogSide(
        file=log.file,
        version=log.version,
        real=real,
        rows=compare(found, real),
        notes=tuple(log_notes(found, log, real)),
    )


def _request(flags: BudgetFlags) -> BudgetRequest:
    from kvatlas.budget import BudgetRequest, Buffers, Parallel, find_device

    return BudgetRequest(
        model=flags.model,
        device=find_device(flags.device),
        parallel=Parallel(
            tp=flags.tensor_parallel_size,
            pp=flags.pipeline_parallel_size,
            dp=flags.data_parallel_size,
            experts=flags.enable_expert_parallel,
        ),
        dtype=flags.dtype,
        quantization=flags.quantization,
        kv_dtype=flags.kv_cache_dtype,
        block_size=flags.block_size,
        gpu_memory_utilization=flags.gpu_memory_utilization,
        kv_cache_memory_bytes=_size(flags.kv_cache_memory_bytes, "--kv-cache-memory-bytes"),
        max_num_seqs=flags.max_num_seqs,
        max_num_batched_tokens=flags.max_num_batched_tokens,
        max_model_len=flags.max_model_len,
        runner=flags.model_runner,
        enforce_eager=flags.enforce_eager,
        enable_prefix_caching=flags.prefix_caching,
        lengths=_lengths(flags.lengths),
        concurrency=flags.concurrency,
        activation_bytes=_size(flags.activation_memory, "--activation-memory"),
        graph_bytes=_size(flags.cuda_graph_memory, "--cuda-graph-memory"),
        outside_bytes=_size(flags.non_torch_memory, "--non-torch-memory"),
        buffers=Buffers.of(
            measured_bytes=_size(flags.measured_fragmentation, "--measured-fragmentation"),
            factor=flags.fragmentation_factor,
            stuck_bytes=_size(flags.stuck_bytes, "--stuck-bytes"),
            survival_bytes=_size(flags.survival_capacity, "--survival-capacity"),
            allocated_bytes=_size(flags.allocated_peak, "--allocated-peak"),
        ),
    )


def _size(text: str | None, flag: str) -> int | None:
    return None if text is None else parse_bytes(text, field=flag)


def _lengths(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    lengths = []
    for part in list_parts(text, "--lengths"):
        digits = part.replace("_", "")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 11):
            raise InputError(
                "not a number of tokens", field="--lengths", value=part, remedy="write 8192,32768"
            )
        lengths.append(int(digits))
    return tuple(dict.fromkeys(lengths))


@contextmanager
def _naming_flags() -> Iterator[None]:
    """Let errors about a setting name the flag that holds it."""
    try:
        yield
    except InputError as error:
        if error.line is None and error.file is None and error.field is not None:
            if error.field in _FLAG_OF_FIELD:
                error.field = _FLAG_OF_FIELD[error.field]
            elif error.field in _FIELDS:
                error.field = "--" + error.field.replace("_", "-")
        raise
