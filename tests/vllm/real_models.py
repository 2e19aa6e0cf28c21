"""Real vLLM models without weights: the pages that their layers really ask for.

Owns: building vLLM's own model class from a config on torch's meta device (no memory, no weights)
and reading its layers' specs, their groups and a block's bytes. Written for vLLM 0.32.0, CPU build.

What a layer keeps does not depend on its MLP, so experts become small dense MLPs where vLLM's CPU
build has no kernel for them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from real_layers import LAYOUT, vllm_words
from vllm.config import set_current_vllm_config
from vllm.distributed import init_distributed_environment, initialize_model_parallel
from vllm.distributed.parallel_state import get_tp_group, model_parallel_is_initialized
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.platforms import current_platform
from vllm.platforms.interface import Platform
from vllm.utils.torch_utils import set_default_torch_dtype
from vllm.v1.attention.backend import MultipleOf
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend
from vllm.v1.attention.backends.mla.cpu_mla import CPUMLABackend
from vllm.v1.core import kv_cache_utils as utils
from vllm.v1.worker.gpu.attn_utils import get_kv_cache_spec

CPU_KERNEL_BLOCK_TOKENS = 32

_ARCHITECTURES = {
    "cohere2": "Cohere2ForCausalLM",
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "glm4": "Glm4ForCausalLM",
    "glm4_moe": "Glm4MoeForCausalLM",
    "gpt_oss": "GptOssForCausalLM",
    "granite": "GraniteForCausalLM",
    "granitemoehybrid": "GraniteMoeHybridForCausalLM",
    "kimi_k2": "DeepseekV3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "llama4_text": "Llama4ForCausalLM",
    "minimax_m2": "MiniMaxM2ForCausalLM",
    "mistral": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "nemotron_h": "NemotronHForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "qwen3_next": "Qwen3NextForCausalLM",
    "qwen3_5_text": "Qwen3_5ForCausalLM",
    "qwen3_5_moe_text": "Qwen3_5MoeForCausalLM",
}
_SMALL = {
    "vocab_size": 512,
    "intermediate_size": 256,
    "moe_intermediate_size": 256,
    "shared_expert_intermediate_size": 256,
    "shared_intermediate_size": 256,
    "torch_dtype": "bfloat16",
    "num_experts": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "rotary_dim": 64,
    "scoring_func": "sigmoid",
}


@dataclass(frozen=True)
class RealModel:
    """What vLLM makes of a config."""

    layers: tuple[tuple[str, int, int, int], ...]
    """Kind, block size, page bytes and window of each layer, in the model's order."""
    groups: tuple[tuple[int, str, int, int, int], ...]
    """Number of layers, kind, block size, page bytes and window of each group."""
    bytes_per_block: int


def real_model(
    fields: Mapping[str, Any],
    folder: Path,
    *,
    block_size: int = 32,
    kv_dtype: str = "auto",
    tp: int = 1,
    caching: bool = True,
    max_model_len: int = 4096,
    gpu_kernels: bool = False,
) -> RealModel:
    """Return vLLM's layers and groups for a text model's config fields.

    With `gpu_kernels` blocks are aligned as on a GPU: by vLLM's common code instead of its CPU
    platform's, for attention kernels of any multiple of 16 tokens.
    """
    config = {**_SMALL, **fields, **_dense(fields)}
    config["architectures"] = [_ARCHITECTURES[config["model_type"]]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    arguments = EngineArgs(
        model=str(folder),
        skip_tokenizer_init=True,
        load_format="dummy",
        block_size=block_size,
        kv_cache_dtype=kv_dtype,
        enforce_eager=True,
        max_model_len=max_model_len,
        enable_prefix_caching=caching,
    )
    # Where a CPU has AVX-512 BF16, the CPU build keeps recurrent states in float32; GPUs do not.
    with patch("torch.cpu._is_avx512_bf16_supported", return_value=False):
        vllm_config = arguments.create_engine_config()
    vllm_config.parallel_config.tensor_parallel_size = tp
    with set_current_vllm_config(vllm_config):
        if not model_parallel_is_initialized():
            init_distributed_environment(1, 0, f"file://{folder / 'store'}", 0, "gloo")
            initialize_model_parallel(1, 1)
        group = get_tp_group()
        group.world_size = tp
        try:
            with set_default_torch_dtype(vllm_config.model_config.dtype), torch.device("meta"):
                initialize_model(vllm_config=vllm_config)
            specs = _gpu_specs(vllm_config, block_size) if gpu_kernels else _specs(vllm_config)
        finally:
            group.world_size = 1
    vllm_config.cache_config.kv_cache_layout = LAYOUT.name
    groups = utils.get_kv_cache_groups(vllm_config, dict(specs))
    return RealModel(
        tuple(vllm_words(spec) for spec in specs.values()),
        tuple((len(group.layer_names), *vllm_words(group.kv_cache_spec)) for group in groups),
        utils._get_kv_cache_bytes_per_block(groups, LAYOUT),
    )


def _specs(vllm_config: Any) -> Any:
    current_platform.update_block_size_for_backend(vllm_config)
    return get_kv_cache_spec(vllm_config)


def _gpu_specs(vllm_config: Any, block_size: int) -> Any:
    """Return the specs with blocks as common code aligns them, which the CPU platform overrides."""
    vllm_config.cache_config.block_size = block_size  # the CPU's MLA insists on 16
    update = Platform.update_block_size_for_backend.__func__
    sizes = staticmethod(lambda kv_cache_spec=None: [MultipleOf(16)])
    with (
        patch.object(CPUAttentionBackend, "get_supported_kernel_block_sizes", sizes),
        patch.object(CPUMLABackend, "get_supported_kernel_block_sizes", sizes),
        patch.object(CPUMLABackend, "supports_block_size", classmethod(lambda *_: True)),
    ):
        update(type(current_platform), vllm_config)
        return get_kv_cache_spec(vllm_config)


def _dense(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes that turn experts, whose kernels the CPU build lacks, into dense MLPs."""
    kind = fields["model_type"]
    if kind in ("deepseek_v2", "deepseek_v3", "kimi_k2"):
        rest = {"qk_nope_head_dim": 128, "v_head_dim": 128, "q_lora_rank": 1536}
        return {"first_k_dense_replace": fields["num_hidden_layers"], **rest}
    if kind == "nemotron_h" and "hybrid_override_pattern" in fields:
        return {"hybrid_override_pattern": fields["hybrid_override_pattern"].replace("E", "-")}
    if kind == "glm4_moe":  # which insists on one layer with experts
        return {"first_k_dense_replace": fields["num_hidden_layers"] - 1, "n_routed_experts": 8}
    return {}
