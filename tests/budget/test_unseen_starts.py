"""Starts that nothing was fitted to: how far off the budget is, kept as figures.

Each row is a public log of one server, with what the log itself says of its settings. Sources are
files of public repositories on github.com, found by these lines: the session notes of a course on
an A100 (vLLM 0.31.0), a log of Qwen3-Next on two H200 (0.10.2), a guide to vLLM under WSL (0.27.1),
ilseokoh/vllm-gce (0.15.1), a lab on a g5.xlarge (0.9.0.1), and an article about one 32B model on
two RTX PRO 6000 (0.27.1).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kvatlas.budget import BudgetRequest, Parallel, budget, find_device

GIB = 1 << 30
QWEN25_05B = {
    "model_type": "qwen2",
    "num_hidden_layers": 24,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "max_position_embeddings": 32768,
}


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a log says, in GiB, and how much more KV cache the budget promises than there was."""

    model: str
    total: float
    share: float
    runner: str
    weights: float
    kv: float
    promised: float
    settings: dict[str, Any] = field(default_factory=dict)


TWO = Parallel(tp=2)
STARTS = (
    Start(model="llama-3.1-8b", total=79.25, share=0.92, runner="v2", weights=15.0, kv=56.21,
          promised=0.91, settings={"max_num_batched_tokens": 2048, "max_num_seqs": 256}),
    Start(model="qwen3-next-80b-a3b", total=139.81, share=0.9, runner="v1-sort", weights=74.28,
          kv=44.59, promised=0.86,
          settings={"parallel": TWO, "enable_prefix_caching": False, "graph_bytes": 0}),
    Start(model="qwen2.5-0.5b", total=23.99, share=0.85, runner="v2", weights=0.93, kv=18.65,
          promised=0.25, settings={"max_model_len": 2048}),
    Start(model="llama-3.1-8b", total=39.49, share=0.9, runner="v1", weights=14.99, kv=19.28,
          promised=0.39, settings={"enforce_eager": True, "max_num_batched_tokens": 8192}),
    Start(model="mistral-7b", total=22.19, share=0.92, runner="v1-sort", weights=13.5, kv=6.16,
          promised=0.32, settings={"max_model_len": 8192, "graph_bytes": 0}),
    Start(model="qwen3-32b", total=95.01, share=0.426, runner="v2", weights=61.03, kv=-24.42,
          promised=1.45, settings={"max_model_len": 32768}),
    Start(model="qwen3-32b", total=95.01, share=0.426, runner="v2", weights=30.59, kv=8.22,
          promised=-0.47, settings={"max_model_len": 32768, "parallel": TWO}),
    Start(model="qwen3-32b", total=95.01, share=0.426, runner="v2", weights=30.52, kv=6.92,
          promised=0.62, settings={"max_model_len": 32768, "parallel": Parallel(pp=2)}),
)  # fmt: skip


@pytest.mark.parametrize("start", STARTS, ids=lambda start: f"{start.model}-{start.kv}")
def test_an_unseen_start(start: Start, tmp_path: Path) -> None:
    """GIVEN a log WHEN its server is planned THEN weights are exact and the KV cache is near."""
    model = start.model
    if model == "qwen2.5-0.5b":
        model = str(tmp_path / "config.json")
        Path(model).write_text(json.dumps(QWEN25_05B))
    found = budget(
        BudgetRequest(
            model=model,
            device=find_device(f"{start.total}GiB"),
            gpu_memory_utilization=start.share,
            runner=start.runner,
            **start.settings,
        )
    )
    stored = found.tightest.stage.weight_bytes / GIB
    assert stored == pytest.approx(start.weights, abs=0.09)
    assert found.tightest.waterfall.kv_bytes / GIB - start.kv == pytest.approx(
        start.promised, abs=0.02
    )


def test_the_sampler_of_old_versions_is_right_for_a_model_that_it_was_not_fitted_to() -> None:
    """Qwen3-Next on two H200: 5.58 GiB of activations, predicted to the second decimal."""
    start = STARTS[1]
    found = budget(
        BudgetRequest(
            model=start.model,
            device=find_device(f"{start.total}GiB"),
            gpu_memory_utilization=start.share,
            runner=start.runner,
            **start.settings,
        )
    )
    terms = {term.name: term.size_bytes / GIB for term in found.tightest.waterfall.terms}
    assert terms["activations"] == pytest.approx(5.58, abs=0.01)
    # What is outside PyTorch was 1.38 GiB there, and 0.55 is all that was ever seen before.
    assert terms["outside PyTorch"] == pytest.approx(0.55, abs=0.01)
    # The log has blocks of 544 tokens, and 973,760 tokens in what was left.
    assert found.block_size == 544
    block_bytes = found.tightest.block_bytes
    blocks = round(start.kv * GIB / block_bytes)
    assert blocks / found.pool.blocks_per_request(262144) == pytest.approx(14.77, rel=0.002)
