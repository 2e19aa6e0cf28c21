"""`kvatlas budget`: what it prints, its JSON, its exit code, and flags that cannot be."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from command import hashed_trace, kvatlas
from loads import write_load

LLAMA = ("budget", "--model", "llama-3.1-8b", "--device", "h100")
LOG = (
    "(EngineCore pid=9) INFO [core.py:134] Initializing a V1 LLM engine (v0.32.0) with config: "
    "model='m', max_seq_len=8192, tensor_parallel_size=1\n"
    "(EngineCore pid=9) INFO [gpu_worker.py:759] Available KV cache memory: 55.25 GiB\n"
    "(EngineCore pid=9) INFO [model_runner.py:425] Model loading took 14.99 GiB memory and 9.1 "
    "seconds\n"
)


def test_a_budget_fits_into_a_terminal(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(LOG)
    done = kvatlas(
        *LLAMA, "--lengths", "2048,8192", "--concurrency", 50, "--log", log,
        "--measured-fragmentation", "1219MiB", "--stuck-bytes", "300MiB",
    )  # fmt: skip

    assert (done.code, done.err) == (0, "")
    assert max(len(line) for line in done.out.splitlines()) <= 80
    text = " ".join(done.out.split())
    for said in (
        "It fits: 50 requests of 8,192 tokens need 25,600 of",
        "weights: mlp",
        "KV cache groups",
        "128 KiB",
        "buffer, published",
        "buffer, measured",
        "Beside the log vLLM 0.32.0",
        "14.99 GiB",
        "the log's max_seq_len is 8192, the prediction's 131072",
        "--kv-cache-memory-bytes",
        "vllm serve meta-llama/Llama-3.1-8B",
        "kvatlas replay TRACE --blocks",
        "8,030,261,248",
    ):
        assert said in text, said


def test_the_json_says_the_same(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(LOG)
    done = kvatlas(*LLAMA, "--tp", 2, "--pp", 2, "--log", log, "--json", "-")
    assert (done.code, done.err) == (0, "")
    said = done.json

    assert said["schema"] == 1
    assert said["config"]["tensor_parallel_size"] == 2
    assert said["model"]["parameters"] == sum(said["model"]["parameters_by_part"].values())
    assert len(said["stages"]) == 2
    for stage in said["stages"]:
        taken = sum(term["size_bytes"] for term in stage["terms"])
        assert taken + stage["kv_bytes"] == stage["requested_bytes"]
        assert stage["kv_bytes"] // stage["bytes_per_block"] == stage["num_blocks"]
    cache = said["kv_cache"]
    assert cache["num_blocks"] == min(stage["num_blocks"] for stage in said["stages"])
    assert cache["bytes_per_token"] == 64 * 1024
    assert said["log"]["real"]["kv_bytes"] == round(55.25 * 2**30)
    assert said["verdict"]["fits"] is True
    assert {flag["name"] for flag in said["flags"]} >= {
        "--gpu-memory-utilization", "--kv-cache-memory-bytes", "--block-size", "--max-num-seqs",
        "--max-num-batched-tokens", "--max-model-len",
    }  # fmt: skip


def test_a_log_can_measure_the_budget(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(LOG)
    done = kvatlas(*LLAMA, "--log", log, "--use-log", "--json", "-")
    assert (done.code, done.err) == (0, "")
    terms = {term["name"]: term for term in done.json["stages"][0]["terms"]}

    assert terms["weights: beyond that"]["basis"] == "measured"
    weights = sum(term["size_bytes"] for name, term in terms.items() if "weights" in name)
    assert weights == round(14.99 * 2**30)
    assert terms["activations"]["basis"] == "estimated"


def test_a_snapshot_is_replayed_for_the_buffers(tmp_path: Path) -> None:
    """GIVEN a recorded load THEN both buffers are shown, and the flags leave ours free."""
    snapshot = write_load(tmp_path / "snapshot.pickle", failed=True)
    done = kvatlas(*LLAMA, "--snapshot", snapshot)
    assert (done.code, done.err) == (0, "")
    assert max(len(line) for line in done.out.splitlines()) <= 80
    text = " ".join(done.out.split())
    for said in (
        "buffer, published 240 MiB 0.30% measured max(150 MiB, measured * 1)",
        "buffer, measured 240 MiB 0.30% measured recommended: survival capacity",
        "The recorded load 121 events of device 0, replayed: identical",
        "survives from 864 MiB",
        "memory ran out once in the snapshot",
        "a limited capacity: not verified on recordings",
        "out of memory: not verified on recordings",
        "240 MiB stay free against fragmentation",
    ):
        assert said in text, said

    said = kvatlas(*LLAMA, "--snapshot", snapshot, "--json", "-").json
    assert said["snapshot"]["survival_bytes"] == 864 << 20
    assert said["buffers"]["recommended_bytes"] == said["buffers"]["own_bytes"] == 240 << 20
    assert said["buffers"]["stuck_bytes"] == said["snapshot"]["peak_stuck_bytes"]
    # AND the blocks that are handed over are those of the flags
    cache, stage = said["kv_cache"], said["stages"][0]
    assert f"--blocks {cache['num_blocks_after_buffer']} " in said["replay"]
    exact = stage["kv_bytes"] - (240 << 20)
    assert exact // stage["bytes_per_block"] == cache["num_blocks_after_buffer"]
    assert f"--kv-cache-memory-bytes {exact} " in said["command"]


@pytest.mark.parametrize(
    ("place", "said", "unsaid"),
    [
        ("kvatlas.device.reading.assemble", "interrupted before there was anything", "It fits"),
        ("kvatlas.device.survival._smallest", "interrupted before the survival capacity", "Trace"),
    ],
)
def test_ctrl_c_gives_what_there_is(
    place: str, said: str, unsaid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    snapshot = write_load(tmp_path / "snapshot.pickle")
    monkeypatch.setattr(place, interrupted)
    done = kvatlas(*LLAMA, "--snapshot", snapshot)
    text = " ".join((done.out + done.err).split())

    assert done.code == 130
    assert said in text
    assert unsaid not in text


@pytest.mark.parametrize(
    "flags",
    [
        ("--model", "llama-3.1-8b", "--lengths", 4096, "--concurrency", 7),
        ("--model", "deepseek-v2-lite", "--stuck-bytes", "1GiB"),
        ("--model", "gpt-oss-20b", "--tp", 2, "--kv-cache-dtype", "fp8"),
        ("--model", "mistral-7b", "--kv-cache-memory-bytes", "3GiB", "--block-size", 32),
        ("--model", "nemotron-3-nano-30b-a3b", "--no-prefix-caching", "--max-model-len", 9000),
    ],
)
def test_the_replay_runs_as_printed(flags: tuple[object, ...], tmp_path: Path) -> None:
    """GIVEN a budget WHEN its line is run THEN the pool has the blocks of the server's flags."""
    said = kvatlas("budget", "--device", "h100", *flags, "--json", "-").json
    program, *words = shlex.split(said["replay"])
    assert (program, words[:2]) == ("kvatlas", ["replay", "TRACE"])
    words[1] = str(hashed_trace(tmp_path / "trace.jsonl"))
    done = kvatlas(*words, "--json", "-")

    assert (done.code, done.err) == (0, "")
    cache = said["kv_cache"]
    blocks = cache["num_blocks_after_buffer" if "--stuck-bytes" in flags else "num_blocks"]
    run = done.json["config"]
    assert (run["num_blocks"], run["block_size"]) == (blocks, cache["block_size"])
    given = dict(zip(*[iter(shlex.split(said["command"])[3:])] * 2, strict=True))
    assert run["max_num_seqs"] == int(given["--max-num-seqs"])
    assert run["max_model_len"] == int(given["--max-model-len"])


