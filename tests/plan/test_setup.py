"""Settings from a recording make the engine that the command line made, and its flags again."""

from __future__ import annotations

import json
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from runs import settings

from kvatlas.cli.engines import choose_engine
from kvatlas.cli.replay_flags import ReplayFlags
from kvatlas.cli.replay_summary import said_config
from kvatlas.errors import InputError
from kvatlas.plan import Setup
from kvatlas.plan.rules import RULES, Reading

from runs import sheet  # isort: skip

LINES = (
    "",
    "--blocks 3000 --block-size 32",
    "--no-prefix-caching --async-scheduling --no-reserve-full-isl",
    "--policy priority --watermark 0.05 --long-prefill-token-threshold 512",
    "--max-num-seqs 7 --max-num-batched-tokens 1024 --max-model-len 4096",
    "--arrivals timed --step-ms-base 3.25 --step-ms-per-ktok 0.125 --block-like-vllm",
    "--queue-depth 9 --limit 40 --seed 3",
    "--lazy-free-steps 4 --protect-waiting 8 --preallocate-blocks 2 --preallocate-predicted",
    "--admission-growth 0.5 --policy priority --forget-uncomputed",
    "--eviction lfu --placement sorted",
    "--engine-version pre-42656",
    "--engine nano-vllm",
    "--engine nano-vllm --blocks 400 --block-size 512 --max-num-seqs 12",
    "--engine nano-vllm --engine-version 9e8507e --arrivals timed",
    "--blocks 900 --host-blocks 400 --host-policy lfu --host-write-back free --swap always",
    "--blocks 900 --host-memory 3GB --host-block-bytes 2MiB --host-bandwidth 12.5GB/s",
    "--kv-memory 2GiB --model llama-3.1-8b --host-memory 8GiB --host-bandwidth 25GB/s",
    "--kv-memory 2GiB --model llama-3.1-8b",
    "--kv-memory 1500000000 --model gemma-3-27b",
)


@cache
def command() -> Any:
    """Return the click command of `kvatlas replay`."""
    import typer

    from kvatlas.cli.app import app

    return typer.main.get_command(app).commands["replay"]  # type: ignore[attr-defined]


def flags(line: str) -> ReplayFlags:
    """Return what the command line makes of these words."""
    return ReplayFlags(**command().make_context("replay", shlex.split(line)).params)


def said(line: str) -> dict[str, object]:
    """Return the `config` of the JSON that these flags give, as it comes out of a file."""
    given = flags(line)
    config: dict[str, object] = json.loads(json.dumps(said_config(given, choose_engine(given))))
    return config


@pytest.mark.parametrize("line", LINES)
def test_the_engine_is_the_same(line: str) -> None:
    choice, setup = choose_engine(flags(line)), Setup(said(line))
    setup.check()
    assert setup.vllm.groups == choice.config.groups
    assert setup.vllm.with_(kv_cache_groups=None, block_size=16) == choice.config.with_(
        kv_cache_groups=None, block_size=16
    )
    assert setup.drive == choice.drive
    assert setup.conditions() == choice.conditions()


@pytest.mark.parametrize("line", LINES)
def test_the_command_says_it_again(line: str) -> None:
    # GIVEN a recording's settings WHEN its command is typed THEN the settings are the same
    setup = Setup(said(line))
    words = shlex.split(setup.command())
    assert words[:2] == ["kvatlas", "replay"]
    again = said(shlex.join(words[2:]))
    ours = dict(setup.said)
    for config in (again, ours):
        config.pop("blocks_from")
    assert again == ours


@pytest.mark.parametrize("line", LINES)
def test_every_change_of_every_rule_can_be_typed(line: str) -> None:
    # GIVEN the settings WHEN a rule's change is made THEN its command makes the changed settings
    setup = Setup(said(line))
    reading = Reading(sheet(), setup.said)
    tried = 0
    for change in {change for rule in RULES for change in rule.changes}:
        value = change.to(reading)
        if value is None:
            continue
        try:
            changed = setup.with_(change.setting, value)
        except InputError:
            continue
        tried += 1
        again = Setup(said(shlex.join(shlex.split(changed.command())[2:])))
        assert again.vllm == changed.vllm
        assert again.flags() == changed.flags()
        # AND the flags that changed, after the unchanged command, say it, too.
        merged = f"{setup.command()} {changed.change_from(setup)}"
        assert Setup(said(shlex.join(shlex.split(merged)[2:]))).vllm == changed.vllm
    assert tried >= 3


@pytest.mark.parametrize(
    ("setting", "value", "change"),
    [
        ("num_blocks", 40_000, "--blocks 40000"),
        ("block_size", 32, "--blocks 10000 --block-size 32"),
        ("watermark", 0.01, "--watermark 0.01"),
        ("prefix_caching", False, "--no-prefix-caching"),
        ("async_scheduling", True, "--async-scheduling"),
        ("eviction_policy", "lfu", "--eviction lfu"),
        ("placement", "sorted", "--placement sorted"),
        ("policy", "priority", "--policy priority"),
        ("max_num_seqs", 128, "--max-num-seqs 128"),
    ],
)
def test_a_change_reads_as_flags(setting: str, value: float | str, change: str) -> None:
    before = Setup(settings())
    after = before.with_(setting, value)
    assert after.change_from(before) == change
    assert before[setting] != value
    # AND back again, where a default need not be said but has to be typed
    back = after.with_(setting, before[setting])
    words = back.change_from(after).split()
    assert {word for word in words if word.startswith("--")} >= {
        {
            "--no-prefix-caching": "--prefix-caching",
            "--async-scheduling": "--no-async-scheduling",
        }.get(word, word)
        for word in change.split()
        if word.startswith("--") and word != "--blocks"
    }


def test_blocks_of_another_size_take_the_same_memory() -> None:
    changed = Setup(settings(block_size=256, num_blocks=1250)).with_("block_size", 16)
    assert changed.vllm.num_blocks == 20_000
    assert [spec.block_size for spec in changed.vllm.groups] == [16]


def test_a_pool_of_bytes_is_changed_in_bytes() -> None:
    setup = Setup(said("--kv-memory 2GiB --model llama-3.1-8b"))
    doubled = setup.with_("num_blocks", 2 * setup["num_blocks"])
    assert doubled.change_from(setup) == "--kv-memory 4GiB"
    assert doubled.vllm.num_blocks == 2 * setup.vllm.num_blocks
    coarser = setup.with_("block_size", 32)
    assert coarser.change_from(setup) == "--block-size 32"
    assert coarser.vllm.num_blocks == setup.vllm.num_blocks // 2


@pytest.mark.parametrize(
    ("line", "setting", "value", "why"),
    [
        ("--engine nano-vllm", "watermark", 0.1, "no watermark"),
        ("--engine nano-vllm", "block_size", 16, "multiples of 256"),
        ("--engine nano-vllm", "policy", "priority", "no priorities"),
        ("", "lottery", 3, "does not say"),
    ],
)
def test_what_cannot_be_changed_says_why(
    line: str, setting: str, value: float | str, why: str
) -> None:
    with pytest.raises(InputError, match=why):
        Setup(said(line)).with_(setting, value)


def test_words_for_a_shell_are_quoted(tmp_path: Path) -> None:
    trace = "a trace; rm -rf.jsonl"
    words = shlex.split(Setup(settings(trace=trace)).command())
    assert words[2] == trace
