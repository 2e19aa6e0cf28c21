"""`kvatlas budget`: the flags.

Owns: names, defaults and help. Leaves to others: what happens (`budget_run`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from kvatlas.cli.shared_flags import OUTPUT, option, switch

__all__ = ["BudgetFlags", "budget"]

_MODEL, _PARALLEL, _SERVER = "Model and device", "Parallelism", "Server"
_WANTED, _MEASURED = "What is wanted", "Measured instead of estimated"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetFlags:
    """What the user gave; `None` where nothing was given."""

    model: str
    device: str
    quantization: str
    dtype: str
    kv_cache_dtype: str
    tensor_parallel_size: int
    pipeline_parallel_size: int
    data_parallel_size: int
    enable_expert_parallel: bool
    gpu_memory_utilization: float
    kv_cache_memory_bytes: str | None
    block_size: int | None
    max_num_seqs: int | None
    max_num_batched_tokens: int | None
    max_model_len: int | None
    model_runner: str
    enforce_eager: bool
    prefix_caching: bool
    lengths: str | None
    concurrency: int | None
    log: str | None
    use_log: bool
    activation_memory: str | None
    cuda_graph_memory: str | None
    non_torch_memory: str | None
    snapshot: str | None
    snapshot_device: int | None
    measured_fragmentation: str | None
    fragmentation_factor: float
    stuck_bytes: str | None
    survival_capacity: str | None
    allocated_peak: str | None
    html: str | None
    json: str | None


def budget(
    model: Annotated[
        str,
        option(
            "--model",
            help="A config.json, a folder that holds one, or a known model's name.",
            panel=_MODEL,
            metavar="MODEL",
        ),
    ],
    device: Annotated[
        str,
        option(
            "--device",
            help="Each rank's device: a known one, such as h200, or its size, such as 80GiB.",
            panel=_MODEL,
            metavar="DEVICE",
        ),
    ],
    quantization: Annotated[
        str,
        option(
            "--quantization",
            help="How matrices are stored; auto asks the config.",
            panel=_MODEL,
            metavar="NAME",
        ),
    ] = "auto",
    dtype: Annotated[
        str, option("--dtype", help="Of the other weights.", panel=_MODEL, metavar="DTYPE")
    ] = "auto",
    kv_cache_dtype: Annotated[
        str,
        option("--kv-cache-dtype", help="Of keys and values.", panel=_MODEL, metavar="DTYPE"),
    ] = "auto",
    tensor_parallel_size: Annotated[
        int,
        option(
            "--tensor-parallel-size",
            "--tp",
            help="Ranks that share each layer.",
            panel=_PARALLEL,
            metavar="N",
        ),
    ] = 1,
    pipeline_parallel_size: Annotated[
        int,
        option(
            "--pipeline-parallel-size",
            "--pp",
            help="Stages that share the layers.",
            panel=_PARALLEL,
            metavar="N",
        ),
    ] = 1,
    data_parallel_size: Annotated[
        int,
        option(
            "--data-parallel-size",
            "--dp",
            help="Ranks with requests of their own; they share the experts.",
            panel=_PARALLEL,
            metavar="N",
        ),
    ] = 1,
    enable_expert_parallel: Annotated[
        bool,
        option(
            "--enable-expert-parallel",
            help="Whole experts per rank instead of a part of each.",
            panel=_PARALLEL,
        ),
    ] = False,
    gpu_memory_utilization: Annotated[
        float,
        option(
            "--gpu-memory-utilization",
            help="The share of the device that vLLM may use.",
            panel=_SERVER,
            metavar="SHARE",
        ),
    ] = 0.92,
    kv_cache_memory_bytes: Annotated[
        str | None,
        option(
            "--kv-cache-memory-bytes",
            help="What the KV cache gets, instead of what is left: 40GiB, or bytes.",
            panel=_SERVER,
            metavar="SIZE",
        ),
    ] = None,
    block_size: Annotated[
        int | None,
        option(
            "--block-size",
            help="Tokens per block; 16 by default, 64 with MLA.",
            panel=_SERVER,
            metavar="TOKENS",
        ),
    ] = None,
    max_num_seqs: Annotated[
        int | None,
        option(
            "--max-num-seqs",
            help="Requests in a step; vLLM's own on this device by default.",
            panel=_SERVER,
            metavar="N",
        ),
    ] = None,
    max_num_batched_tokens: Annotated[
        int | None,
        option(
            "--max-num-batched-tokens",
            help="Tokens in a step; vLLM's own for `vllm serve` on this device by default.",
            panel=_SERVER,
            metavar="TOKENS",
        ),
    ] = None,
    max_model_len: Annotated[
        int | None,
        option(
            "--max-model-len",
            help="The longest request; the config's by default.",
            panel=_SERVER,
            metavar="TOKENS",
        ),
    ] = None,
    model_runner: Annotated[
        str,
        option(
            "--model-runner",
            help="v2 is vLLM 0.32's own, v1 the older one, v1-sort that of vLLM 0.9 to 0.11: they "
            "sample in the profile run with more and more memory.",
            panel=_SERVER,
            metavar="[v2|v1|v1-sort]",
        ),
    ] = "v2",
    enforce_eager: Annotated[
        bool, option("--enforce-eager", help="No CUDA graphs.", panel=_SERVER)
    ] = False,
    prefix_caching: Annotated[
        bool,
        switch(
            "prefix-caching",
            on=True,
            help="Decides how recurrent layers keep their states.",
            panel=_SERVER,
        ),
    ] = True,
    lengths: Annotated[
        str | None,
        option(
            "--lengths",
            "--length",
            help="Tokens of requests to judge, prompt and output together; the longest allowed "
            "by default.",
            panel=_WANTED,
            metavar="N,N,...",
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        option(
            "--concurrency",
            help="How many requests of the longest of these lengths at the same time.",
            panel=_WANTED,
            metavar="N",
        ),
    ] = None,
    log: Annotated[
        str | None,
        option(
            "--log",
            help="A vLLM server's start-up log, to be shown beside the prediction; - reads it from "
            "standard input.",
            panel=_MEASURED,
            metavar="PATH",
        ),
    ] = None,
    use_log: Annotated[
        bool,
        option(
            "--use-log",
            help="Take what the log measured in the place of estimates; its server must have had "
            "the same settings.",
            panel=_MEASURED,
        ),
    ] = False,
    activation_memory: Annotated[
        str | None,
        option(
            "--activation-memory",
            help="Peak of the profile run.",
            panel=_MEASURED,
            metavar="SIZE",
        ),
    ] = None,
    cuda_graph_memory: Annotated[
        str | None,
        option("--cuda-graph-memory", help="Of CUDA graphs.", panel=_MEASURED, metavar="SIZE"),
    ] = None,
    non_torch_memory: Annotated[
        str | None,
        option("--non-torch-memory", help="Outside PyTorch.", panel=_MEASURED, metavar="SIZE"),
    ] = None,
    snapshot: Annotated[
        str | None,
        option(
            "--snapshot",
            help="A memory snapshot of a load, which is replayed for both buffers against "
            "fragmentation.",
            panel=_MEASURED,
            metavar="PATH",
        ),
    ] = None,
    snapshot_device: Annotated[
        int | None,
        option(
            "--snapshot-device",
            help="Which of the snapshot's devices, where several have a trace.",
            panel=_MEASURED,
            metavar="N",
        ),
    ] = None,
    measured_fragmentation: Annotated[
        str | None,
        option(
            "--measured-fragmentation",
            help="Reserved less allocated bytes at the peak of profiling, for the published "
            "buffer.",
            panel=_MEASURED,
            metavar="SIZE",
        ),
    ] = None,
    fragmentation_factor: Annotated[
        float,
        option(
            "--fragmentation-factor",
            help="The published buffer's factor.",
            panel=_MEASURED,
            metavar="X",
        ),
    ] = 1.0,
    stuck_bytes: Annotated[
        str | None,
        option(
            "--stuck-bytes",
            help="Stuck bytes of a replayed load, for a buffer of that size.",
            panel=_MEASURED,
            metavar="SIZE",
        ),
    ] = None,
    survival_capacity: Annotated[
        str | None,
        option(
            "--survival-capacity",
            help="The smallest capacity on which a load replays; the buffer is that less "
            "--allocated-peak.",
            panel=_MEASURED,
            metavar="SIZE",
        ),
    ] = None,
    allocated_peak: Annotated[
        str | None,
        option(
            "--allocated-peak",
            help="The same load's peak of allocated bytes.",
            panel=_MEASURED,
            metavar="SIZE",
        ),
    ] = None,
    html: Annotated[
        str | None,
        option("--html", help="Write the report as one HTML page.", panel=OUTPUT, metavar="PATH"),
    ] = None,
    json: Annotated[
        str | None,
        option(
            "--json",
            help="Write the report as JSON; - for standard output.",
            panel=OUTPUT,
            metavar="PATH",
        ),
    ] = None,
) -> None:
    """Say where a server's memory goes: weights, activations, graphs, and how much KV is left."""
    flags = BudgetFlags(**locals())
    from kvatlas.cli.budget_run import run_budget

    raise typer.Exit(run_budget(flags))
