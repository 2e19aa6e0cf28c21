"""The refusals that the real vLLM raises, word for word, are read and explained."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm.v1.core.kv_cache_utils", reason="the real vLLM is not installed here")

from vllm.v1.core import kv_cache_utils
from vllm.v1.worker import utils

from kvatlas.oom import Refusal, parse_refusal
from kvatlas.oom.refusal_verdict import refusal_verdict

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]
GIB = 1 << 30


def refused(call: Any, *args: Any) -> Refusal:
    """Return the refusal that a call of vLLM's raises."""
    with pytest.raises(ValueError) as raised:
        call(*args)
    found = parse_refusal(f"(EngineCore pid=7) ERROR [core.py:1] ValueError: {raised.value}")
    assert found is not None, raised.value
    return found


def test_no_memory_for_blocks() -> None:
    found = refused(
        kv_cache_utils._check_enough_kv_cache_memory, -GIB, lambda: 1, 8192, lambda _: 0
    )
    assert found == Refusal(kind="no-blocks")


@pytest.mark.parametrize("most", [91520, 0])
def test_a_request_that_does_not_fit(most: int) -> None:
    found = refused(
        kv_cache_utils._check_enough_kv_cache_memory,
        7 * GIB, lambda: 9 * GIB + GIB // 2, 131072, lambda _: most,
    )  # fmt: skip
    assert found.tokens == 131072
    assert found.most_tokens == (most or None)
    assert (found.asked_bytes, found.free_bytes) == (9 * GIB + GIB // 2, 7 * GIB)


@pytest.mark.parametrize("external", [0, 8 * GIB])
def test_a_busy_device(external: int) -> None:
    """The share that the verdict proposes is one that the real function accepts; 0.01 more not."""
    free, total = 31.44 * GIB, 47.38 * GIB
    snapshot = SimpleNamespace(total_memory=int(total), free_memory=int(free), device_="cuda:0")
    config = SimpleNamespace(gpu_memory_utilization=0.95)
    found = refused(utils.request_memory, snapshot, config, external)
    assert (found.kind, found.where, found.share) == ("free-memory", "cuda:0", 0.95)
    if external:
        return
    remedy = refusal_verdict(found).remedies[1]
    share = float(remedy.setting.split()[1])
    config.gpu_memory_utilization = share
    assert utils.request_memory(snapshot, config) <= free
    config.gpu_memory_utilization = share + 0.01
    refused(utils.request_memory, snapshot, config)


def test_weights_held_elsewhere() -> None:
    snapshot = SimpleNamespace(total_memory=79 * GIB, free_memory=2 * GIB, device_="cuda:0")
    config = SimpleNamespace(gpu_memory_utilization=0.9)
    found = refused(utils.request_memory, snapshot, config, 75 * GIB)
    assert (found.kind, found.asked_bytes) == ("external-weights", 75 * GIB)
