"""Start-up logs: the lines of several versions, what they add up to, and logs that are no logs."""

from __future__ import annotations

import gzip
import random
import time
from pathlib import Path

import pytest

from kvatlas.budget import (
    BudgetRequest,
    Parallel,
    budget,
    compare,
    find_device,
    log_notes,
    measured,
    read_startup_log,
    with_measured,
)
from kvatlas.errors import InputError

GIB = 1 << 30

# The figures of github.com/vllm-project/vllm/issues/57936, in the words of vLLM 0.32.
TWICE = """\
(EngineCore pid=311) INFO 09-18 10:00:01 [core.py:134] Initializing a V1 LLM engine (v0.32.0) \
with config: model='MiniMaxAI/MiniMax-M2.5', speculative_config=None, dtype=torch.bfloat16, \
max_seq_len=196608, tensor_parallel_size=4, pipeline_parallel_size=1, data_parallel_size=1, \
quantization=fp8, enforce_eager=False, kv_cache_dtype=auto, device_config=cuda
(Worker_TP0 pid=401) INFO 09-18 10:01:00 [gpu_model_runner.py:5150] Model loading took 54.2 GiB \
memory and 61.123456 seconds
(Worker_TP0 pid=401) INFO 09-18 10:02:00 [gpu_model_runner.py:6474] Estimated CUDA graph memory: \
57.45 GiB total
(Worker_TP0 pid=401) INFO 09-18 10:02:01 [gpu_worker.py:759] Available KV cache memory: 43.31 GiB
(Worker_TP0 pid=401) INFO 09-18 10:02:01 [gpu_worker.py:774] CUDA graph memory profiling is \
enabled (default since v0.21.0). The current --gpu-memory-utilization=0.9200 is equivalent to \
--gpu-memory-utilization=0.5979 without CUDA graph memory profiling. To maintain the same \
effective KV cache size as before, increase --gpu-memory-utilization to 1.0000.
(EngineCore pid=311) INFO 09-18 10:02:02 [kv_cache_utils.py:2327] GPU KV cache size: 732,416 \
tokens, Maximum concurrency for 196,608 tokens per request: 3.73x
(Worker_TP0 pid=401) INFO 09-18 10:04:00 [gpu_model_runner.py:6581] Graph capturing finished in \
118 secs, took 63.99 GiB
(Worker_TP0 pid=401) INFO 09-18 10:04:00 [gpu_worker.py:971] CUDA graph pool memory: 63.99 GiB \
(actual), 57.45 GiB (estimated), difference: 6.54 GiB (10.2%).
(Worker_TP0 pid=401) INFO 09-18 10:04:00 [gpu_worker.py:1034] Free memory on device \
(175.81/178.35 GiB) on startup. Desired GPU memory utilization is (0.92, 164.08 GiB). Actual usage \
is 58.44 GiB for consumed memory (weights + non-torch), 62.33 GiB for peak activation, and 63.99 \
GiB for CUDAGraph memory. Replace gpu_memory_utilization config with `--kv-cache-memory=\
-22366041805` (-20.83 GiB) to fit into requested memory, or `--kv-cache-memory=-9771050598` \
(-9.1 GiB) to fully utilize gpu memory. Current kv cache memory in use is 43.31 GiB.
"""

# github.com/LMCache/LMCache/issues/3430: Qwen3-8B on a device of 24 GB, vLLM 0.21 or later.
QWEN = """\
(EngineCore pid=4108) INFO 05-28 08:00:24 [gpu_model_runner.py:6063] Profiling CUDA graph memory: \
PIECEWISE=51 (largest=512), FULL=35 (largest=256)
(EngineCore pid=4108) INFO 05-28 08:00:25 [gpu_model_runner.py:6142] Estimated CUDA graph memory: \
0.52 GiB total
(EngineCore pid=4108) INFO 05-28 08:00:26 [gpu_worker.py:462] Available KV cache memory: 6.37 GiB
(EngineCore pid=4108) INFO 05-28 08:00:26 [gpu_worker.py:477] CUDA graph memory profiling is \
enabled (default since v0.21.0). The current --gpu-memory-utilization=0.9764 is equivalent to \
--gpu-memory-utilization=0.9543 without CUDA graph memory profiling.
(EngineCore pid=4108) INFO 05-28 08:00:26 [kv_cache_utils.py:1710] GPU KV cache size: 46,368 tokens
(EngineCore pid=4108) INFO 05-28 08:00:26 [kv_cache_utils.py:1711] Maximum concurrency for 16,384 \
tokens per request: 2.83x
"""

