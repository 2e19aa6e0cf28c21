"""What PyTorch's message alone lets one say: the cause, the ladder, and what to change."""

from __future__ import annotations

import pytest
from messages import (
    ALLOWED,
    CONTAINER,
    GIB,
    MIB,
    MODERN,
    POOLS,
    RESERVED,
    SCENE,
    UNKNOWN_USE,
    XPU,
    held,
    new,
)

from kvatlas.budget.log_lines import LogFacts
from kvatlas.budget.startup_log import StartupLog
from kvatlas.oom import KvBlock, OomVerdict, kv_block_of_log, parse_message
from kvatlas.oom.message_verdict import message_verdict
from kvatlas.oom.phases import Phase

BLOCK = KvBlock(size_bytes=2 * MIB, tokens=16, source="given")
STARTED = StartupLog(
    file="x", workers={"W": LogFacts(gib={"kv": 40.0, "total": 79.1}, kv_tokens=327_680)}
)


def explained(
    text: str,
    phase: Phase | None = None,
    startup: StartupLog | None = None,
    block: KvBlock | None = None,
) -> OomVerdict:
    """Return the verdict on a message."""
    message = parse_message(text)
    assert message is not None
    return message_verdict(message, phase=phase, startup=startup, block=block)


def test_the_scene_is_fragmentation() -> None:
    """384 MiB asked, 330 free, 402 stuck: enough together, nowhere in one piece."""
    found = explained(SCENE, "serving", STARTED, BLOCK)
    assert found.cause == "fragmentation"
    for figure in ("384 MiB", "330 MiB", "402 MiB", "While serving: "):
        assert figure in found.line
    assert [(step.size_bytes, step.suffices) for step in found.steps] == [
        (330 * MIB, False),
        (402 * MIB, True),
    ]
    setting, smaller = found.remedies
    assert setting.setting.endswith("expandable_segments:True")
    assert setting.basis == "advice"  # a message cannot be replayed
    assert smaller.kv_blocks == 27  # 54 MiB, in blocks of 2
    assert smaller.kv_bytes == 54 * MIB
    assert smaller.setting == f"--kv-cache-memory-bytes {40 * GIB - 54 * MIB}"


def test_without_a_log_the_share_says_it() -> None:
    found = explained(SCENE, "serving")
    assert found.remedies[1].setting == "--gpu-memory-utilization lower by 0.01"
    assert found.remedies[1].kv_blocks is None
    assert found.remedies[1].kv_bytes == 54 * MIB


def test_capacity_is_what_no_byte_of_ones_own_could_help() -> None:
    found = explained(MODERN.replace("194.87 MiB", "1.87 MiB"))
    assert found.cause == "capacity"
    assert "9.07 MiB short" in found.line
    assert [step.suffices for step in found.steps] == [False, False]


def test_private_pools() -> None:
    found = explained(POOLS.replace("149.10 MiB", "0 bytes"))
    assert found.cause == "private-pools"
    assert found.remedy is not None
    assert "--enforce-eager" in found.remedy.setting
    assert any("counted as free" in note for note in found.notes)


def test_other_processes() -> None:
    text = new(
        "20.00 GiB",
        "79.10 GiB",
        "10.00 GiB",
        "Process 7 has 40.00 GiB memory in use. Including non-PyTorch memory, this process has "
        "28.50 GiB memory in use. " + held("27.00 GiB", "1.00 GiB"),
    )
    found = explained(text)
    assert found.cause == "other-processes"
    assert "Process 7 held 40 GiB." in found.reasons
    assert "This process held 512 MiB outside PyTorch: CUDA context, NCCL, libraries." in (
        found.reasons
    )
    assert found.remedies[0].text == "Free 10 GiB that other processes hold."


def test_a_processs_own_limit() -> None:
    """9 GiB were free, and 0.19 of the 17.69 GiB that the process may have."""
    found = explained(ALLOWED)
    assert found.cause == "memory-fraction"
    assert "9.06 GiB free" in found.line
    assert found.remedies[0].setting == "torch.cuda.set_per_process_memory_fraction"
    fragmented = explained(UNKNOWN_USE)  # 3.75 allowed and unused, and 7.02 stuck
    assert fragmented.cause == "fragmentation"
    assert fragmented.steps[0].name == "allowed and unused"


def test_refused_with_memory_free() -> None:
    found = explained(XPU)
    assert found.cause == "driver-refused"
    assert any("cut off" in note for note in found.notes)


def test_the_last_mib_of_a_device_are_the_drivers() -> None:
    """GIVEN 20 MiB asked, 21.5 free, and 71 GiB idle in sleep mode's pool THEN the pool it is."""
    text = new("20.00 MiB", "184.31 GiB", "21.50 MiB", held("181.80 GiB", "13.63 MiB",
                                                            pools="71.20 GiB"))  # fmt: skip
    found = explained(text)
    assert found.cause == "private-pools"
    assert "21.5 MiB free" in found.line
    assert any("keeps some MiB" in note for note in found.notes)


