"""The budget's arithmetic against the installed vLLM's own code: capacity, batches, graphs."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

pytest.importorskip("vllm.v1.core.kv_cache_utils", reason="the real vLLM is not installed here")

from real_configs import DRAWN_FAMILIES
from real_layers import Layer, real_groups, vllm_config
from real_models import real_model
from vllm.config import CUDAGraphMode, VllmConfig
from vllm.distributed.utils import get_pp_indices
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.layers.vocab_parallel_embedding import pad_vocab_size
from vllm.usage.usage_lib import UsageContext
from vllm.v1.core import kv_cache_utils as utils
from vllm.v1.worker.utils import request_memory

from kvatlas.budget import DEVICES, BudgetRequest, Parallel, budget, find_device, verdict
from kvatlas.budget.estimates import capture_sizes, default_batch
from kvatlas.budget.log_lines import GIB_LINES
from kvatlas.budget.mxfp4 import KERNELS
from kvatlas.budget.waterfall import requested_bytes
from kvatlas.budget.weights import VOCAB_PADDING
from kvatlas.model import CATALOGUE, ModelFacts, load_model

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

MEMORY_BYTES = 10**12
LAYOUTS = ("llama-2-13b", "mistral-7b", "gpt-oss-20b", "gemma-3-12b", "llama-4-scout",
           "deepseek-v3", "qwen3-next-80b-a3b", "nemotron-3-nano-30b-a3b")  # fmt: skip
BUILT_HERE = [name for name, fields in CATALOGUE.items() if fields["model_type"] in DRAWN_FAMILIES]
_ROOT = Path(inspect.getfile(VllmConfig)).parents[1]


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("caching", [True, False])
def test_capacity_and_concurrency_are_vllms(name: str, caching: bool) -> None:
    """The line "GPU KV cache size: ... Maximum concurrency ...", from the same blocks."""
    facts = load_model(name)
    longest = min(facts.max_model_len or 8192, 65536)
    found = budget(
        BudgetRequest(
            model=name,
            device=find_device("2TB"),
            max_model_len=longest,
            enable_prefix_caching=caching,
            kv_cache_memory_bytes=MEMORY_BYTES,
        )
    )
    answer, groups = _real_groups(facts, found.block_size, caching)
    assert found.pool.num_blocks == answer.num_blocks
    assert found.tightest.block_bytes == answer.bytes_per_block
    config: Any = SimpleNamespace(
        model_config=SimpleNamespace(max_model_len=longest),
        parallel_config=SimpleNamespace(decode_context_parallel_size=1),
        cache_config=SimpleNamespace(mamba_cache_mode="align" if caching else "none"),
        max_in_flight_tokens=found.pool.in_flight_tokens,
    )
    real: Any = SimpleNamespace(
        kv_cache_groups=groups, num_blocks=answer.num_blocks, hisparse_host_num_blocks=None
    )
    tokens, concurrency = utils.get_kv_cache_capacity(config, real)
    assert found.pool.concurrency(longest) == concurrency
    assert found.pool.capacity_tokens(longest) == tokens


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("caching", [True, False])
def test_the_longest_request_is_vllms(name: str, caching: bool) -> None:
    """GIVEN little memory WHEN vLLM fits `max_model_len` to it, one block held back as its null
    block, THEN it finds our longest request; and it refuses to start where we say it does not fit.
    """
    facts = load_model(name)
    longest = min(facts.max_model_len or 8192, 65536)
    base = BudgetRequest(
        model=name, device=find_device("2TB"), max_model_len=longest, enable_prefix_caching=caching
    )
    plenty = budget(base)
    block_bytes = plenty.tightest.block_bytes
    answer, groups = _real_groups(facts, plenty.block_size, caching)
    assert answer.bytes_per_block == block_bytes
    config = vllm_config(plenty.block_size, caching)
    config.model_config = SimpleNamespace(max_model_len=longest)
    config.cache_config.mamba_cache_mode = "align" if caching else "none"
    config.max_in_flight_tokens = plenty.pool.in_flight_tokens
    whole = plenty.pool.blocks_per_request(longest)
    for blocks in (1, 2, 9, 10, whole // 7 + 1, whole // 2, whole, whole + 1, whole + 2):
        found = budget(replace(base, kv_cache_memory_bytes=blocks * block_bytes + 1))
        usable = (blocks - 1) * block_bytes
        fitted = utils._estimate_max_model_len_from_groups(config, groups, usable)
        assert found.pool.longest(longest) == fitted, blocks
        needed = utils._max_memory_usage_bytes_from_groups(config, groups)
        assert verdict(found).fits == (0 < needed <= usable), blocks


@pytest.mark.parametrize(
    ("name", "tp", "kv_dtype", "caching"),
    [
        *((name, 1, "auto", True) for name in BUILT_HERE),
        *((name, 4, "fp8", False) for name in LAYOUTS),
    ],
)
def test_blocks_are_those_of_vllms_own_model_class(
    name: str, tp: int, kv_dtype: str, caching: bool, tmp_path: Path
) -> None:
    """GIVEN a model's config WHEN vLLM's class is built from it and its blocks are aligned for a
    GPU THEN the budget has its groups, pages and bytes per block.
    """
    fields = {key: value for key, value in CATALOGUE[name].items() if key != "source"}
    tp = tp if _divides(tp, fields) else 1
    found = budget(
        BudgetRequest(
            model=name,
            device=find_device("4TB"),
            parallel=Parallel(tp=tp),
            kv_dtype=kv_dtype,
            max_model_len=4096,
            enable_prefix_caching=caching,
        )
    )
    real = real_model(
        fields,
        tmp_path,
        block_size=64 if "kv_lora_rank" in fields else 16,
        kv_dtype=kv_dtype,
        tp=tp,
        caching=caching,
        gpu_kernels=True,
    )
    ours = tuple(
        (group.layers, group.kind, spec.block_size, spec.page_size_bytes, group.window_tokens)
        for group, spec in zip(found.groups, found.pool.groups, strict=True)
    )
    kinds = {"mamba": "recurrent"}
    theirs = tuple((layers, kinds.get(kind, kind), *rest) for layers, kind, *rest in real.groups)
    assert ours == theirs
    assert found.tightest.block_bytes == real.bytes_per_block


def _divides(tp: int, fields: Mapping[str, Any]) -> bool:
    """Whether vLLM can share the heads over so many ranks."""
    heads = fields["num_key_value_heads"]
    recurrent = fields.get("linear_num_key_heads", fields.get("n_groups", tp))
    few, many = min(heads, tp), max(heads, tp)
    return not (fields["num_attention_heads"] % tp or many % few or recurrent % tp)


def _real_groups(facts: ModelFacts, block_size: int, caching: bool) -> tuple[Any, list[Any]]:
    """Return vLLM's groups of the model's layers, made of its own specs."""
    page = max(
        block_size * layer.kv_heads * layer.elements_per_head * 2
        for layer in facts.layers
        if layer.kind != "recurrent"
    )
    layers = {}
    for layer in facts.layers:
        name = f"layers.{layer.index}"
        if layer.kind == "recurrent":
            assert facts.recurrent is not None
            layers[name] = Layer(
                "mamba",
                block_size if caching else 65536,
                state_bytes=facts.recurrent.page_bytes(),
                padded_bytes=page,
                mode="align" if caching else "none",
            )
        else:
            layers[name] = Layer(
                layer.kind, block_size, layer.kv_heads, layer.head_size, tokens=layer.window_tokens
            )
    made = real_groups(layers, MEMORY_BYTES)
    assert not isinstance(made, str), made
    return made


@pytest.mark.parametrize("share", [0.1, 0.9, 0.92, 0.95, 1.0])
def test_requested_memory_is_vllms(share: float) -> None:
    for device in DEVICES.values():
        snapshot: Any = SimpleNamespace(
            total_memory=device.total_bytes, free_memory=device.total_bytes, device_="cuda:0"
        )
        real = request_memory(snapshot, SimpleNamespace(gpu_memory_utilization=share))
        assert requested_bytes(device.total_bytes, share) == real


@pytest.mark.parametrize("name", DEVICES)
def test_batch_defaults_are_vllms(name: str) -> None:
    device = DEVICES[name]
    platform = import_module("vllm.platforms").current_platform
    with (
        patch.object(
            type(platform), "get_device_total_memory", lambda *_, **__: device.total_bytes
        ),
        patch.object(type(platform), "get_device_name", lambda *_, **__: device.title),
        patch.object(type(platform), "is_cpu", lambda *_: False),
    ):
        tokens, sequences = EngineArgs.get_batch_defaults(1)
    server = UsageContext.OPENAI_API_SERVER
    assert default_batch(device) == (tokens[server], sequences[server])


@pytest.mark.parametrize(("tokens", "sequences"), [(8192, 1024), (2048, 256), (100, 100), (64, 7),
                                                   (16384, 33), (5, 3), (8192, 300)])  # fmt: skip
@pytest.mark.parametrize("blackwell", [False, True])
def test_graph_sizes_are_vllms(tokens: int, sequences: int, blackwell: bool) -> None:
    compilation = SimpleNamespace(
        cudagraph_mode=CUDAGraphMode.FULL_AND_PIECEWISE,
        max_cudagraph_capture_size=None,
        cudagraph_capture_sizes=None,
        post_init_cudagraph_sizes=lambda: None,
    )
    config: Any = SimpleNamespace(
        model_config=SimpleNamespace(enforce_eager=False),
        compilation_config=compilation,
        scheduler_config=SimpleNamespace(max_num_seqs=sequences, max_num_batched_tokens=tokens),
        uniform_decode_query_len=1,
        performance_mode="balanced",
    )
    platform = import_module("vllm.platforms").current_platform
    with patch.object(
        type(platform), "is_device_capability_family", lambda *_, **__: blackwell, create=True
    ):
        VllmConfig._set_cudagraph_sizes(config)
    device = DEVICES["b200" if blackwell else "h100"]
    assert capture_sizes(device, tokens, sequences) == compilation.cudagraph_capture_sizes


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("name", ["llama-3.1-8b", "deepseek-v3", "qwen3-235b-a22b"])
def test_pipeline_stages_are_vllms(name: str, stages: int) -> None:
    with patch.dict(os.environ):
        os.environ.pop("VLLM_PP_LAYER_PARTITION", None)
        found = budget(
            BudgetRequest(model=name, device=find_device("2TB"), parallel=Parallel(pp=stages))
        )
        layers = found.stages[-1].stage.layers[1]
        for each in found.stages:
            assert each.stage.layers == get_pp_indices(layers, each.stage.rank, stages)


def test_vocabulary_padding_is_vllms() -> None:
    for size in (1, 63, 64, 65, 32000, 151936, 201088):
        assert VOCAB_PADDING * math.ceil(size / VOCAB_PADDING) == pad_vocab_size(size)


def test_padding_of_four_bit_experts_is_vllms() -> None:
    oracle = import_module("vllm.model_executor.layers.fused_moe.oracle.mxfp4")
    names = {
        "triton": "TRITON",
        "marlin": "MARLIN",
        "trtllm": "FLASHINFER_TRTLLM_MXFP4_BF16",
    }
    for name, theirs in names.items():
        kernel = KERNELS[name]
        for hidden in (2880, 3072, 4096, 100):
            for inner in (2880, 1440, 720, 360, 64, 1):
                real = oracle.mxfp4_round_up_hidden_size_and_intermediate_size(
                    oracle.Mxfp4MoeBackend[theirs], hidden, inner
                )
                assert kernel.padded(hidden, inner) == real, (name, hidden, inner)


def test_the_lines_of_a_log_are_those_that_vllm_prints() -> None:
    """Every phrase of 0.32 that we look for stands in its source."""
    files = (
        "v1/worker/gpu_worker.py",
        "v1/worker/gpu_model_runner.py",
        "v1/core/kv_cache_utils.py",
        "v1/engine/core.py",
        "platforms/interface.py",
    )
    source = " ".join((_ROOT / file).read_text(encoding="utf-8") for file in files)
    joined = " ".join("".join(source.split('"')).split())  # as the halves of a literal print
    older = {
        "Loading model weights took",
        "GiB for weight,",
        "model weights take",
        "total_gpu_memory",
    }
    for phrase, _, _ in GIB_LINES:
        if phrase not in older:
            assert phrase in joined, phrase
    for phrase in (
        "KV cache size: ",
        "Maximum concurrency for ",
        "LLM engine (v",
        "CUDA graph memory profiling is enabled",
        "Setting attention block size to ",
    ):
        assert phrase in joined, phrase
