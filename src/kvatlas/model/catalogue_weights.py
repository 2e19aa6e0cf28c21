"""What the public configs of the catalogue say about weights.

Owns: the fields that decide how many parameters a model has and how they are stored, per name of
the catalogue. Leaves to others: the fields of the KV layout (`catalogue`), counting
(`kvatlas.budget`).

Sources: the same config.json files. Held against the parameters that transformers' own classes
make of them (tests/vllm/test_parameters_twin.py) and against published totals
(tests/budget/test_published.py). Only the language model's part: a vision tower is not listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["CATALOGUE_WEIGHTS"]


def _dense(vocab: int, intermediate: int, **more: Any) -> dict[str, Any]:
    return {"vocab_size": vocab, "intermediate_size": intermediate, **more}


def _mxfp4() -> dict[str, Any]:
    kept = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens"]
    return {
        "quantization_config": {
            "quant_method": "mxfp4",
            "modules_to_not_convert": [*kept, "lm_head"],
        }
    }


def _fp8_blocks(*kept: str) -> dict[str, Any]:
    return {
        "quantization_config": {
            "quant_method": "fp8",
            "weight_block_size": [128, 128],
            "modules_to_not_convert": list(kept),
        }
    }


def _deepseek(vocab: int, experts: int, dense_layers: int, heads: int) -> dict[str, Any]:
    return {
        **_dense(vocab, 18432, tie_word_embeddings=False),
        "moe_intermediate_size": 2048,
        "n_routed_experts": experts,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": dense_layers,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
        "num_nextn_predict_layers": int(heads == 128),
        **_fp8_blocks(),
    }


def _gpt_oss(experts: int) -> dict[str, Any]:
    return _dense(
        201088,
        2880,
        num_local_experts=experts,
        num_experts_per_tok=4,
        attention_bias=True,
        **_mxfp4(),
    )


def _llama_4(experts: int, every: int) -> dict[str, Any]:
    return _dense(
        202048,
        8192,
        intermediate_size_mlp=16384,
        num_local_experts=experts,
        num_experts_per_tok=1,
        interleave_moe_layer_step=every,
    )


def _qwen3_moe(intermediate: int, expert: int) -> dict[str, Any]:
    return _dense(
        151936,
        intermediate,
        moe_intermediate_size=expert,
        num_experts=128,
        num_experts_per_tok=8,
        decoder_sparse_step=1,
    )


CATALOGUE_WEIGHTS: Mapping[str, Mapping[str, Any]] = {
    "llama-2-7b": _dense(32000, 11008),
    "llama-2-13b": _dense(32000, 13824),
    "llama-2-70b": _dense(32000, 28672),
    "llama-3.1-8b": _dense(128256, 14336),
    "llama-3.1-70b": _dense(128256, 28672),
    "llama-3.1-405b": _dense(128256, 53248),
    "llama-3.2-1b": _dense(128256, 8192, tie_word_embeddings=True),
    "llama-3.2-3b": _dense(128256, 8192, tie_word_embeddings=True),
    "llama-4-scout": _llama_4(16, 1),
    "llama-4-maverick": _llama_4(128, 2),
    "qwen2.5-7b": _dense(152064, 18944),
    "qwen2.5-72b": _dense(152064, 29568),
    "qwen3-8b": _dense(151936, 12288),
    "qwen3-32b": _dense(151936, 25600),
    "qwen3-30b-a3b": _qwen3_moe(6144, 768),
    "qwen3-235b-a22b": _qwen3_moe(12288, 1536),
    "qwen3-next-80b-a3b": _dense(
        151936,
        5120,
        moe_intermediate_size=512,
        shared_expert_intermediate_size=512,
        num_experts=512,
        num_experts_per_tok=10,
        decoder_sparse_step=1,
    ),
    "qwen3.5-27b": _dense(248320, 17408, tie_word_embeddings=False),
    "mistral-7b": _dense(32000, 14336),
    "mixtral-8x7b": _dense(32000, 14336, num_local_experts=8, num_experts_per_tok=2),
    "phi-4": _dense(100352, 17920),
    "gemma-2-9b": _dense(256000, 14336),
    "gemma-2-27b": _dense(256000, 36864),
    "gemma-3-12b": _dense(262208, 15360),
    "gemma-3-27b": _dense(262208, 21504),
    "gpt-oss-20b": _gpt_oss(32),
    "gpt-oss-120b": _gpt_oss(128),
    "deepseek-v2-lite": {
        **_dense(102400, 10944, tie_word_embeddings=False),
        "moe_intermediate_size": 1408,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "num_experts_per_tok": 6,
        "first_k_dense_replace": 1,
        "q_lora_rank": None,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
    },
    "deepseek-v3": _deepseek(129280, 256, 3, 128),
    "deepseek-r1": _deepseek(129280, 256, 3, 128),
    "kimi-k2": _deepseek(163840, 384, 1, 64),
    "glm-4.5-air": _dense(
        151552,
        10944,
        moe_intermediate_size=1408,
        n_routed_experts=128,
        n_shared_experts=1,
        num_experts_per_tok=8,
        first_k_dense_replace=1,
        attention_bias=True,
        use_qk_norm=False,
        num_nextn_predict_layers=1,
        tie_word_embeddings=False,
    ),
    "minimax-m2.5": _dense(
        200064,
        1536,
        num_local_experts=256,
        num_experts_per_tok=8,
        **_fp8_blocks("gate", "e_score_correction_bias", "lm_head"),
    ),
    "nemotron-3-nano-30b-a3b": _dense(
        131072,
        1856,
        moe_intermediate_size=1856,
        moe_shared_expert_intermediate_size=3712,
        n_routed_experts=128,
        n_shared_experts=1,
        num_experts_per_tok=6,
        expand=2,
        tie_word_embeddings=False,
    ),
}
