"""Predictions against what public measurements of vLLM say, and how far they are off.

Sources: "vLLM Empirical Memory Profiling Results", the llm-d project's measurements with vLLM 0.11
on H100s of 79.18 GiB (github.com/llm-d-incubation/llm-d-planner), eight starts of `vllm serve`
with `--block-size 128 --gpu-memory-utilization 0.9`; vLLM's pull request 10511; MLCommons
inference issue 2267.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvatlas.budget import (
    DEVICES,
    Budget,
    BudgetRequest,
    Parallel,
    Weight,
    budget,
    find_device,
)
from kvatlas.budget.mxfp4 import KERNELS

GIB = 1 << 30
QWEN3_06B = {
    "model_type": "qwen3",
    "num_hidden_layers": 28,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "max_position_embeddings": 40960,
}
MEASURED = (
    # model, quantization, ranks, then GiB: weights, activations, outside PyTorch, KV cache
    ("llama-3.1-8b", "auto", 1, 14.99, 4.76, 0.13, 51.38),
    ("llama-3.1-70b", "fp8", 2, 33.88, 4.84, 0.55, 32.00),
    ("qwen3-0.6b", "auto", 1, 1.12, 5.56, 0.13, 64.45),
    ("qwen3-32b", "auto", 1, 61.03, 5.64, 0.14, 4.45),
    ("qwen3-32b", "auto", 2, 30.59, 5.64, 0.54, 34.49),
    ("gpt-oss-20b", "auto", 1, 13.47, 7.38, 0.13, 50.28),
    # Its published terms do not add up to its published KV cache, which is left out here.
    ("gpt-oss-120b", "auto", 1, 64.38, 7.38, 0.13, None),
)


def predicted(model: str, quantization: str, tp: int, tmp_path: Path) -> Budget:
    """Return the budget of a start of vLLM 0.11, which took nothing off for graphs."""
    if model == "qwen3-0.6b":
        path = tmp_path / "config.json"
        path.write_text(json.dumps(QWEN3_06B))
        model = str(path)
    return budget(
        BudgetRequest(
            model=model,
            device=replace(DEVICES["h100"], total_bytes=round(79.18 * GIB)),
            parallel=Parallel(tp=tp),
            quantization=quantization,
            gpu_memory_utilization=0.9,
            block_size=128,
            max_model_len=16000,
            runner="v1-sort",
            graph_bytes=0,
        )
    )


@pytest.mark.parametrize(
    ("model", "quantization", "tp", "weights", "peak", "outside", "kv"), MEASURED
)
def test_a_start_of_vllm_is_predicted(
    model: str,
    quantization: str,
    tp: int,
    weights: float,
    peak: float,
    outside: float,
    kv: float | None,
    tmp_path: Path,
) -> None:
    found = predicted(model, quantization, tp, tmp_path)
    waterfall = found.tightest.waterfall
    terms = {term.name: term.size_bytes / GIB for term in waterfall.terms}

    assert terms["activations"] == pytest.approx(peak, abs=0.05)
    assert terms["outside PyTorch"] == pytest.approx(outside, abs=0.06)
    assert found.tightest.stage.weight_bytes / GIB == pytest.approx(weights, abs=0.08)
    if kv is not None:
        assert waterfall.kv_bytes / GIB == pytest.approx(kv, abs=0.1)


def test_experts_of_four_bits_are_padded_as_the_devices_kernel_does() -> None:
    """gpt-oss-120b: 64.38 GiB with Triton on an H100, 65.97 with Marlin (vLLM issue #23278)."""
    asked = BudgetRequest(model="gpt-oss-120b", device=DEVICES["h100"])
    on = {
        name: budget(replace(asked, device=DEVICES[name])).tightest.stage.weight_bytes / GIB
        for name in ("h100", "l40s", "b200", "mi300x")
    }
    assert on["h100"] == pytest.approx(64.38, abs=0.06)
    assert on["l40s"] == pytest.approx(65.97, abs=0.09)
    assert on["b200"] == on["l40s"] < on["mi300x"]
    plain = budget(replace(asked, device=find_device("80GiB")))
    assert plain.tightest.stage.weight_bytes / GIB == pytest.approx(60.77, abs=0.01)
    assert any("6% larger with Triton" in note for note in plain.notes)


def test_a_matrix_is_padded_by_hand() -> None:
    """GIVEN an expert of 2880 by 2880 on eight ranks THEN each pads its 360 to 384."""
    common: dict[str, Any] = {"part": "experts", "layer": 0, "copies": 2, "split": "experts"}
    upward = Weight(outputs=5760, inputs=2880, inner="outputs", halves=2, **common)
    down = Weight(outputs=2880, inputs=2880, inner="inputs", **common)
    eight, dealt = Parallel(tp=8), Parallel(tp=8, experts=True)
    marlin = KERNELS["marlin"]
    assert marlin.weight_bytes(upward, eight) == 2 * 768 * (3072 // 2 + 3072 // 32)
    assert marlin.weight_bytes(down, eight) == 2 * 3072 * (384 // 2 + 384 // 32)
    assert marlin.weight_bytes(down, dealt) == 3072 * (2944 // 2 + 2944 // 32)
    triton = KERNELS["triton"]
    assert triton.weight_bytes(upward, eight) == 2 * 768 * (3072 // 2 + 2880 // 32)
    assert triton.weight_bytes(down, eight) == 2 * 2880 * (512 // 2 + 384 // 32)


@pytest.mark.parametrize(("tp", "gib"), [(1, 14.96), (2, 7.48), (8, 1.9028)])
def test_weights_are_what_vllm_says_it_loaded(tp: int, gib: float) -> None:
    found = budget(
        BudgetRequest(model="llama-3.1-8b", device=find_device("h100"), parallel=Parallel(tp=tp))
    )

    assert found.tightest.stage.weight_bytes / GIB == pytest.approx(gib, abs=0.035)