def test_what_does_not_fit_is_exit_code_1() -> None:
    done = kvatlas("budget", "--model", "llama-3.1-70b", "--device", "h100")

    assert (done.code, done.err) == (1, "")
    text = " ".join(done.out.split())
    assert "It does not fit: weights take 131.42 GiB of the 72.85 GiB" in text
    assert "It fits with --tensor-parallel-size 4." in text


def test_a_config_file_is_read(tmp_path: Path) -> None:
    fields = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 8,
              "num_key_value_heads": 2, "hidden_size": 512, "intermediate_size": 1024,
              "vocab_size": 1000, "max_position_embeddings": 2048}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(fields))
    done = kvatlas("budget", "--model", tmp_path, "--device", "8GiB", "--json", "-")

    assert (done.code, done.err) == (0, "")
    assert done.json["model"]["parameters"] == (
        2 * 1000 * 512 + 2 * (2 * 512 * 512 + 2 * 128 * 512 + 3 * 512 * 1024 + 2 * 512) + 512
    )
    assert any("nominal" in note for note in done.json["notes"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--tp", 3), "--tensor-parallel-size: "),
        (("--html", "x", "--json", "./x"), "two reports in one file"),
        (("--survival-capacity", "1GiB", "--allocated-peak", "2GiB"), "no load passes in less"),
        (("--pp", 33), "--pipeline-parallel-size: more pipeline stages than layers"),
        (("--dp", 0), "--data-parallel-size: a number of ranks"),
        (("--gpu-memory-utilization", 1.5), "--gpu-memory-utilization: a share"),
        (("--kv-cache-memory-bytes", "lots"), "--kv-cache-memory-bytes: not a byte size"),
        (("--lengths", "8k"), "--lengths: not a number of tokens (got 8k)"),
        (("--lengths", "1,,2"), "--lengths: a list with nothing in it"),
        (("--lengths", "999999"), "--lengths: longer than a request may be"),
        (("--concurrency", 0), "--concurrency: must be at least 1"),
        (("--quantization", "q4"), "--quantization: this quantization is not modelled"),
        (("--kv-cache-dtype", "int2"), "--kv-cache-dtype: this KV cache dtype"),
        (("--dtype", "int8"), "--dtype: unknown dtype"),
        (("--model-runner", "v3"), "--model-runner: unknown model runner"),
        (("--max-num-seqs", 9000), "--max-num-batched-tokens: a step has fewer tokens"),
        (("--stuck-bytes", "-1"), "--stuck-bytes: not a byte size"),
        (("--survival-capacity", "70GiB"), "--survival-capacity: the survival capacity"),
        (("--fragmentation-factor", -1), "--fragmentation-factor: a factor"),
        (("--use-log",), "--use-log: without a log"),
        (("--snapshot", "missing.pickle"), "missing.pickle: No such file"),
        (("--snapshot-device", 1), "--snapshot-device: a device of no snapshot (got 1)"),
        (("--snapshot", "x", "--stuck-bytes", "1MiB"), "--stuck-bytes: the snapshot says that"),
        (("--html", "-"), "--html: a page is written to a file"),
        (("--log", "missing.log"), "missing.log: cannot read the log"),
        (("--device", "gtx-1080"), "--device: no such device (got gtx-1080)"),
        (("--model", "gpt-5"), "--model: no such model config (got gpt-5)"),
    ],
)
def test_a_flag_that_cannot_be_is_one_line(flags: tuple[object, ...], message: str) -> None:
    done = kvatlas(*LLAMA, *flags)

    assert done.code == 2
    assert done.out == ""
    assert message in done.err
    assert done.err.count("\n") == 1


def test_a_log_is_not_overwritten(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(LOG)
    done = kvatlas(*LLAMA, "--log", log, "--json", log)

    assert done.code == 2
    assert "would overwrite" in done.err
