"""`kvatlas budget`: from flags to a request.

Owns: sizes and lists in flags, the files with their progress lines, which flags go together. Leaves
to others: the budget (`kvatlas.budget`), which views there are (`budget_run`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvatlas.cli.budget import BudgetFlags
from kvatlas.cli.capacity_lists import list_parts
from kvatlas.cli.device_input import open_twin
from kvatlas.cli.progress import ProgressLine, reading_line
from kvatlas.errors import InputError
from kvatlas.units import parse_bytes

if TYPE_CHECKING:
    from kvatlas.budget import BudgetRequest, Buffers, RecordedLoad, StartupLog

__all__ = ["load_of", "log_of", "request_of"]


def load_of(flags: BudgetFlags) -> RecordedLoad | None:
    """Return the replayed snapshot, None without one. Raises: InputError."""
    if flags.snapshot is None:
        if flags.snapshot_device is not None:
            raise InputError(
                "a device of no snapshot",
                field="--snapshot-device",
                value=flags.snapshot_device,
                remedy="add --snapshot",
            )
        return None
    for name in ("stuck_bytes", "survival_capacity", "allocated_peak"):
        if getattr(flags, name) is not None:
            raise InputError(
                "the snapshot says that itself",
                field="--" + name.replace("_", "-"),
                value=getattr(flags, name),
                remedy="leave it out, or --snapshot",
            )
    from kvatlas.budget.recorded_load import STAGES, replayed_load

    twin = open_twin(flags.snapshot, flags.snapshot_device, flag="--snapshot-device")
    with ProgressLine(STAGES[0], len(STAGES), "stages") as line:
        return replayed_load(
            twin, flags.snapshot, on_stage=lambda stage: line.update(stage, what=STAGES[stage])
        )


def log_of(flags: BudgetFlags) -> StartupLog | None:
    """Return what the start-up log says, None without one. Raises: InputError."""
    if flags.log is None:
        return None
    from kvatlas.budget import read_startup_log

    with reading_line(flags.log, "Reading the log") as line:
        return read_startup_log(flags.log, on_bytes=line.update)


def _buffers(flags: BudgetFlags, load: RecordedLoad | None) -> Buffers:
    from kvatlas.budget import Buffers

    measured = _size(flags.measured_fragmentation, "--measured-fragmentation")
    if load is not None:
        return load.buffers(
            measured_bytes=measured,
            factor=flags.fragmentation_factor,
            graphs_counted=not flags.enforce_eager,
        )
    survival = _size(flags.survival_capacity, "--survival-capacity")
    allocated = _size(flags.allocated_peak, "--allocated-peak")
    if survival is not None and allocated is not None and survival < allocated:
        raise InputError(
            "no load passes in less than it allocates at its peak",
            field="--survival-capacity",
            value=flags.survival_capacity,
            remedy="look whether it and --allocated-peak were swapped",
        )
    return Buffers.of(
        measured_bytes=measured,
        factor=flags.fragmentation_factor,
        stuck_bytes=_size(flags.stuck_bytes, "--stuck-bytes"),
        survival_bytes=survival,
        allocated_bytes=allocated,
    )


def request_of(flags: BudgetFlags, load: RecordedLoad | None) -> BudgetRequest:
    """Return what the flags ask for. Raises: InputError."""
    from kvatlas.budget import BudgetRequest, Parallel, find_device

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
        buffers=_buffers(flags, load),
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
