"""The real vLLM Scheduler over a trace, without a model: the other side of the comparison.

Runs as a script in an interpreter that holds vLLM 0.32 and needs nothing of kvatlas:

    python benchmarks/vllm_driver.py TRACE --num-blocks 20000 --limit 1000

prints one JSON object: what was decided and how many seconds vLLM's own code took. Only calls into
vLLM are on the clock (making a request, `add_request`, `schedule`, `update_from_output`); reading
the trace, block hashes (known beforehand, so vLLM hashes nothing) and the sampled tokens are not.

TRACE is Mooncake's format: JSON lines with `input_length`, `output_length`, `hash_ids`, and the
tokens of one id in `block_size` (512 where the key is missing).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

_TINY_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "vocab_size": 32000,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}


class Stopwatch:
    """Adds up the seconds spent inside `running()`; `laps` has those of each call by its name."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.laps: dict[str, list[float]] = {}

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Count the time of the block."""
        started = time.perf_counter()
        yield
        lap = time.perf_counter() - started
        self.seconds += lap
        self.laps.setdefault(name, []).append(lap)


class KnownHashes:
    """Stands in for vLLM's block hasher: hands out hashes that are known already."""

    def __init__(self, hashes: list[bytes], block_size: int) -> None:
        self.hashes, self.block_size = hashes, block_size

    def __call__(self, request: Any) -> list[bytes]:
        """Return the hashes of the blocks that became full since the last call."""
        return self.hashes[len(request.block_hashes) : request.num_tokens // self.block_size]


def block_hashes(row: dict[str, Any], number: int, block_size: int) -> list[bytes]:
    """Return one 32-byte hash per full block of prompt and output.

    Block ends inside the span of an id: equal in all requests with that id. Beyond the ids, the
    block is nobody else's.
    """
    tokens_per_id = row.get("block_size", 512)
    total = row["input_length"] + row["output_length"]
    covered = total if row.get("covers_output") else row["input_length"]
    hashes = []
    for end in range(block_size, total + 1, block_size):
        if end <= covered:
            span, within = divmod(end - 1, tokens_per_id)
            hashes.append(
                b"shared  " + row["hash_ids"][span].to_bytes(8, "big") + within.to_bytes(16, "big")
            )
        else:
            hashes.append(b"own     " + number.to_bytes(8, "big") + end.to_bytes(16, "big"))
    return hashes


def read_rows(path: Path, limit: int) -> list[dict[str, Any]]:
    """Return the first `limit` requests of the trace."""
    rows: list[dict[str, Any]] = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if len(rows) == limit:
                break
            rows.append(json.loads(line))
    return rows


def make_scheduler(settings: argparse.Namespace) -> Any:
    """Return vLLM's Scheduler with one full-attention group and a pool of the asked size."""
    import torch
    from vllm.config import CacheConfig, DeviceConfig, ModelConfig, SchedulerConfig, VllmConfig
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.core.single_type_kv_cache_manager import register_all_kvcache_specs
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
    from vllm.v1.structured_output import StructuredOutputManager

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(_TINY_LLAMA), encoding="utf-8")
        config = VllmConfig(
            model_config=ModelConfig(
                model=folder, skip_tokenizer_init=True, max_model_len=settings.max_model_len
            ),
            scheduler_config=SchedulerConfig(
                max_num_seqs=settings.max_num_seqs,
                max_num_batched_tokens=settings.max_num_batched_tokens,
                max_model_len=settings.max_model_len,
                enable_chunked_prefill=True,
                is_encoder_decoder=False,
                async_scheduling=False,
            ),
            cache_config=CacheConfig(block_size=settings.block_size, enable_prefix_caching=True),
            device_config=DeviceConfig("cpu"),
        )
    # The CPU platform overrules both.
    config.scheduler_config.async_scheduling = False
    config.cache_config.block_size = settings.block_size
    config.cache_config.num_gpu_blocks = settings.num_blocks
    register_all_kvcache_specs(config)
    spec = FullAttentionSpec(
        block_size=settings.block_size, num_kv_heads=1, head_size=1, dtype=torch.float32
    )
    return Scheduler(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(
            num_blocks=settings.num_blocks,
            kv_cache_tensors=[],
            kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)],
        ),
        structured_output_manager=StructuredOutputManager(config),
        block_size=settings.block_size,
        hash_block_size=settings.block_size,
        log_stats=True,
    )