def test_more_than_the_device_has() -> None:
    text = new("20.00 MiB", "8.00 GiB", "0 bytes", held("14.51 GiB", "15.90 MiB"))
    found = explained(text, startup=StartupLog(
        file="x", workers={"W": LogFacts(gib={"total": 8.0}, utilization=0.9)}
    ))  # fmt: skip
    assert found.cause == "capacity"
    assert any("moves memory to the host" in note for note in found.notes)
    # 0.9 less 20 MiB of 8 GiB, in two decimals
    assert found.remedies[0].setting == "--gpu-memory-utilization 0.89"


def test_the_variable_is_the_backends() -> None:
    settings = [explained(SCENE.replace("CUDA", name)).remedies[0].setting for name in
                ("CUDA", "HIP", "XPU")]  # fmt: skip
    assert [each.split("=")[0] for each in settings] == [
        "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_ALLOC_CONF",
    ]  # fmt: skip


def test_an_old_pytorch_has_no_expandable_segments() -> None:
    notes = explained(RESERVED).notes
    assert any("came with 2.1" in note for note in notes)


def test_a_container_finds_itself() -> None:
    found = explained(CONTAINER)
    assert found.cause == "request-size"  # 74 GiB of a device that has 44
    assert any("this process, under its number outside" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("phase", "setting"),
    [
        ("loading", "--tensor-parallel-size, --quantization, --cpu-offload-gb"),
        ("profiling", "--max-num-batched-tokens, --max-num-seqs"),
    ],
)
def test_before_the_kv_cache_is_made_it_cannot_give_way(phase: Phase, setting: str) -> None:
    found = explained(SCENE, phase, STARTED, BLOCK)
    assert [remedy.setting for remedy in found.remedies][1:] == [setting]
    assert not any(remedy.kv_bytes for remedy in found.remedies)


def test_while_graphs_are_captured_nothing_is_released() -> None:
    found = explained(SCENE, "graphs", STARTED, BLOCK)
    assert found.remedies[-1].setting == "--cudagraph-capture-sizes, --enforce-eager"
    assert any("releases nothing" in note for note in found.notes)


def test_two_decimals_can_leave_it_open() -> None:
    """GIVEN 1.63 GiB asked, 0.61 free and 1.02 stuck THEN it is not said to have fitted."""
    text = new("1.63 GiB", "24.00 GiB", "0.61 GiB", held("20.00 GiB", "1.02 GiB"))
    found = explained(text)
    assert found.steps[1].suffices is None
    assert found.cause == "fragmentation"
    assert any("Two printed decimals" in note for note in found.notes)


def test_a_shared_segment_is_more_than_the_request() -> None:
    assert any("2 MiB is the segment" in note for note in explained(POOLS).notes)


def test_a_block_by_the_log() -> None:
    """40 GiB of KV cache for 327,680 tokens are 2 MiB for 16 of them."""
    block = kv_block_of_log(STARTED)
    assert block is not None
    assert (block.size_bytes, block.tokens, block.exact) == (2 * MIB, 16, False)
    found = explained(SCENE, "serving", STARTED, block)
    assert "about 27 KV blocks" in found.remedies[1].text
    assert kv_block_of_log(StartupLog(file="x")) is None


def test_a_request_beyond_the_device_is_no_matter_of_the_kv_cache() -> None:
    """256 GiB on 79 GiB: no share of the device is proposed, but a smaller request."""
    found = explained(new("256.00 GiB", "79.19 GiB", "30.06 GiB", held("46.90 GiB", "1.87 GiB")))
    assert found.cause == "request-size"
    assert "more than the 79.19 GiB" in found.line
    assert [remedy.kv_bytes for remedy in found.remedies] == [0]
    assert "smaller" in found.remedies[0].text


def test_what_live_tensors_do_not_hold_cannot_be_given_up() -> None:
    """60 GiB asked of 80: the 10 GiB that are allocated cannot make room for it."""
    found = explained(new("60.00 GiB", "79.19 GiB", "5.00 GiB", held("10.00 GiB", "1.00 GiB")))
    assert not any("utilization" in remedy.setting for remedy in found.remedies)


def test_a_limit_is_not_the_cause_where_the_device_was_full_too() -> None:
    """20 GiB asked, 40 allowed and used, and the device had 10 GiB free: no limit's fault."""
    text = "40.00 GiB allowed; " + held("38.90 GiB", "890.88 MiB")
    found = explained(new("20.00 GiB", "79.19 GiB", "10.06 GiB", text))
    assert found.cause == "capacity"
    assert "left of the 40 GiB that it is allowed" in found.line
    assert explained(new("20.00 GiB", "79.19 GiB", "30.06 GiB", text)).cause == "memory-fraction"
