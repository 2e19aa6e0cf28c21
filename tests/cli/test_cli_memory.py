"""`kvatlas replay --block-size auto` and `--memory-budget`: what they say, what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import kvatlas, replayed

from kvatlas.cli.memory_budget import choose_budget
from kvatlas.cli.replay_flags import ReplayFlags
from kvatlas.jit import COMPILED

LIMIT = ("--limit", 120 if COMPILED else 40, "--arrivals", "timed")
BUDGET = ("--memory-budget", "6GiB", "--device-price", 4, "--host-block-bytes", "2MiB")
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "replay-json.md"


def test_auto_is_the_size_that_it_says_on_the_same_memory() -> None:
    """GIVEN auto WHEN replayed THEN it is the replay of the chosen size, and says why."""
    chosen = replayed(*LIMIT, "--blocks", 1000, "--block-size", "auto")
    choice = chosen["block_size_choice"]
    size = choice["block_size"]
    assert size > 16
    assert choice["num_blocks"] == chosen["config"]["num_blocks"] == 16_000 // size
    given = replayed(*LIMIT, "--blocks", 16_000 // size, "--block-size", size)
    assert chosen["decisions"] == given["decisions"]
    assert chosen["config"] == given["config"]
    assert "block_size_choice" not in given
    measured = chosen["measurements"]["waste.internal_time_weighted"]
    assert choice["measured_waste"] == measured > choice["expected_waste"]  # shared blocks: once
    assert any(f"--blocks 1000 becomes {16_000 // size}" in note for note in chosen["notes"])


def test_what_auto_expects_is_what_comes() -> None:
    """GIVEN nothing shared WHEN replayed THEN the waste is the expected one, to 0.1 points."""
    choice = replayed(*LIMIT, "--no-prefix-caching", "--block-size", "auto")["block_size_choice"]
    assert abs(choice["measured_waste"] - choice["expected_waste"]) < 1e-3
    assert abs(choice["measured_efficiency"] - choice["efficiency"]) < 1e-3


@pytest.mark.variants
def test_auto_counts_the_host_tier_anew() -> None:
    tier = ("--host-blocks", 640, "--host-block-bytes", "2MiB", "--host-bandwidth", "25GB/s")
    said = replayed(*LIMIT, "--blocks", 1000, *tier, "--block-size", "auto")
    times = said["block_size_choice"]["block_size"] // 16
    assert said["config"]["host_blocks"] == 640 // times
    assert said["config"]["host_block_bytes"] == times << 21


def test_the_terminal_says_which_size_and_why() -> None:
    words = " ".join(kvatlas("replay", *LIMIT, "--block-size", "auto").out.split())
    assert "waste expected, efficiency" in words
    assert "measured" in words
    assert "times as many blocks" in words


@pytest.mark.variants
def test_a_budget_is_divided_and_logged() -> None:
    said = replayed(*LIMIT, *BUDGET, "--budget-interval", 8)
    hybrid = said["hybrid"]
    assert hybrid["looks"] == len(hybrid["log"]) > 0
    assert hybrid["moves"] == sum(look["moved"] is not None for look in hybrid["log"])
    last = hybrid["log"][-1]
    assert hybrid["end"] == {name: last[name] for name in ("device_blocks", "host_blocks")}
    for part in (hybrid["start"], hybrid["end"]):
        blocks_taken = 4 * (part["device_blocks"] + 1) + part["host_blocks"]  # and the null block
        bytes_taken = blocks_taken * hybrid["block_bytes"]
        assert bytes_taken <= hybrid["budget_bytes"] == 6 << 30
    assert said["config"]["num_blocks"] - 1 > hybrid["end"]["device_blocks"]
    text = REFERENCE.read_text(encoding="utf-8")
    for key in (*hybrid, *last):
        assert f"`{key}`" in text, key
    out = " ".join(kvatlas("replay", *LIMIT, *BUDGET, "--budget-interval", 8).out.split())
    assert "One budget 6 GiB, a byte on the device counted as 4" in out
    assert f"{hybrid['moves']} moves in {hybrid['looks']} looks" in out


@pytest.mark.variants
def test_a_division_that_stays_is_two_sizes() -> None:
    """GIVEN no looks THEN the figures are those of a pool and a tier of these sizes."""
    still = replayed(*LIMIT, *BUDGET, "--blocks", 401, "--budget-interval", 0)
    assert still["hybrid"]["start"] == still["hybrid"]["end"]
    assert still["hybrid"]["start"]["device_blocks"] == 400
    host = still["hybrid"]["start"]["host_blocks"]
    plain = replayed(*LIMIT, "--blocks", 401, "--host-blocks", host, "--host-block-bytes", "2MiB")
    assert still["decisions"] == plain["decisions"]
    assert still["measurements"] == plain["measurements"]


@pytest.mark.parametrize("start", [None, "1GiB"])
@pytest.mark.parametrize("price", [1.0, 4.0])
def test_the_bytes_of_the_pool_are_those_of_its_blocks(start: str | None, price: float) -> None:
    """GIVEN a budget and a model THEN `config` says what so many blocks take, however it starts."""
    made = choose_budget(
        ReplayFlags(memory_budget="8GiB", model="llama-3.1-8b", device_price=price, kv_memory=start)
    )
    assert made is not None
    budget, pool, flags = made
    assert pool.num_blocks == budget.most.device_blocks + 1
    assert flags.host_blocks == budget.most.host_blocks
    assert pool.said["kv_memory_bytes"] == pool.num_blocks * (2 << 20)
    # AND the null block is paid for, beside the one block that the host keeps
    taken = (price * pool.num_blocks + 1) * (2 << 20)
    assert (8 << 30) - price * (2 << 20) < taken <= 8 << 30


def test_the_keys_of_a_choice_are_documented() -> None:
    choice = replayed(*LIMIT, "--block-size", "auto")["block_size_choice"]
    text = REFERENCE.read_text(encoding="utf-8")
    for key in (*choice, *choice["estimates"][0]):
        assert f"`{key}`" in text, key


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--block-size", "large"), "--block-size: must be a whole number of tokens, or auto"),
        (("--block-size", "0"), "--block-size: must be at least 1"),
        (("--block-size", "-1"), "--block-size: must be at least 1"),
        (("--block-size", "auto", "--engine", "nano-vllm"), "--block-size: nano-vllm has one"),
        (("--memory-budget", "1GiB"), "add --model, or --host-block-bytes"),
        ((*BUDGET, "--host-blocks", "9"), "--host-blocks: the host tier gets what the budget"),
        ((*BUDGET, "--host-memory", "9GiB"), "--host-memory: the host tier gets what the budget"),
        ((*BUDGET, "--blocks", "9999"), "buys 2 to 767 blocks on the device, the null block"),
        ((*BUDGET, "--blocks", "769"), "(got 769)"),
        ((*BUDGET, "--blocks", "1"), "(got 1)"),
        ((*BUDGET, "--no-prefix-caching"), "--memory-budget: a budget is divided by what is"),
        (
            ("--model", "llama-3.1-8b", "--kv-memory", "9GiB", "--memory-budget", "8GiB"),
            "--kv-memory: this budget buys",
        ),
        (
            ("--model", "gemma-3-27b", "--memory-budget", "8GiB"),
            "--memory-budget: a host tier, which shares the budget",
        ),
        (
            ("--model", "gemma-3-27b", "--kv-memory", "4GiB", "--host-memory", "8GiB"),
            "--host-memory: a host tier is modelled for one group of full attention (got 8GiB)",
        ),
        (
            ("--host-block-bytes", "2MiB", "--host-memory", "8GiB", "--no-prefix-caching"),
            "--host-memory: a host tier finds blocks by the keys of the prefix cache (got 8GiB)",
        ),
        ((*BUDGET, "--events", "x.parquet"), "--events: a recording cannot say"),
        ((*BUDGET, "--html", "x.html"), "--html: a recording cannot say"),
        ((*BUDGET, "--eviction", "lfu"), "--eviction: a memory budget is divided"),
        ((*BUDGET, "--host-policy", "lfu"), "--host-policy: a memory budget is divided"),
        (("--memory-budget", "6GiB", "--engine", "nano-vllm"), "nano-vLLM has no host tier"),
        ((*BUDGET, "--budget-step", "0.9"), "--budget-step: must be"),
        ((*BUDGET, "--budget-interval", "-3"), "--budget-interval: must be at least 0"),
        ((*BUDGET, "--budget-interval", "0", "--budget-step", "0.5"), "--budget-step: nothing is"),
        ((*BUDGET, "--budget-least-gain", "-1"), "--budget-least-gain: must be"),
        (("--device-price", "8"), "--device-price: there is no budget"),
        (("--budget-interval", "8"), "--budget-interval: there is no budget"),
        (("--budget-interval", "64"), "--budget-interval: there is no budget"),
    ],
)
def test_bad_input_is_one_line(flags: tuple[str, ...], line: str) -> None:
    done = kvatlas("replay", "--limit", 9, *flags)
    assert done.code == 2
    assert line in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_recordings_bring_sizes_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "run.parquet"
    replayed("--limit", 20, "--events", path)
    for flags, line in (
        (("--block-size", "auto"), "--block-size: a recording brings"),
        (BUDGET, "--memory-budget: a recording brings"),
    ):
        done = kvatlas("replay", path, *flags)
        assert (done.code, line in done.err) == (2, True)


def test_a_trace_of_odd_identities_says_which_sizes_it_has(tmp_path: Path) -> None:
    """GIVEN identities of 48 or 100 tokens THEN there is one size, or none and a line."""
    trace = tmp_path / "trace.jsonl"
    rows = [
        {"timestamp": 100 * i, "input_length": 96, "output_length": 4, "hash_ids": [0, i + 1]}
        for i in range(9)
    ]
    trace.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    said = replayed(trace, "--tokens-per-id", 48, "--block-size", "auto")
    assert said["block_size_choice"]["block_size"] == 16
    assert any("at 16 tokens only of 16, 32" in note for note in said["notes"])
    done = kvatlas("replay", trace, "--tokens-per-id", 50, "--block-size", "auto")
    assert (done.code, "a divisor or a multiple of 50" in done.err) == (2, True)
