"""Real vLLM 0.32.0 under priorities counts tokens as computed that nobody has computed.

The fault that `EngineConfig.forget_uncomputed` is about, shown on vLLM alone: a request is
scheduled, loses its blocks in the same step to a more urgent one, and hits them when it comes back.
`tests/engine/test_shadow_memory.py` shows what it reads there.
"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("vllm.v1.core.sched.scheduler", reason="the real vLLM is not installed here")

from real import real_scheduler
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request

from kvatlas.engine import EngineConfig

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

CONFIG = EngineConfig(
    num_blocks=38,
    block_size=2,
    max_num_batched_tokens=10,
    long_prefill_token_threshold=8,
    max_model_len=128,
    policy="priority",
    scheduler_reserve_full_isl=False,
)


def make_request(name: str, prompt: list[int], max_tokens: int, priority: int) -> Any:
    """Return a request of the real vLLM."""
    init_none_hash(get_hash_fn_by_name("sha256"))
    return Request(
        request_id=name,
        prompt_token_ids=prompt,
        sampling_params=SamplingParams(max_tokens=max_tokens, ignore_eos=True),
        pooling_params=None,
        arrival_time=float(-priority),
        block_hasher=get_request_block_hasher(2, get_hash_fn_by_name("sha256")),
        priority=priority,
    )


def test_real_vllm_hits_blocks_that_nobody_computed() -> None:
    # GIVEN a patient prompt that is being prefilled in chunks, and an urgent request beside it
    real = real_scheduler(CONFIG)
    real.add_request(make_request("patient", list(range(10, 73)), 4, 5))
    computed, resumed_with = 0, None
    for step in range(100):
        if step == 1:
            real.add_request(make_request("urgent", list(range(5, 13)), 5, 0))
        # WHEN the pool runs out in a step in which the patient one had its turn before
        output = real.schedule()
        cached = output.scheduled_cached_reqs
        if "patient" in cached.resumed_req_ids:
            resumed_with = cached.num_computed_tokens[cached.req_ids.index("patient")]
            break
        if "patient" in output.num_scheduled_tokens:
            computed += output.num_scheduled_tokens["patient"]
        names = list(output.num_scheduled_tokens)
        sampled = [[1] if not real.requests[name].is_prefill_chunk else [] for name in names]
        real.update_from_output(
            output,
            ModelRunnerOutput(
                req_ids=names,
                req_id_to_index={name: at for at, name in enumerate(names)},
                sampled_token_ids=sampled,
            ),
        )
    # THEN it resumes behind tokens that were never in a batch, and whose blocks are nobody else's
    assert resumed_with is not None
    assert resumed_with > computed > 0
