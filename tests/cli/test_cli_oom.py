"""`kvatlas oom`: what it prints, its JSON, and flags that cannot be."""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from command import Done, kvatlas
from naive_allocator import MIB, NaiveAllocator, OutOfMemory

from kvatlas.device import AllocatorSettings

MESSAGE = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 384.00 MiB. GPU 1 has a total "
    "capacity of 79.10 GiB of which 330.00 MiB is free. Process 4711 has 76.50 GiB memory in use. "
    "Including non-PyTorch memory, this process has 1.87 GiB memory in use. Of the allocated "
    "memory 938.00 MiB is allocated by PyTorch, and 402.00 MiB is reserved by PyTorch but "
    "unallocated."
)
LOG = (
    "(EngineCore pid=9) INFO [core.py:134] Initializing a V1 LLM engine (v0.32.0) with config: "
    "model='m', max_seq_len=8192, tensor_parallel_size=2\n"
    '(Worker_TP1 pid=9)   File "/a/vllm/gpu_worker.py", line 940, in execute_model\n'
    f"(Worker_TP1 pid=9) \x1b[31m{MESSAGE}\x1b[0m\n"
)
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "oom-json.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log and a snapshot of the same failure."""
    folder = tmp_path_factory.mktemp("oom")
    (folder / "vllm.log").write_text(LOG, encoding="utf-8")
    naive = NaiveAllocator(AllocatorSettings(), capacity=(67 * 20 + 330) * MIB)
    for _ in range(2 * 67):
        naive.malloc(7 * MIB)
    with pytest.raises(OutOfMemory):
        naive.malloc(384 * MIB)
    (folder / "oom.pickle").write_bytes(pickle.dumps(naive.dump()))
    return folder


@pytest.fixture(scope="module")
def both(folder: Path) -> Done:
    """The report on both."""
    return kvatlas(
        "oom", folder / "vllm.log", "--snapshot", folder / "oom.pickle", "--model", "llama-2-13b"
    )


def test_both_fit_into_a_terminal(both: Done) -> None:
    assert (both.code, both.err) == (0, "")
    assert max(len(line) for line in both.out.splitlines()) <= 80
    text = " ".join(both.out.split())
    for said in (
        "Fragmentation",
        "384 MiB asked, 330 MiB free on the device, and 402 MiB free in 67 segments",
        "1 PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
        "[replayed · no KV block]",
        "What would have been enough",
        "Who pins what is stuck",
        "stack not known",
        "Pinned segments the 8 of 67",
        "The same requests under other settings in 1.63 GiB",
        "defaults (as recorded)",
        "held by others",
        "while serving",
        "execute_model (gpu_worker.py:940)",
        "KV block 6.25 MiB of 16 tokens (llama-2-13b)",  # two ranks, as the log says
        "expandable segments: not verified on recordings",
    ):
        assert said in text, said


def test_a_log_alone(folder: Path) -> None:
    done = kvatlas("oom", folder / "vllm.log", "--block-bytes", "2MiB")
    assert (done.code, done.err) == (0, "")
    text = " ".join(done.out.split())
    assert "27 KV blocks of 2 MiB less" in text
    assert "Who pins what is stuck" not in text
    assert "\x1b" not in done.out


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(LOG.encode())))
    done = kvatlas("oom", "-", "--json", "-")
    assert done.json["verdict"]["cause"] == "fragmentation"


def test_a_snapshot_alone_in_less_memory(folder: Path) -> None:
    """In 1.2 GiB even the blocks of 7 MiB do not all find room."""
    done = kvatlas("oom", folder / "oom.pickle", "--memory", "1200MiB", "--json", "-")
    said = done.json
    assert (done.code, done.err) == (0, "")
    assert said["log"] is None
    scene = said["snapshot"]["scene"]
    assert not scene["recorded"]
    assert scene["asked_bytes"] == 7 * MIB
    assert said["snapshot"]["capacity_bytes"] == 1200 * MIB
    # A name says nothing: the first bytes do.
    renamed = folder / "memory-dump"
    renamed.write_bytes((folder / "oom.pickle").read_bytes())
    assert kvatlas("oom", renamed, "--json", "-").json["log"] is None


