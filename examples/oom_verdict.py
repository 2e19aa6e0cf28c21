"""A server ran out of memory: what its log says, what its snapshot adds, and what to change."""

import pickle
import tempfile
from pathlib import Path
from typing import Any

from kvatlas.device import DeviceTwin, read_snapshot
from kvatlas.oom import (
    OomVerdict,
    explain_failure,
    explain_snapshot,
    kv_block_of_model,
    read_failure_log,
)

MIB = 1 << 20
SEGMENTS, BASE = 67, 1 << 33

LOG = """\
(EngineCore pid=7) INFO [core.py:134] Initializing a V1 LLM engine (v0.32.0) with config: \
model='meta-llama/Llama-2-13b-hf', max_seq_len=4096, tensor_parallel_size=1
(EngineCore pid=7) INFO [model_runner.py:425] Model loading took 24.27 GiB memory and 9.1 seconds
(EngineCore pid=7)   File "/app/vllm/v1/worker/gpu_worker.py", line 940, in execute_model
(EngineCore pid=7)   File "/app/vllm/model_executor/layers/activation.py", line 84, in forward
(EngineCore pid=7) torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 384.00 MiB. GPU 0 \
has a total capacity of 79.10 GiB of which 330.00 MiB is free. Process 4711 has 76.50 GiB memory \
in use. Including non-PyTorch memory, this process has 1.87 GiB memory in use. Of the allocated \
memory 938.00 MiB is allocated by PyTorch, and 402.00 MiB is reserved by PyTorch but unallocated.
"""


def recorded() -> dict[str, Any]:
    """What torch.cuda.memory._snapshot() returned: 6 MiB of each segment of 20 serve nobody."""
    trace: list[dict[str, Any]] = []
    segments: list[dict[str, Any]] = []
    for at in range(SEGMENTS):
        address = BASE + at * 20 * MIB
        name = "load_weights" if at < 60 else "load_adapter"
        event = {
            "frames": [{"name": name, "filename": "model.py", "line": 12}],
            "stream": 0,
            "time_us": 0,
        }
        trace.append({"action": "segment_alloc", "addr": address, "size": 20 * MIB, **event})
        blocks = []
        for start, size in ((0, 7), (7, 7), (14, 6)):
            live = start < 14
            block = {"address": address + start * MIB, "size": size * MIB}
            if live:
                place = {"addr": block["address"], "size": block["size"]}
                trace.append({"action": "alloc", **place, **event})
            state = "active_allocated" if live else "inactive"
            asked = {"requested_size": block["size"] if live else 0, "state": state}
            blocks.append({**block, **asked, "frames": event["frames"] if live else []})
        sizes = dict.fromkeys(("allocated_size", "active_size", "requested_size"), 14 * MIB)
        where = {"device": 0, "address": address, "total_size": 20 * MIB, "stream": 0, **sizes}
        pool = {"segment_type": "large", "segment_pool_id": (0, 0), "is_expandable": False}
        segments.append({**where, **pool, "frames": [], "blocks": blocks})
    oom = {"action": "oom", "device_free": 330 * MIB, "size": 384 * MIB}
    trace.append({**oom, "stream": 0, "time_us": 0, "frames": []})
    return {"segments": segments, "device_traces": [trace], "allocator_settings": {}}


def tell(verdict: OomVerdict) -> None:
    """Print why it came, and what to change."""
    print(f"{verdict.title}: {verdict.line}")
    for remedy in verdict.remedies:
        print(f"  {remedy.setting or 'by hand'}: {remedy.text} [{remedy.basis}]")


with tempfile.TemporaryDirectory() as folder:
    (Path(folder) / "vllm.log").write_text(LOG)
    log = read_failure_log(Path(folder) / "vllm.log")
    (Path(folder) / "oom.pickle").write_bytes(pickle.dumps(recorded()))
    snapshot = read_snapshot(Path(folder) / "oom.pickle")

block = kv_block_of_model("llama-2-13b")
failure = log.first
print(f"The log, line {failure.line}:")
tell(explain_failure(failure, startup=log.startup, block=block))

print("\nThe snapshot:")
found = explain_snapshot(
    DeviceTwin(snapshot),
    message=failure.message,
    block=block,
    candidates=("", "expandable_segments:True", "max_split_size_mb:128"),
)
tell(found.verdict)
for row in found.settings_rows:
    needs = f"needs {row.needs_bytes // MIB:,} MiB, {row.spare_bytes // MIB:+,} to spare"
    print(f"  {row.text or 'defaults'}: {needs}")
print("\n".join(found.verdict.unverified))
