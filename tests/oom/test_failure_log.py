"""Logs: prefixes, colours, restarts, repetitions, and lines that nobody would write by hand."""

from __future__ import annotations

import gzip
import io
import random
import tracemalloc
from pathlib import Path

import pytest
from messages import HINTED, MODERN, SCENE, XPU

from kvatlas.errors import InputError
from kvatlas.oom import FailureLog, explain_failure, kv_block_of_log, read_failure_log

LOGS = Path(__file__).parent / "logs"

VERSION = (
    "(EngineCore pid=311) INFO 09-18 10:00:01 [core.py:134] Initializing a V1 LLM engine (v0.32.0) "
    "with config: model='some/model', dtype=torch.bfloat16, max_seq_len=8192, "
    "tensor_parallel_size=2, quantization=None, kv_cache_dtype=auto\n"
)
WORKER = "(Worker_TP0 pid=401) ERROR 06-05 06:18:13 [multiproc_executor.py:470] "


def traceback_of(*calls: tuple[str, str], prefix: str = "") -> str:
    """Return a traceback as a process prints it."""
    lines = ["Traceback (most recent call last):"]
    lines += [f'  File "/site-packages/{file}", line 7, in {name}' for file, name in calls]
    return "".join(f"{prefix}{line}\n" for line in lines)


def log(path: Path, *parts: str) -> FailureLog:
    """Write a log and read it."""
    file = path / "vllm.log"
    file.write_text("".join(parts), encoding="utf-8")
    return read_failure_log(file)


def test_one_failure_that_three_processes_repeat(tmp_path: Path) -> None:
    calls = (("vllm/v1/worker/gpu_worker.py", "capture_model"), ("torch/x.py", "empty"))
    found = log(
        tmp_path,
        VERSION,
        traceback_of(*calls, prefix=WORKER),
        f"{WORKER}\x1b[31m{SCENE}\x1b[0m\n",
        f"(EngineCore pid=311) {SCENE}\n",
        f"RuntimeError: Engine core initialization failed: {SCENE}\n",
    )
    (failure,) = found.failures
    assert failure.times == 3
    assert failure.line == 5
    assert failure.who == "Worker_TP0"
    assert failure.phase == "graphs"
    assert [call.name for call in failure.calls] == ["capture_model", "empty"]
    assert (found.lines, found.starts, found.failed_starts) == (7, 1, 1)
    assert found.startup.version == "0.32.0"
    assert found.startup.config["tensor_parallel_size"] == "2"


@pytest.mark.parametrize(
    ("name", "who", "phase", "setting"),
    [
        ("busy", "VllmWorker-0", None, "--gpu-memory-utilization 0.85"),
        ("length", "EngineCore", "kv-cache", "--max-model-len 256"),
    ],
)
def test_real_servers_that_refused_to_start(
    name: str, who: str, phase: str | None, setting: str
) -> None:
    """Logs of vLLM 0.32.0 on a CPU, whole but for colours and underlines; paths are shortened."""
    found = read_failure_log(LOGS / f"vllm_0_32_cpu_{name}.txt")
    assert (found.starts, found.failed_starts, found.startup.version) == (1, 1, "0.32.0")
    (failure,) = found.failures
    assert (failure.who, failure.phase) == (who, phase)
    verdict = explain_failure(failure, startup=found.startup)
    assert setting in [remedy.setting for remedy in verdict.remedies]
    assert failure.calls


@pytest.mark.parametrize(
    ("prefix", "who"),
    [
        ("(EngineCore pid=311) ", "EngineCore"),
        ("(VllmWorker rank=3 pid=1090) ERROR ", "VllmWorker rank=3"),
        ("(RayWorkerWrapper pid=18619, ip=192.168.10.60) ", "RayWorkerWrapper@192.168.10.60"),
        ("[2026-02-24T20:21:58Z] (EngineCore_DP0 pid=6940) ", "EngineCore_DP0"),
        ("(VllmWorker-0 pid=5360) ERROR ", "VllmWorker-0"),
        ("[rank0]: ", ""),
    ],
)
def test_who_said_it(tmp_path: Path, prefix: str, who: str) -> None:
    assert log(tmp_path, f"{prefix}{SCENE}\n").first.who == who