def test_of_several_devices_the_one_that_failed(folder: Path) -> None:
    """GIVEN a snapshot of two GPUs WHEN one of them has a failure THEN that is meant."""
    snapshot = pickle.loads((folder / "oom.pickle").read_bytes())
    other = NaiveAllocator(AllocatorSettings())
    other.malloc(7 * MIB)
    snapshot["device_traces"].insert(0, other.dump()["device_traces"][0])
    for segment in snapshot["segments"]:
        segment["device"] = 1
    snapshot["segments"] += other.dump()["segments"]
    two = folder / "two.pickle"
    two.write_bytes(pickle.dumps(snapshot))
    assert kvatlas("oom", two, "--json", "-").json["snapshot"]["device"] == 1
    assert kvatlas("oom", two, "--device", 0, "--json", "-").json["verdict"]["cause"] == "unseen"


def test_the_keys_are_those_of_the_page(folder: Path) -> None:
    said = kvatlas(
        "oom", folder / "vllm.log", "--snapshot", folder / "oom.pickle",
        "--block-bytes", "2MiB", "--json", "-",
    ).json  # fmt: skip
    text = REFERENCE.read_text(encoding="utf-8")
    sections = {"": said} | {
        name: said[name] for name in ("verdict", "kv_block", "log", "snapshot")
    }
    sections["scene"] = said["snapshot"]["scene"]
    for name, found in sections.items():
        part = text.split(f"\n## {name}\n")[1] if name else text
        rows = re.findall(r"^\| (`.*?`) \| ", part.split("\n## ")[0], re.MULTILINE)
        documented = {each for row in rows for each in re.findall(r"`(\w+)`", row)}
        assert documented == set(found), name
    for inner in (
        said["log"]["failures"][0]["message"],
        said["snapshot"]["settings_tried"][0],
        said["snapshot"]["scene"]["segments"][0],
        said["snapshot"]["scene"]["pinning"][0],
        said["verdict"]["remedies"][0],
        said["verdict"]["steps"][0],
    ):
        assert all(f"`{key}`" in text for key in inner), sorted(inner)
    assert said["kv_block"] == {
        "size_bytes": 2 * MIB, "tokens": None, "source": "given", "exact": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("{log}", "--memory", "4GiB"), "--memory: a log cannot be replayed"),
        (("{pickle}", "--snapshot", "{pickle}"), "--snapshot: two snapshots"),
        (("{log}", "--model", "llama-2-13b", "--block-bytes", "2MiB"), "--block-bytes: two sizes"),
        (("{log}", "--tp", "2"), "--tensor-parallel-size: says something of a model"),
        (("{log}", "--block-size", "16"), "--block-size: says something of a model"),
        (("{log}", "--kv-cache-dtype", "fp8"), "--kv-cache-dtype: says something of a model"),
        (("{log}", "--model", "nobody"), "--model: no such model config"),
        (("{log}", "--model", "llama-2-13b", "--block-size", "0"), "--block-size: must be"),
        (("{log}", "--block-bytes", "0"), "--block-bytes: a block takes at least 1 byte"),
        (("{log}", "--block-bytes", "many"), "--block-bytes: not a byte size"),
        (("{log}", "--device", "5"), "--device: no failure of this GPU in the log"),
        (("{pickle}", "--device", "5"), "--device: no trace of this device"),
        (("{pickle}", "--memory", "0"), "--memory: not a size of any memory"),
        (("{log}", "--json", "{log}"), "--json: would overwrite"),
        (("{log}.missing",), "No such file"),
        (("{empty}",), "no line of this log is about running out of memory"),
        (("{folder}",), "not a plain file"),
        (("{damaged}",), "damaged.pickle"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    args: tuple[str, ...], said: str, folder: Path
) -> None:
    (folder / "empty.log").write_text("all is well\n", encoding="utf-8")
    (folder / "damaged.pickle").write_bytes(b"\x80\x04no pickle")
    names: dict[str, Any] = {
        "log": folder / "vllm.log",
        "pickle": folder / "oom.pickle",
        "empty": folder / "empty.log",
        "damaged": folder / "damaged.pickle",
        "folder": folder,
    }
    done = kvatlas("oom", *(arg.format(**names) for arg in args))
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert done.err.count("\n") == 1