# github.com/vllm-project/vllm/issues/11251, vLLM 0.6.
OLD = """\
INFO 12-20 20:25:46 worker.py:241] the current vLLM instance can use total_gpu_memory (15.77GiB) x \
gpu_memory_utilization (0.90) = 14.20GiB
INFO 12-20 20:25:46 worker.py:241] model weights take 7.51GiB; non_torch_memory takes 0.39GiB; \
PyTorch activation peak memory takes 2.53GiB; the rest of the memory reserved for KV Cache is \
3.76GiB.
INFO 12-20 20:25:46 distributed_gpu_executor.py:57] # GPU blocks: 3852, # CPU blocks: 4096
INFO 12-20 20:25:46 distributed_gpu_executor.py:61] Maximum concurrency for 40000 tokens per \
request: 1.54x
"""

# github.com/vllm-project/vllm/pull/21489, vLLM 0.10.
WEIGHTS_APART = """\
DEBUG 07-23 [gpu_worker.py:311] Free memory on device (177.66/178.36 GiB) on startup. Desired GPU \
memory utilization is (0.9, 160.53 GiB). Actual usage is 8.58 GiB for weight, 9.96 GiB for peak \
activation, 0.07 GiB for non-torch memory, and 0.65 GiB for CUDAGraph memory. Replace \
gpu_memory_utilization config with `--kv-cache-memory=151519866880` to fit into requested memory, \
or `--kv-cache-memory=169914433536` to fully utilize gpu memory. Current kv cache memory in use is \
141.92 GiB.
"""


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "vllm.log"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_graphs_that_vllm_counts_twice_are_counted_once(tmp_path: Path) -> None:
    # GIVEN the log of the issue WHEN it is read THEN the suggestion is what the issue works out
    log = read_startup_log(written(tmp_path, TWICE))
    real = measured(log)

    assert log.version == "0.32.0"
    assert log.config["model"] == "MiniMaxAI/MiniMax-M2.5"
    assert log.config["dtype"] == "bfloat16"
    assert log.config["tensor_parallel_size"] == "4"
    assert real.worker == "Worker_TP0"
    assert real.activation_bytes == pytest.approx(4.88 * GIB, abs=0.01 * GIB)
    assert real.outside_bytes == pytest.approx((58.44 - 54.2) * GIB, abs=0.01 * GIB)
    assert real.graph_bytes == pytest.approx(57.45 * GIB, abs=0.01 * GIB)
    assert real.graph_actual_bytes == pytest.approx(63.99 * GIB, abs=0.01 * GIB)
    assert real.corrected is not None
    within, most = real.corrected
    assert within == pytest.approx(36.62 * GIB, abs=0.01 * GIB)
    assert most == pytest.approx(48.35 * GIB, abs=0.01 * GIB)
    assert (real.kv_tokens, real.max_len, real.concurrency) == (732_416, 196_608, 3.73)


def test_terms_of_the_log_add_up(tmp_path: Path) -> None:
    real = measured(read_startup_log(written(tmp_path, TWICE)))
    taken = (real.weight_bytes, real.outside_bytes, real.activation_bytes, real.graph_bytes)

    assert all(size is not None for size in (*taken, real.kv_bytes, real.requested_bytes))
    total = sum(size or 0 for size in (*taken, real.kv_bytes))
    assert total == pytest.approx(real.requested_bytes, abs=0.035 * GIB)


def test_a_suggestion_that_is_right_is_left_alone(tmp_path: Path) -> None:
    # With #37426 the printed peak holds no graphs: requested - consumed - peak - graphs is the KV.
    once = TWICE.replace("62.33 GiB for peak", "4.88 GiB for peak")
    once = once.replace("-22366041805", "39320446566").replace("-9771050598", "51915437773")
    real = measured(read_startup_log(written(tmp_path, once)))

    assert real.corrected is None
    assert real.activation_bytes == pytest.approx(4.88 * GIB, abs=0.01 * GIB)


def test_the_predicted_waterfall_stands_beside_the_real_one(tmp_path: Path) -> None:
    log = read_startup_log(written(tmp_path, QWEN))
    real = measured(log)
    found = budget(
        BudgetRequest(
            model="qwen3-8b",
            device=find_device("rtx-4090"),
            gpu_memory_utilization=0.9764,
            max_model_len=16384,
            runner="v1",
        )
    )
    rows = {row.name: row for row in compare(found, real)}

    # The batch sizes of its graphs are the ones that it captured: 51 in pieces, 35 whole.
    sizes = found.capture_sizes
    assert (len(sizes), sizes[-1]) == (51, 512)
    assert sum(size <= found.max_num_seqs for size in sizes) == 35
    # KV bytes and tokens of the log agree to the block, so bytes per token are vLLM's.
    assert real.kv_tokens is not None
    assert real.kv_tokens * found.token_bytes == pytest.approx(6.37 * GIB, abs=0.01 * GIB)
    kv, tokens = rows["KV cache"], rows["KV tokens"]
    assert kv.predicted is not None and kv.real is not None and tokens.predicted is not None
    assert kv.predicted == pytest.approx(kv.real, abs=0.02 * 23.52 * GIB)  # 2% of the device
    graphs = rows["CUDA graphs"]
    assert graphs.predicted == pytest.approx(graphs.real, rel=0.1)
    assert rows["weights"].real is None
    assert list(log_notes(found, log, real)) == []