def test_the_share_that_the_server_was_started_with(tmp_path: Path) -> None:
    """GIVEN 0.95 among the arguments THEN the remedy says the share to type, not a difference."""
    args = "(APIServer pid=1) INFO non-default args: {'port': 1, 'gpu_memory_utilization': 0.95}\n"
    known = VERSION.replace("some/model", "meta-llama/Llama-3.1-8B")
    found = log(tmp_path, args, known, f"{WORKER}{SCENE}\n")
    assert found.startup.config["gpu_memory_utilization"] == "0.95"
    block = kv_block_of_log(found.startup)
    assert block is not None
    assert (block.size_bytes, block.source) == (1 << 20, "llama-3.1-8b")  # two ranks
    verdict = explain_failure(found.first, startup=found.startup, block=block)
    smaller = verdict.remedies[1]
    assert (smaller.setting, smaller.kv_blocks) == ("--gpu-memory-utilization 0.94", 54)


def test_paths_of_windows(tmp_path: Path) -> None:
    call = '  File "C:\\Users\\me\\model.py", line 3, in forward\n'
    assert log(tmp_path, call, f"{SCENE}\n").first.calls[0].name == "forward"


def test_an_error_without_figures_gives_way_to_one_that_has_them(tmp_path: Path) -> None:
    bare = "RuntimeError: CUDA error: out of memory\n"
    found = log(tmp_path, bare, f"{SCENE}\n")
    assert len(found.failures) == 2
    assert found.first.message is not None
    assert log(tmp_path, bare).first.refusal is not None


def test_interrupted_it_says_what_it_has(tmp_path: Path) -> None:
    file = tmp_path / "long.log"
    file.write_text(f"{SCENE}\n" + "x" * 99 + "\n" * 300_000 + f"{HINTED}\n", encoding="utf-8")
    done: list[int] = []
    found = read_failure_log(file, on_bytes=done.append, stop=lambda: len(done) == 2)
    assert found.cut
    assert len(found.failures) == 1
    assert not read_failure_log(file).cut


def test_each_rank_has_a_failure_of_its_own(tmp_path: Path) -> None:
    other = SCENE.replace("GPU 0", "GPU 1")
    found = log(tmp_path, VERSION, f"(Worker_TP1 pid=2) {other}\n", f"(Worker_TP0 pid=1) {SCENE}\n")
    assert [each.message.device for each in found.failures if each.message] == [1, 0]
    assert found.first.who == "Worker_TP1"


@pytest.mark.parametrize(
    ("line", "phase"),
    [
        ("Starting to load model some/model...", "loading"),
        ("Model loading took 14.99 GiB memory and 3.2 seconds", "profiling"),
        ("Available KV cache memory: 51.38 GiB", "kv-cache"),
        ("\rCapturing CUDA graphs (decode, FULL):  10%|#  | 1/35\rCapturing", "graphs"),
        ("Graph capturing finished in 9 secs, took 0.52 GiB", "warm-up"),
        ("init engine (profile, create kv cache, warmup model) took 9 s", "serving"),
        ("INFO:     Application startup complete.", "serving"),
    ],
)
def test_the_phase_is_that_of_the_last_line_about_one(
    tmp_path: Path, line: str, phase: str
) -> None:
    found = log(tmp_path, VERSION, f"(EngineCore pid=311) {line}\n", f"{WORKER}{SCENE}\n")
    assert found.first.phase == phase


@pytest.mark.parametrize(
    ("calls", "phase"),
    [
        (("load_model", "process_weights_after_loading"), "loading"),
        (("determine_available_memory", "profile_run", "_dummy_run", "execute_model"), "profiling"),
        (("compile_or_warm_up_model", "_dummy_sampler_run"), "warm-up"),
        (("compile_or_warm_up_model", "capture_model", "_dummy_run"), "graphs"),
        (("initialize_from_config", "initialize_kv_cache"), "kv-cache"),
        (("run_busy_loop", "execute_model", "forward"), "serving"),
        (("main", "forward"), None),
    ],
)
def test_the_phase_is_that_of_the_traceback(
    tmp_path: Path, calls: tuple[str, ...], phase: str | None
) -> None:
    trace = traceback_of(*(("a.py", name) for name in calls))
    assert log(tmp_path, trace, SCENE, "\n").first.phase == phase


def test_of_several_starts_the_last_that_failed_counts(tmp_path: Path) -> None:
    """GIVEN three starts: two fail, then one runs WHEN read THEN the second one is explained."""
    weights = "(Worker pid=1) Model loading took 2.5 GiB memory and 1 seconds\n"
    found = log(
        tmp_path, VERSION, f"{HINTED}\n", VERSION, weights, f"{SCENE}\n", VERSION, "all is well\n"
    )
    assert (found.starts, found.failed_starts) == (3, 2)
    (failure,) = found.failures
    assert failure.message is not None
    assert failure.message.asked_bytes == 384 << 20
    assert found.startup.workers["Worker"].gib == {"weights": 2.5}