class Run:
    """One pass over the trace: a backlog of requests, one sampled token per finished prefill."""

    def __init__(self, settings: argparse.Namespace) -> None:
        self.settings = settings
        self.rows = read_rows(settings.trace, settings.limit)
        self.hashes = [
            block_hashes(row, number, settings.block_size) for number, row in enumerate(self.rows)
        ]
        self.scheduler = make_scheduler(settings)
        self.clock = Stopwatch()
        self.next_row = 0
        self.decided = dict.fromkeys(
            (
                "steps",
                "scheduled_tokens",
                "preemptions",
                "finished",
                "prefix_queries",
                "prefix_hits",
            ),
            0,
        )

    def run(self) -> dict[str, Any]:
        """Serve all requests; return what was decided and the seconds it took."""
        from vllm.envs import enable_envs_cache

        enable_envs_cache()  # as vLLM's engine core does
        gc.collect()
        gc.freeze()
        while self.step():
            pass
        tokens_per_s = self.decided["scheduled_tokens"] / self.clock.seconds
        return {
            **self.decided,
            "requests": len(self.rows),
            "seconds": self.clock.seconds,
            "scheduled_tokens_per_s": tokens_per_s,
        }

    def step(self) -> bool:
        """Do one step; False when everything is served."""
        self._top_up()
        if not self.scheduler.has_requests():
            return False
        self._step()
        return True

    def _top_up(self) -> None:
        from vllm.sampling_params import SamplingParams
        from vllm.v1.request import Request

        waiting = self.scheduler.waiting
        while self.next_row < len(self.rows) and len(waiting) < self.settings.queue_depth:
            row, number = self.rows[self.next_row], self.next_row
            hasher = KnownHashes(self.hashes[number], self.settings.block_size)
            prompt = [0] * row["input_length"]
            params = SamplingParams(max_tokens=row["output_length"], ignore_eos=True)
            with self.clock.running("add_request"):
                request = Request(
                    request_id=str(number),
                    prompt_token_ids=prompt,
                    sampling_params=params,
                    pooling_params=None,
                    arrival_time=float(number),
                    block_hasher=hasher,
                )
                self.scheduler.add_request(request)
            self.next_row += 1

    def _step(self) -> None:
        from vllm.v1.outputs import ModelRunnerOutput

        with self.clock.running("schedule"):
            output = self.scheduler.schedule()
        self.decided["steps"] += 1
        self.decided["scheduled_tokens"] += output.total_num_scheduled_tokens
        self.decided["preemptions"] += len(output.preempted_req_ids or ())
        names = list(output.num_scheduled_tokens)
        requests = self.scheduler.requests
        sampled = ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: at for at, name in enumerate(names)},
            sampled_token_ids=[[] if requests[name].is_prefill_chunk else [1] for name in names],
        )
        with self.clock.running("update_from_output"):
            answers = self.scheduler.update_from_output(output, sampled)
        for answer in answers.values():
            self.decided["finished"] += sum(o.finish_reason is not None for o in answer.outputs)
            stats = answer.scheduler_stats and answer.scheduler_stats.prefix_cache_stats
            if stats:
                self.decided["prefix_queries"] += stats.queries
                self.decided["prefix_hits"] += stats.hits


def parse(what: str) -> argparse.Namespace:
    """Return the settings of the command line."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--num-blocks", type=int, required=True)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--block-size", type=int, default=16)
    parser.add_argument("--max-num-seqs", type=int, default=256)
    parser.add_argument("--max-num-batched-tokens", type=int, default=8192)
    parser.add_argument("--max-model-len", type=int, default=131072)
    parser.add_argument("--queue-depth", type=int, default=256)
    return parser.parse_args()


def main() -> None:
    """Run as the command line says and print the result as JSON."""
    settings = parse(__doc__.split("\n", 1)[0])
    import vllm

    result = {"vllm": vllm.__version__, "python": sys.version.split()[0], **Run(settings).run()}
    sys.stdout.write(f"\n{json.dumps(result)}\n")


if __name__ == "__main__":
    main()