def test_a_second_budget_is_measured(tmp_path: Path) -> None:
    # GIVEN the log of a start WHEN its figures are taken THEN its KV cache comes out
    real = measured(read_startup_log(written(tmp_path, TWICE)))
    request = BudgetRequest(
        model="minimax-m2.5",
        device=find_device(f"{round(178.35 * GIB)}"),
        parallel=Parallel(tp=4),
        outside_bytes=7,
    )
    found = budget(with_measured(request, real))
    terms = {term.name: term for term in found.tightest.waterfall.terms}

    assert {name for name, term in terms.items() if term.basis == "measured"} == {
        "weights: beyond that",
        "activations",
        "CUDA graphs",
    }
    assert (terms["outside PyTorch"].basis, terms["outside PyTorch"].size_bytes) == ("given", 7)
    assert real.kv_bytes is not None and real.outside_bytes is not None
    left = found.tightest.waterfall.kv_bytes - real.outside_bytes + 7
    assert left == pytest.approx(real.kv_bytes, abs=0.05 * GIB)


def test_older_words_are_understood(tmp_path: Path) -> None:
    real = measured(read_startup_log(written(tmp_path, OLD)))

    assert real.total_bytes == round(15.77 * GIB)
    assert real.requested_bytes == round(14.20 * GIB)
    assert (real.weight_bytes, real.outside_bytes) == (round(7.51 * GIB), round(0.39 * GIB))
    assert (real.kv_bytes, real.num_blocks) == (round(3.76 * GIB), 3852)
    assert real.corrected is None

    apart = measured(read_startup_log(written(tmp_path, WEIGHTS_APART)))
    assert (apart.weight_bytes, apart.outside_bytes) == (round(8.58 * GIB), round(0.07 * GIB))
    assert apart.suggested == (151519866880, 169914433536)
    assert apart.corrected is None


def test_the_worker_with_the_least_memory_counts(tmp_path: Path) -> None:
    lines = [
        f"(Worker_TP{rank} pid={50 + rank}) INFO Available KV cache memory: {gib} GiB\n"
        f"(Worker_TP{rank} pid={50 + rank}) INFO Model loading took {8 + rank} GiB memory and 1 s\n"
        for rank, gib in enumerate((20.5, 19.25, 20.75))
    ]
    log = read_startup_log(written(tmp_path, "".join(lines)))
    real = measured(log)

    assert (real.worker, real.kv_bytes, real.weight_bytes) == ("Worker_TP1", 19.25 * GIB, 9 * GIB)
    found = budget(BudgetRequest(model="llama-3.1-8b", device=find_device("h100")))
    assert any("of 3 processes" in note for note in log_notes(found, log, real))


def test_the_last_start_counts(tmp_path: Path) -> None:
    again = TWICE.replace("43.31 GiB\n", "40.00 GiB\n").replace("pid=311", "pid=999")
    log = read_startup_log(written(tmp_path, TWICE + again))
    real = measured(log)

    assert log.starts == 2
    assert real.kv_bytes == 40 * GIB
    found = budget(
        BudgetRequest(
            model="minimax-m2.5",
            device=find_device("b200"),
            parallel=Parallel(tp=4),
        )
    )
    notes = list(log_notes(found, log, real))
    assert any("2 starts" in note for note in notes)


def test_a_start_that_failed_leaves_the_one_before(tmp_path: Path) -> None:
    again = TWICE.splitlines(keepends=True)[0]
    log = read_startup_log(written(tmp_path, TWICE + again))

    assert log.starts == 2
    assert measured(log).kv_bytes == round(43.31 * GIB)


def test_settings_that_differ_are_named(tmp_path: Path) -> None:
    log = read_startup_log(written(tmp_path, TWICE))
    found = budget(
        BudgetRequest(model="minimax-m2.5", device=find_device("gb300"), max_model_len=4096)
    )
    notes = " ".join(log_notes(found, log, measured(log)))

    assert "tensor_parallel_size is 4, the prediction's 1" in notes
    assert "max_seq_len is 196608, the prediction's 4096" in notes
    assert "another size" in notes
    assert "#57936" in notes