def test_a_log_that_begins_after_the_start_keeps_its_failures(tmp_path: Path) -> None:
    found = log(tmp_path, f"{SCENE}\n", VERSION, "all is well\n")
    assert found.first.line == 1
    assert (found.starts, found.failed_starts) == (1, 0)


def test_a_wrapped_message_is_joined(tmp_path: Path) -> None:
    wrapped = MODERN.replace(". ", ".\n")
    found = log(tmp_path, "before\n", wrapped, "\nafter\n", f"{HINTED}\n")
    first, second = found.failures
    assert first.message is not None
    assert second.message is not None
    assert first.line == 2
    assert first.message.unallocated_bytes == round(194.87 * (1 << 20))


def test_a_message_without_its_end_counts_as_far_as_it_goes(tmp_path: Path) -> None:
    cut = XPU[: XPU.index("is free.") + 8]
    found = log(tmp_path, cut, "\n", "x\n" * 40, f"{SCENE}\n")
    assert [each.line for each in found.failures] == [1, 42]
    assert log(tmp_path, cut).first.line == 1


@pytest.mark.parametrize("how", ["gzip", "utf-16", "crlf", "json", "one-line", "no-end"])
def test_however_it_is_written(tmp_path: Path, how: str) -> None:
    text = VERSION + f"{WORKER}{SCENE}\n"
    file = tmp_path / "log"
    match how:
        case "gzip":
            file.write_bytes(gzip.compress(text.encode()))
        case "utf-16":  # PowerShell's redirection
            file.write_bytes(text.encode("utf-16"))
        case "crlf":
            file.write_bytes(text.replace("\n", "\r\n").encode())
        case "json":  # a container's log driver
            file.write_text('{"log":"' + text.replace("\n", "\\n") + '"}\n', encoding="utf-8")
        case "one-line":  # the message far behind the bound of a line, across a seam
            for at in (12_000, 16_300, 2_000_000):
                file.write_text("x" * at + text, encoding="utf-8")
                assert read_failure_log(file).first.message is not None
        case "no-end":
            file.write_text(text.rstrip(), encoding="utf-8")
    found = read_failure_log(file)
    assert found.first.message is not None
    assert found.first.message.unallocated_bytes == 402 << 20


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{SCENE}\n".encode())))
    assert read_failure_log("-").first.line == 1


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """GIVEN 6 MB of failures, calls and workers, all different THEN a bounded part is kept."""
    file = tmp_path / "big.log"
    with file.open("w", encoding="utf-8") as out:
        out.write("y" * 2_000_000)
        for at in range(400):
            out.write(f'(W{at} pid=1)   File "/a/b{at}.py", line 1, in call{at}\n')
            out.write(f"(W{at} pid=1) Model loading took {at}.5 GiB memory\n")
            out.write(f"(W{at} pid=1) {SCENE.replace('384.00', f'{at}.25')}\n" + "z" * 1500 + "\n")
    tracemalloc.start()
    found = read_failure_log(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.failures) == 64
    assert found.more == 400 - 64
    assert peak < 6 << 20


def test_noise_is_passed_over(tmp_path: Path) -> None:
    rng = random.Random(5)
    pieces = [
        SCENE,
        HINTED,
        VERSION,
        "out of memory. Tried to allocate ",
        "\r",
        "\n",
        "\x1b[31m",
        '  File "x", line 999999999, in y',
        "GiB",
        "KV cache is needed, which is larger",
    ]
    for _ in range(120):
        parts = []
        for _ in range(rng.randrange(12)):
            piece = rng.choice(pieces)
            parts.append(piece[rng.randrange(len(piece)) :] if rng.random() < 0.4 else piece)
            if rng.random() < 0.3:
                parts.append(rng.randbytes(9).decode("latin-1"))
        file = tmp_path / "noise.log"
        file.write_text("".join(parts), encoding="utf-8")
        try:
            assert read_failure_log(file).failures
        except InputError as error:
            assert "no line of this log" in str(error) or "is cut short" in str(error)


def test_what_is_no_log_is_refused_in_a_line(tmp_path: Path) -> None:
    empty = tmp_path / "empty.log"
    empty.write_text("all is well\n", encoding="utf-8")
    for path, said in (
        (empty, "no line of this log is about running out of memory"),
        (tmp_path / "missing", "No such file"),
        (tmp_path, "not a plain file"),
    ):
        with pytest.raises(InputError, match=said):
            read_failure_log(path)


def test_a_message_without_its_end_is_said_to_be_one(tmp_path: Path) -> None:
    """A log that is about memory is not called one that is not."""
    begun = "CUDA out of memory. Tried to allocate 22.00 MiB.\n"
    with pytest.raises(InputError, match="message in line 1 is cut short"):
        log(tmp_path, begun)
