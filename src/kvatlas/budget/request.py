"""What a budget is asked for.

Owns: the settings under vLLM's names, and what is missing by default. Leaves to others: reading
the model (`kvatlas.model`), the arithmetic (`plan`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from kvatlas.budget.devices import Device
from kvatlas.budget.estimates import RUNNERS
from kvatlas.budget.quantization import WEIGHT_DTYPES
from kvatlas.budget.waterfall import Buffers
from kvatlas.budget.weights import Parallel
from kvatlas.errors import InputError

__all__ = ["BudgetRequest"]

_MOST_TOKENS = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRequest:
    """The question: this model, on these devices, with these settings.

    Attributes:
        model: a config.json, a folder that holds one, or a name of the catalogue.
        device: each rank's.
        parallel: how the model is spread.
        dtype, quantization, kv_dtype: as on vLLM's command line; `auto` asks the config.
        block_size: tokens per block; None for 16, or 64 with MLA, whose kernels want it.
        gpu_memory_utilization: the share of the device that vLLM may use.
        kv_cache_memory_bytes: what the KV cache gets instead of what is left; None for that.
        max_num_seqs, max_num_batched_tokens: None for vLLM's own on this device.
        max_model_len: None for the config's.
        runner: vLLM's model runner, a key of `RUNNERS`.
        enforce_eager: no CUDA graphs.
        enable_prefix_caching: decides how recurrent layers keep their states.
        lengths: tokens of requests to judge; empty for `max_model_len`.
        concurrency: how many of them at the same time; None for one.
        activation_bytes, graph_bytes, outside_bytes: figures instead of estimates.
        loaded_bytes: what weights really took on one rank, such as a log says; None for the
            computed figure alone.
        from_log: names of those of the four that a log measured.
        buffers: against fragmentation.
    """

    model: str | os.PathLike[str]
    device: Device
    parallel: Parallel = field(default_factory=Parallel)
    dtype: str = "auto"
    quantization: str = "auto"
    kv_dtype: str = "auto"
    block_size: int | None = None
    gpu_memory_utilization: float = 0.92
    kv_cache_memory_bytes: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_model_len: int | None = None
    runner: str = "v2"
    enforce_eager: bool = False
    enable_prefix_caching: bool = True
    lengths: tuple[int, ...] = ()
    concurrency: int | None = None
    activation_bytes: int | None = None
    graph_bytes: int | None = None
    outside_bytes: int | None = None
    loaded_bytes: int | None = None
    from_log: frozenset[str] = frozenset()
    buffers: Buffers = field(default_factory=Buffers)

    def __post_init__(self) -> None:
        for name in (
            "block_size",
            "max_num_seqs",
            "max_num_batched_tokens",
            "max_model_len",
            "concurrency",
        ):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= _MOST_TOKENS:
                raise InputError("must be at least 1", field=name, value=value)
        for name in ("activation_bytes", "graph_bytes", "outside_bytes", "loaded_bytes"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InputError("memory that is given back", field=name, value=value)
        for length in self.lengths:
            if not 1 <= length <= _MOST_TOKENS:
                raise InputError("must be at least 1 token", field="length", value=length)
        if self.runner not in RUNNERS:
            raise InputError(
                "unknown model runner",
                field="model_runner",
                value=self.runner,
                remedy=f"use one of {', '.join(RUNNERS)}",
            )
        if self.dtype not in WEIGHT_DTYPES:
            raise InputError(
                "unknown dtype",
                field="dtype",
                value=self.dtype,
                remedy=f"use one of {', '.join(WEIGHT_DTYPES)}",
            )