def test_data_parallel_engines_are_not_restarts(tmp_path: Path) -> None:
    lines = "".join(
        TWICE.splitlines(keepends=True)[0].replace("EngineCore", f"EngineCore_DP{rank}")
        for rank in range(3)
    )
    log = read_startup_log(written(tmp_path, lines + QWEN))

    assert log.starts == 1


def test_colours_and_prefixes_do_not_matter(tmp_path: Path) -> None:
    line = (
        "2025-09-24T04:15:29.297966219Z \x1b[36m(EngineCore_DP4 pid=1673)\x1b[0m INFO "
        "[gpu_worker.py:1] Available KV cache memory: 1.5 GiB\r\n"
    )
    log = read_startup_log(written(tmp_path, line))

    assert log.workers["EngineCore_DP4"].gib == {"kv": 1.5}


@pytest.mark.parametrize("text", [b"", b"hello\n", b"\x00" * 1000, b"Available KV cache memory:\n"])
def test_a_log_without_a_word_about_memory_is_refused(text: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_startup_log(written(tmp_path, text))
    assert "no line of vLLM's about memory" in str(caught.value)
    with pytest.raises(InputError, match="cannot read the log"):
        read_startup_log(tmp_path / "missing")
    with pytest.raises(InputError, match="cannot read the log"):
        read_startup_log(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "Model loading took " + "9" * 10_000 + " GiB",
        "Model loading took " + "1." * 8_000 + " GiB",
        "gpu_memory_utilization (" + "." * 20 + ") GiB total_gpu_memory (" * 200,
        "GiB " + "(a pid=" * 20_000,
        "GPU KV cache size: " + "1," * 8_000 + " tokens",
        "LLM engine (v" + "model='" * 10_000,
        "\x1b[" + "0;" * 20_000 + "GiB",
        "Actual usage is 1 GiB for consumed memory (weights + non-torch), " * 300,
    ],
)
def test_no_line_takes_long(line: str, tmp_path: Path) -> None:
    path = written(tmp_path, QWEN + (line + "\n") * 20)

    start = time.perf_counter()
    log = read_startup_log(path)
    assert time.perf_counter() - start < 2
    assert log.workers["EngineCore"].gib["kv"] == 6.37


def test_compressed_logs_other_encodings_and_progress_bars_say_the_same(tmp_path: Path) -> None:
    plain = read_startup_log(written(tmp_path, TWICE))
    bars = "Capturing CUDA graphs:  50%|#####     |\r" * 600
    done: list[int] = []
    for raw in (
        gzip.compress(TWICE.encode()),
        TWICE.encode("utf-16"),
        TWICE.replace("(EngineCore", bars + "(EngineCore").encode(),
    ):
        log = read_startup_log(written(tmp_path, raw), on_bytes=done.append)
        assert (log.workers, log.config, log.version) == (plain.workers, plain.config, "0.32.0")
    assert done


@pytest.mark.parametrize(
    ("prefix", "who"),
    [
        ("(VllmWorker-0 pid=1090)", "VllmWorker-0"),
        ("(VllmWorker rank=3 pid=1090)", "VllmWorker rank=3"),
        ("(RayWorkerWrapper pid=1861983, ip=192.168.10.60)", "RayWorkerWrapper@192.168.10.60"),
        ("(EngineCore_DP0 pid=17)", "EngineCore_DP0"),
        ("", ""),
    ],
)
def test_every_form_of_a_process_is_told_apart(prefix: str, who: str, tmp_path: Path) -> None:
    said = "INFO [gpu_worker.py:1] Available KV cache memory: {} GiB\n"
    lines = f"{prefix} {said.format(1.5)}(Worker_TP1 pid=2) {said.format(2.5)}"
    log = read_startup_log(written(tmp_path, lines))

    assert log.workers[who].gib == {"kv": 1.5}
    assert len(log.workers) == 2


def test_mutated_logs_are_read_or_refused(tmp_path: Path) -> None:
    # GIVEN 2,000 damaged logs WHEN they are read and added up THEN nothing else is raised
    found = budget(BudgetRequest(model="llama-3.1-8b", device=find_device("h100")))
    rng = random.Random(7)
    whole = (TWICE + QWEN + OLD + WEIGHTS_APART).encode()
    read = 0
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 60)):
            at = rng.randrange(len(data))
            match rng.randrange(3):
                case 0:
                    data[at] = rng.randrange(256)
                case 1:
                    del data[at : at + rng.randint(1, 200)]
                case 2:
                    data[at:at] = whole[at : at + rng.randint(1, 100)]
        try:
            log = read_startup_log(written(tmp_path, bytes(data)))
        except InputError:
            continue
        real = measured(log)
        assert list(compare(found, real))
        assert all(isinstance(note, str) for note in log_notes(found, log, real))
        read += 1
    assert read > 1500
