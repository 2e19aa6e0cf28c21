"""Mistakes: one line that names place, value and remedy; exit code 2; nothing written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from command import hashed_trace, kvatlas


def refused(*args: object) -> str:
    """Run what must be refused and return the one line that says why."""
    done = kvatlas(*args)
    assert done.code == 2
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert done.err.startswith("kvatlas: ")
    assert "Traceback" not in done.err
    return done.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("--blocks 0", "--blocks: must be at least 2 (got 0)"),
        ("--blocks -3", "--blocks: must be at least 2 (got -3)"),
        ("--blocks 99999999999", "--blocks: must be below 2**31"),
        ("--blocks 2000000000", "--blocks: the books of this pool take"),
        ("--block-size 0", "--block-size: must be at least 1 (got 0)"),
        ("--block-size 7", "--block-size: block size does not divide"),
        ("--engine sglang", "--engine: unknown engine (got sglang); use vllm or nano-vllm"),
        ("--engine-version 0.1", "--engine-version: unknown engine version (got 0.1); use one of"),
        ("--policy lifo", "--policy: unknown scheduling policy (got lifo); use fcfs or priority"),
        ("--arrivals soon", "--arrivals: unknown arrivals (got soon); use backlog or timed"),
        ("--watermark 1.5", "--watermark: the watermark is a share of the pool (got 1.5)"),
        ("--watermark nan", "--watermark: the watermark is a share of the pool (got nan)"),
        ("--max-num-seqs 0", "--max-num-seqs: must be at least 1 (got 0)"),
        ("--max-num-batched-tokens 0", "--max-num-batched-tokens: must be at least 1"),
        ("--max-model-len 0", "--max-model-len: must be at least 1"),
        ("--queue-depth 0", "--queue-depth: must be at least 1"),
        ("--long-prefill-token-threshold -1", "--long-prefill-token-threshold: must be at least"),
        ("--step-ms-base -1", "--step-ms-base: must be a number of milliseconds, 0 or more"),
        ("--step-ms-per-ktok inf", "--step-ms-per-ktok: must be a number of milliseconds"),
        ("--limit 0", "--limit: limit must be at least 1 (got 0)"),
        ("--seed -1", "--seed: must be a whole number, 0 or more (got -1)"),
        ("--kv-memory 40GiB", "--kv-memory: how many bytes a block takes depends on the model"),
        ("--kv-memory 40XB --model llama-3.1-8b", "--kv-memory: unknown unit of bytes (got 40XB)"),
        ("--kv-memory 1kB --model llama-3.1-8b", "--kv-memory: too little memory for two blocks"),
        ("--kv-memory 1GiB --model nosuch", "--model: no such model config (got nosuch)"),
        ("--kv-memory 1GiB --blocks 9 --model llama-3.1-8b", "--kv-memory: two sizes for one pool"),
        ("--model llama-3.1-8b", "--model: a model says how many bytes a block takes"),
        ("nosuch.jsonl", "nosuch.jsonl: no such file; check the path"),
        ("nosuch", "neither a file nor a built-in workload (got nosuch); give an existing path"),
        ("--format mooncake", "--format: a built-in workload is not read from a file"),
        ("--events -", "--events: not for a terminal; name a file"),
        ("--events nowhere/run.parquet", "nowhere: --events: no such directory; make it first"),
        ("--html -", "--html: not for a terminal; name a file"),
        ("--host-blocks -1", "--host-blocks: must be at least 0 (got -1)"),
        ("--host-blocks 99999999999", "--host-blocks: must be below 2**31"),
        ("--host-memory 4GiB", "--host-memory: how many blocks fit depends on their bytes"),
        ("--host-memory 4XB --host-block-bytes 2MiB", "--host-memory: unknown unit of bytes"),
        ("--host-memory 1MiB --host-block-bytes 2MiB", "--host-memory: not even one block"),
        ("--host-memory 1GiB --host-blocks 9", "--host-memory: two sizes for one host tier"),
        ("--host-blocks 9 --host-bandwidth 1GB/s", "--host-bandwidth: how long a block takes"),
        ("--host-blocks 9 --host-bandwidth 0", "--host-bandwidth: no blocks move at 0 bytes"),
        (
            "--host-blocks 9 --host-bandwidth fast",
            "--host-bandwidth: not a bandwidth (got fast); write 25GB/s",
        ),
        (
            "--host-blocks 9 --host-bandwidth 25Gbps",
            "--host-bandwidth: unknown unit of bytes (got 25Gbps); write",
        ),
        (
            "--host-memory 1000000TiB --host-block-bytes 1",
            "--host-memory: 1,099,511,627,776,000,000 blocks",
        ),
        ("--host-blocks 9 --host-policy mru", "--host-policy: unknown eviction policy"),
        ("--host-blocks 9 --host-policy return-rate", "--host-policy: this policy learns from"),
        ("--host-blocks 9 --host-write-back late", "--host-write-back: must be one of evict"),
        ("--host-blocks 9 --swap maybe", "--swap: must be one of auto, always, never"),
        ("--host-blocks 9 --no-prefix-caching", "--host-blocks: a host tier finds blocks by"),
        (
            "--protect-waiting 4 --no-prefix-caching",
            "--protect-waiting: keeps what waiting requests will hit, and without prefix caching",
        ),
        (
            "--forget-uncomputed",
            "--forget-uncomputed: only under --policy priority is there anything to forget, not",
        ),
        ("--swap never", "--swap: there is no host tier that this could be about"),
        ("--host-policy lfu", "--host-policy: there is no host tier that this could be about"),
        ("--engine nano-vllm --host-blocks 9", "--host-blocks: nano-vLLM has no host tier"),
        ("--engine nano-vllm --policy priority", "--policy: nano-vLLM has no priorities"),
        ("--engine nano-vllm --no-prefix-caching", "--prefix-caching: nano-vLLM has no switch"),
        ("--engine nano-vllm --max-model-len 9", "--max-model-len: nano-vLLM has no limit"),
        ("--engine nano-vllm --block-size 1", "--block-size: must be at least 2 (got 1)"),
        ("--engine nano-vllm --blocks 0", "--blocks: must be at least 1"),
        (
            "--engine nano-vllm --kv-memory 9GiB --model gemma-3-12b",
            "--model: nano-vLLM serves models of full attention only",
        ),
    ],
)
def test_bad_flags(args: str, said: str) -> None:
    assert said in refused("replay", *args.split())


def test_bad_files(tmp_path: Path) -> None:
    good = hashed_trace(tmp_path / "good.jsonl", 50)
    contents = {
        "empty.jsonl": (b"", "the file is empty"),
        "blank.jsonl": (b"\n \n", "the file is empty"),
        "binary.bin": (bytes(range(256)) * 20, "a binary file of unknown format"),
        "cut.jsonl.gz": (gzip.compress(good.read_bytes())[:-60], "the gzip file ends too early"),
        "columns.csv": (b"a,b,c\n1,2,3\n", "no known trace format fits this file"),
        "text.jsonl": (b"hello\n", "no known trace format fits this file"),
        "negative.jsonl": (
            b'{"timestamp": 0, "input_length": -5, "output_length": 1, "hash_ids": [1]}\n',
            ":1: input_length: a length cannot be negative (got -5)",
        ),
    }
    for name, (content, said) in contents.items():
        file = tmp_path / name
        file.write_bytes(content)
        line = refused("replay", file, "--json", tmp_path / "out.json")
        assert f"{file}" in line
        assert said in line
    assert not (tmp_path / "out.json").exists()


def test_a_block_size_that_does_not_fit_the_trace(tmp_path: Path) -> None:
    trace = hashed_trace(tmp_path / "t.jsonl")
    line = refused("replay", trace, "--block-size", 48)
    assert f"{trace}: --block-size: block size does not divide the trace's 512 tokens" in line
    assert "(got 48)" in line


def test_a_model_that_raises_the_block_size_says_so(tmp_path: Path) -> None:
    trace = hashed_trace(tmp_path / "t.jsonl")
    line = refused("replay", trace, "--kv-memory", "4GiB", "--model", "qwen3-next-80b-a3b")
    assert "with this model --block-size 16 means blocks of 544" in line
    assert "--no-prefix-caching" in line


def test_a_model_config_without_heads(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 2}), encoding="utf-8")
    line = refused("replay", "--kv-memory", "1GiB", "--model", config)
    assert f"{config}: num_attention_heads: a model config without heads" in line


def test_an_option_that_the_format_does_not_have(tmp_path: Path) -> None:
    trace = hashed_trace(tmp_path / "t.jsonl")
    assert "--seed: the mooncake format has no such option" in refused("replay", trace, "--seed", 1)


@pytest.mark.parametrize(
    "args",
    ["--blks 3", "--blocks many", "--blocks 1.5", "one two", "--watermark x", "--json"],
)
def test_what_is_no_flag_is_a_usage_error(args: str) -> None:
    done = kvatlas("replay", *args.split())
    assert done.code == 2
    assert "Error:" in done.err
    assert "Traceback" not in done.err


def test_unknown_commands_and_none() -> None:
    assert kvatlas("reply").code == 2
    assert kvatlas().code == 2
    assert kvatlas("traces").code == 2


def test_too_little_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 74.5 GiB for an array with shape (1, 2)")

    monkeypatch.setattr("kvatlas.cli.engines.Replay", fail)
    line = refused("replay", "--limit", 5)
    assert line == (
        "kvatlas: not enough memory: Unable to allocate 74.5 GiB; "
        "use a smaller --blocks or --max-num-seqs\n"
    )
