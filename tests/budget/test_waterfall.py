"""The waterfall adds up, the pool admits, and verdicts say so."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvatlas.budget import (
    DEVICES,
    BudgetRequest,
    Buffers,
    Parallel,
    Pool,
    budget,
    command_line,
    find_device,
    length_fits,
    replay_line,
    verdict,
    vllm_flags,
)
from kvatlas.budget.waterfall import requested_bytes
from kvatlas.engine.specs import FullAttentionSpec, MambaSpec, SlidingWindowSpec
from kvatlas.errors import InputError
from kvatlas.model import CATALOGUE

SETTINGS = st.fixed_dictionaries(
    {
        "model": st.sampled_from(sorted(CATALOGUE)),
        "device": st.sampled_from(sorted(DEVICES)).map(find_device),
        "parallel": st.builds(
            Parallel,
            tp=st.sampled_from((1, 2, 4)),
            pp=st.sampled_from((1, 2, 5)),
            dp=st.sampled_from((1, 2)),
            experts=st.booleans(),
        ),
        "gpu_memory_utilization": st.floats(0.05, 1.0),
        "max_num_seqs": st.integers(1, 300),
        "max_num_batched_tokens": st.integers(300, 20_000),
        "enforce_eager": st.booleans(),
        "kv_dtype": st.sampled_from(("auto", "fp8")),
    }
)


@given(SETTINGS)
def test_every_byte_is_somewhere(settings: dict[str, Any]) -> None:
    try:
        found = budget(BudgetRequest(**settings))
    except InputError as error:
        assert "divided" in str(error)
        return
    for each in found.stages:
        waterfall = each.waterfall
        waterfall.check()
        share = settings["gpu_memory_utilization"]
        assert waterfall.requested_bytes == math.ceil(waterfall.total_bytes * share)
        assert waterfall.taken_bytes + waterfall.kv_bytes == waterfall.requested_bytes
        assert each.num_blocks * each.block_bytes <= max(0, waterfall.kv_bytes)
        assert each.num_blocks >= found.pool.num_blocks
        if settings["enforce_eager"]:
            assert all(term.size_bytes == 0 for term in waterfall.terms if "graph" in term.name)
    assert found.tightest.num_blocks == found.pool.num_blocks
    layers = [each.stage.layers for each in found.stages]
    assert [first for first, _ in layers[1:]] == [end for _, end in layers[:-1]]


SPECS = st.lists(
    st.one_of(
        st.builds(FullAttentionSpec, block_size=st.sampled_from((1, 16, 64))),
        st.builds(
            SlidingWindowSpec,
            block_size=st.sampled_from((1, 16)),
            sliding_window=st.integers(1, 300),
        ),
        st.builds(
            MambaSpec, block_size=st.just(64), mamba_cache_mode=st.sampled_from(("none", "align"))
        ),
    ),
    min_size=1,
    max_size=4,
).map(tuple)


@given(st.integers(0, 400), SPECS, st.integers(1, 200), st.integers(1, 900))
def test_the_longest_request_is_the_longest_that_has_room(
    blocks: int, groups: tuple[Any, ...], in_flight: int, most: int
) -> None:
    pool = Pool(num_blocks=blocks, groups=groups, in_flight_tokens=in_flight)

    fitting = [n for n in range(1, most + 1) if pool.blocks_per_request(n) <= blocks - 1]
    assert pool.longest(most) == max(fitting, default=0)
    for tokens in (1, most):
        room = pool.requests(tokens)
        assert room * pool.blocks_per_request(tokens) <= max(0, blocks - 1)
        assert (room + 1) * pool.blocks_per_request(tokens) > blocks - 1


def test_what_is_asked_for_is_taken() -> None:
    found = budget(
        BudgetRequest(
            model="llama-3.1-8b",
            device=find_device("h100"),
            activation_bytes=1 << 30,
            graph_bytes=2 << 30,
            outside_bytes=3 << 30,
        )
    )
    terms = {term.name: term for term in found.tightest.waterfall.terms}

    for name, size in (("activations", 1), ("CUDA graphs", 2), ("outside PyTorch", 3)):
        assert (terms[name].size_bytes, terms[name].basis) == (size << 30, "given")


def test_kv_memory_can_be_given_and_promised_twice() -> None:
    request = BudgetRequest(
        model="llama-3.1-8b", device=find_device("h100"), kv_cache_memory_bytes=70 << 30
    )
    found = budget(request)

    assert found.pool.num_blocks == (70 << 30) // (2 << 20)
    assert found.tightest.waterfall.unused_bytes < 0
    answer = verdict(found)
    assert not answer.fits
    assert "more than there is" in answer.line
    assert answer.remedy == "It fits without --kv-cache-memory-bytes."


@pytest.mark.parametrize(
    ("options", "fits", "line", "remedy"),
    [
        ({"lengths": (8192,), "concurrency": 32}, True, "32 requests of 8,192 tokens need", ""),
        ({"lengths": (8192,), "concurrency": 64}, False, "64 requests of 8,192", "kv-cache-dtype"),
        ({"model": "llama-3.1-70b"}, False, "nothing is left", "--tensor-parallel-size 4"),
        ({"lengths": (8192,), "concurrency": 57}, False, "56 such requests have room",
         "--gpu-memory-utilization 0.95"),
        ({"device": "l4", "max_model_len": 131072}, False, "the longest that fits is",
         "--tensor-parallel-size 2"),
        ({"model": "llama-3.1-405b", "device": "l4"}, False, "nothing is left", ""),
    ],
)  # fmt: skip
def test_the_verdict_says_whether_and_what_would_do(
    options: dict[str, Any], fits: bool, line: str, remedy: str
) -> None:
    device = find_device(options.pop("device", "h100"))
    answer = verdict(
        budget(BudgetRequest(**{"model": "llama-3.1-8b", "device": device, **options}))
    )

    assert answer.fits is fits
    assert line in answer.line
    assert remedy in answer.remedy
    assert "\n" not in answer.line
    if not remedy:
        assert answer.remedy == ""


def test_what_a_remedy_promises_holds() -> None:
    request = BudgetRequest(model="llama-3.1-70b", device=find_device("h100"))
    answer = verdict(budget(request))
    ranks = int(answer.remedy.removesuffix(".").split()[-1])

    for tp in (1, ranks // 2, ranks):
        tried = BudgetRequest(
            model="llama-3.1-70b", device=find_device("h100"), parallel=Parallel(tp=tp)
        )
        assert verdict(budget(tried)).fits is (tp == ranks)


def test_lengths_are_judged_one_by_one() -> None:
    found = budget(
        BudgetRequest(model="llama-3.1-8b", device=find_device("h100"), lengths=(1000, 100_000))
    )
    short, long = length_fits(found)

    assert (short.blocks, long.blocks) == (63, 6250)
    assert short.requests == (found.pool.num_blocks - 1) // 63
    assert long.concurrency == found.pool.num_blocks / 6250


def test_flags_are_the_ones_vllm_takes() -> None:
    found = budget(
        BudgetRequest(
            model="qwen3-30b-a3b",
            device=find_device("h200"),
            parallel=Parallel(tp=2, pp=2, dp=2, experts=True),
            kv_dtype="fp8",
            lengths=(4096, 32768),
            concurrency=100,
            enforce_eager=True,
        )
    )

    assert command_line(found) == (
        "vllm serve Qwen/Qwen3-30B-A3B --tensor-parallel-size 2 --pipeline-parallel-size 2 "
        "--data-parallel-size 2 --enable-expert-parallel --kv-cache-dtype fp8 --enforce-eager "
        "--gpu-memory-utilization 0.92 --block-size 16 --max-num-seqs 100 "
        "--max-num-batched-tokens 8192 --max-model-len 32768"
    )
    exact = next(flag for flag in vllm_flags(found) if flag.name == "--kv-cache-memory-bytes")
    assert exact.alternative
    assert int(exact.value) == found.tightest.waterfall.kv_bytes


def test_a_model_that_is_too_long_is_served_shorter() -> None:
    found = budget(BudgetRequest(model="llama-3.1-8b", device=find_device("l4")))
    flag = next(flag for flag in vllm_flags(found) if flag.name == "--max-model-len")

    assert int(flag.value) == found.pool.longest(131072) < 131072
    assert verdict(
        budget(
            BudgetRequest(
                model="llama-3.1-8b", device=find_device("l4"), max_model_len=int(flag.value)
            )
        )
    ).fits


def test_a_server_is_planned_with_the_requests_of_its_flags() -> None:
    """GIVEN a wanted concurrency THEN the batch, the graphs and the flag are those of so many."""
    asked = BudgetRequest(model="llama-3.1-8b", device=find_device("h100"), lengths=(2048,))
    for concurrency, sequences in ((None, 1024), (8, 8), (9000, 8192)):
        found = budget(replace(asked, concurrency=concurrency))
        flag = next(each for each in vllm_flags(found) if each.name == "--max-num-seqs")
        assert found.max_num_seqs == int(flag.value) == sequences
        again = budget(replace(asked, max_num_seqs=int(flag.value)))
        assert again.tightest.waterfall == found.tightest.waterfall
    small = budget(replace(asked, concurrency=8))
    assert max(small.capture_sizes) == 16


def test_a_given_cache_is_not_said_to_leave_a_buffer_free() -> None:
    asked = BudgetRequest(
        model="llama-3.1-8b",
        device=find_device("h100"),
        buffers=Buffers.of(stuck_bytes=1 << 30),
    )
    for size, said in ((None, True), (40 << 30, False)):
        found = budget(replace(asked, kv_cache_memory_bytes=size))
        exact = next(flag for flag in vllm_flags(found) if "kv-cache-memory" in flag.name)
        assert ("stay free" in exact.why) is said
        assert int(exact.value) == found.tightest.waterfall.kv_bytes - ((1 << 30) if said else 0)
        assert f"--blocks {int(exact.value) // found.tightest.block_bytes} " in replay_line(found)


def test_the_pool_can_be_replayed() -> None:
    plain = budget(BudgetRequest(model="llama-3.1-8b", device=find_device("h100")))
    assert replay_line(plain).startswith(
        f"kvatlas replay TRACE --blocks {plain.pool.num_blocks} --block-size 16 "
    )
    windows = budget(BudgetRequest(model="gpt-oss-20b", device=find_device("h100")))
    assert "--model gpt-oss-20b" in replay_line(windows)
    # GIVEN ranks whose groups are those of one rank THEN the line asks for as many blocks there
    spread = budget(
        BudgetRequest(model="gpt-oss-20b", device=find_device("h100"), parallel=Parallel(tp=2))
    )
    assert f"--kv-memory {spread.pool.num_blocks * windows.tightest.block_bytes} " in replay_line(
        spread
    )
    # GIVEN ranks or a cache that change the groups THEN no line can say it
    hybrid = BudgetRequest(
        model="nemotron-3-nano-30b-a3b", device=find_device("h200"), kv_dtype="fp8"
    )
    assert replay_line(budget(hybrid)) == ""


def test_both_buffers_are_shown_and_ours_is_taken() -> None:
    published = Buffers.of(measured_bytes=1219 << 20, factor=1.5)
    assert published.published_bytes == math.ceil((1219 << 20) * 1.5)
    assert published.recommended_bytes == published.published_bytes
    assert Buffers.of(measured_bytes=1).published_bytes == 150 << 20
    both = Buffers.of(measured_bytes=1219 << 20, stuck_bytes=300 << 20)
    assert both.recommended_bytes == 300 << 20
    survived = Buffers.of(stuck_bytes=1, survival_bytes=70 << 30, allocated_bytes=69 << 30)
    assert survived.own_bytes == 1 << 30
    assert Buffers.of().recommended_bytes == 0

    found = budget(BudgetRequest(model="llama-3.1-8b", device=find_device("h100"), buffers=both))
    kv = found.tightest.waterfall.kv_bytes
    assert found.blocks_after_buffer == (kv - (300 << 20)) // (2 << 20)
    exact = next(flag for flag in vllm_flags(found) if flag.name == "--kv-cache-memory-bytes")
    assert (exact.alternative, int(exact.value)) == (False, kv - (300 << 20))


@pytest.mark.parametrize("share", [0.0, -1.0, 1.01, math.nan, math.inf])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(InputError, match="gpu_memory_utilization"):
        requested_bytes(80 << 30, share)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs: must be at least 1"),
        ({"lengths": (0,)}, "length: must be at least 1 token"),
        ({"lengths": (200_000,)}, "length: longer than a request may be"),
        ({"max_model_len": 131_073}, "longer than the model was made for"),
        ({"max_num_seqs": 100, "max_num_batched_tokens": 99}, "fewer tokens than requests"),
        ({"dtype": "int3"}, "dtype: unknown dtype"),
        ({"quantization": "q4_k_m"}, "quantization: this quantization is not modelled"),
        ({"kv_dtype": "int4"}, "kv_dtype: this KV cache dtype is not modelled"),
        ({"model": "gpt-5"}, "model: no such model config"),
        ({"gpu_memory_utilization": 2.0}, "a share of the device's memory"),
        ({"block_size": -16}, "block_size: must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        budget(BudgetRequest(**{"model": "llama-3.1-8b", "device": find_device("h100"), **options}))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"factor": -1.0},
        {"factor": math.nan},
        {"survival_bytes": 1},
        {"allocated_bytes": 1},
    ],
)
def test_half_a_buffer_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Buffers.of(**arguments)


def test_devices_say_where_they_are_from() -> None:
    assert len(DEVICES) >= 12
    for device in DEVICES.values():
        assert device.source
        assert device.reported is (device.source != "nominal")
        # A driver offers the nominal size less some percent; GB and GiB differ by 7%.
        assert 0.88 < device.total_bytes / (device.nominal_gb << 30) <= 1.0
        assert find_device(device.name.upper()) is device
    assert find_device("h100-sxm") is DEVICES["h100"]
    own = find_device("80GiB")
    assert (own.total_bytes, own.reported) == (80 << 30, False)
    for wrong in ("h1000", "0", "lots of GiB"):
        with pytest.raises(InputError, match="device"):
            find_device(wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": None}, "vocab_size: missing"),
        ({"vocab_size": -5}, "vocab_size: cannot be right"),
        ({"intermediate_size": 1e9}, "intermediate_size: cannot be right"),
        ({"intermediate_size": "wide"}, "intermediate_size: cannot be right"),
        ({"num_hidden_layers": 10_000, "hidden_size": 999_936}, "more parameters than any model"),
        ({"max_position_embeddings": None}, "max_model_len: the config does not say"),
    ],
)
def test_an_absurd_config_is_refused_in_one_line(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    fields = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 8,
              "hidden_size": 512, "intermediate_size": 1024, "vocab_size": 1000,
              "max_position_embeddings": 2048}  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**fields, **change}))

    with pytest.raises(InputError) as caught:
        budget(BudgetRequest(model=path, device=find_device("h100")))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
