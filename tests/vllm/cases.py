"""Random workloads and engine settings on which the twin is compared with the real vLLM.

Owns: what a case is and how a seed becomes one. Leaves to others: running it (`real`, `twin`) and
comparing (`diff`). Everything is small: prompts of a few blocks, pools of a few requests, so that
preemption, eviction, duplicates and head-of-line blocking happen all the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

import groups
import numpy as np

from kvatlas.engine.config import EngineConfig
from kvatlas.engine.replay import DriveConfig
from kvatlas.engine.specs import KVCacheSpec
from kvatlas.workload import Workload, chain_ids

Hashing = Literal["precomputed", "sha256"]
LARGE, TIGHT = "large ", "tight "
_LARGE_POOL = 8200  # just above where the prefix index changes its layout


@dataclass(frozen=True)
class Case:
    """One comparison: requests, settings, and how the real requests' blocks are hashed.

    `raw_ids` are the identities before chaining, `workload.id_offsets` cuts them into requests; the
    real vLLM gets tokens made of these when it hashes for itself, so that its chain is tested too.
    """

    family: str
    seed: int
    workload: Workload
    raw_ids: np.ndarray[Any, np.dtype[np.int64]]
    config: EngineConfig
    drive: DriveConfig
    hashing: Hashing

    def __str__(self) -> str:
        """Return a line that makes this case again, and its settings."""
        return (
            f"make_case({self.family!r}, {self.seed})  # {self.workload.name}, {self.hashing}\n"
            f"  {self.config}\n  {self.drive}"
        )


@dataclass
class Rows:
    """Requests while they are drawn: prompt and output tokens and raw identities of each."""

    prompt: list[int]
    output: list[int]
    raw: list[list[int]]
    most_output: int

    def add(self, prompt: int, output: int, raw: list[int]) -> None:
        """Add a request; `raw` holds at least as many identities as the tokens need."""
        self.prompt.append(prompt)
        self.output.append(output)
        self.raw.append(raw)


def make_case(family: str, seed: int) -> Case:
    """Return the case of `family` that `seed` stands for.

    A family is a key of `groups.FAMILIES`; "large " before it asks for long prompts and a pool of
    thousands of small blocks, where the prefix index is laid out in pages; "tight " for pools that
    some requests do not fit into, which only shows while they run.
    """
    rng = Random(f"{family}/{seed}")
    large, tight = family.startswith(LARGE), family.startswith(TIGHT)
    block_size = rng.choice((1, 1, 2) if large else (1, 2, 3, 4, 4, 8, 8, 16))
    specs, caching = groups.FAMILIES[family.removeprefix(LARGE).removeprefix(TIGHT)](
        rng, block_size
    )
    base = _settings(rng, specs, caching and rng.random() > 0.1)
    cached = base.enable_prefix_caching
    hash_block = base.resolved_hash_block_size if cached else block_size
    unit = base.scheduler_block_size if cached else block_size
    unit *= 64 if large else 1
    pressed = rng.random() < 0.4
    workload, raw_ids = make_workload(rng, _span(rng, hash_block), unit, pressed=pressed)
    longest = int((workload.prompt_tokens + workload.output_tokens).max())
    if rng.random() < 0.15:
        base = base.with_(max_model_len=max(2, int(longest * rng.uniform(0.5, 1.1))))
    num_blocks = _LARGE_POOL if large else _pool(rng, base, longest, pressed=pressed)
    config = base.with_(num_blocks=num_blocks)
    if large:
        config = config.with_(max_num_seqs=32, max_num_batched_tokens=1024)
    if pressed:
        config = config.with_(
            max_num_seqs=max(5, config.max_num_seqs),
            max_num_batched_tokens=max(33, config.max_num_batched_tokens),
            watermark=min(0.05, config.watermark),
        )
    if tight:
        smallest = min(spec.block_size for spec in specs)
        config = config.with_(
            num_blocks=max(3, int(longest / smallest * rng.uniform(0.5, 1.3)) + 1),
            max_num_batched_tokens=rng.choice((16, 33, 64, 100)),
            scheduler_reserve_full_isl=rng.random() < 0.2,
        )
    drive = DriveConfig(
        arrivals=rng.choice(("backlog", "backlog", "timed")),
        queue_depth=rng.choice((1, 2, 8, 256)),
        step_ms_base=rng.choice((0.5, 8.0, 30.0)),
        step_ms_per_ktok=rng.choice((0.0, 12.0, 333.3)),
    )
    hashing: Hashing = "sha256" if rng.random() < 0.4 else "precomputed"
    return Case(family, seed, workload, raw_ids, config, drive, hashing)


def _settings(rng: Random, specs: tuple[KVCacheSpec, ...], caching: bool) -> EngineConfig:
    largest = max(spec.block_size for spec in specs)
    retention: int | None = 0
    if groups.has_sparse(specs):
        scheduler_block = math.lcm(*(spec.block_size for spec in specs))
        retention = rng.choice((0, 0, 0, None, None, 1, 2, 5))
        retention = retention and retention * scheduler_block
    return EngineConfig(
        num_blocks=2,
        block_size=largest,
        kv_cache_groups=specs,
        max_num_seqs=rng.choice((1, 2, 3, 5, 8, 8, 16, 16, 32)),
        max_num_batched_tokens=rng.choice((5, 16, 33, 64, 64, 128, 256, 1024)),
        policy=rng.choice(("fcfs", "fcfs", "priority")),
        watermark=rng.choice((0.0, 0.0, 0.01, 0.05, 0.3)),
        scheduler_reserve_full_isl=rng.random() < 0.6,
        long_prefill_token_threshold=rng.choice((0, 0, 0, 5, 24, 60)),
        enable_prefix_caching=caching,
        async_scheduling=rng.random() < 0.5,
        prefix_cache_retention_interval=retention,
        hash_block_size=groups.draw_hash_block(rng, specs),
    )


def _span(rng: Random, hash_block: int) -> int:
    """Tokens per identity: a multiple of the hash block, itself, or a divisor."""
    options = [hash_block * factor for factor in (1, 1, 2, 4)]
    options += [hash_block // factor for factor in (2, 3, 4) if hash_block % factor == 0]
    return rng.choice(options)


def _pool(rng: Random, config: EngineConfig, longest: int, *, pressed: bool) -> int:
    """Blocks: from barely one request to plenty; just above the longest request when `pressed`."""
    longest = min(longest, config.max_model_len)
    need = sum(-(-longest // spec.block_size) for spec in config.groups)
    plenty = (0.8, 1.0, 1.1, 1.3, 1.5, 1.5, 2.0, 2.0, 3.0, 6.0, 50.0)
    factor = rng.choice((1.0, 1.0, 1.1, 1.3) if pressed else plenty)
    return max(2, int(need * factor) + 1 + rng.randrange(3))


def make_workload(
    rng: Random, span: int, block: int, *, pressed: bool = False
) -> tuple[Workload, Any]:
    """Return 12 to 60 requests and their raw identities of `span` tokens each.

    `block` is the granularity of hits: prompts often end exactly on it, because a resend of such a
    prompt recomputes its last block and so makes a duplicate. Answers are long when `pressed`:
    requests that grow past the pool preempt one another.
    """
    kind = rng.choice(("shared", "shared", "shared", "turns", "turns", "unknown"))
    rows = Rows([], [], [], most_output=(12 if pressed else 6) * block)
    unit = max(span, block) if rng.random() < 0.7 or block > 40 else max(2, min(span, block))
    _DRAW[kind](rng, rows, span, unit)
    num_rows = len(rows.prompt)
    prompt = np.array(rows.prompt, np.int32)
    output = np.array(rows.output, np.int32)
    known, identified = kind != "unknown", kind == "turns"
    covered = prompt.astype(np.int64) + (output if identified else 0)
    counts = -(-covered // span) if known else np.zeros(num_rows, np.int64)
    raw = [ids[:count] for ids, count in zip(rows.raw, counts.tolist(), strict=True)]
    flat = np.array([item for ids in raw for item in ids], np.int64)
    offsets = np.cumsum([0, *(len(ids) for ids in raw)], dtype=np.int64)
    salted = known and rng.random() < 0.2
    salt = np.array([rng.randrange(3) if salted else 0 for _ in range(num_rows)], np.int32)
    ids, num_ids = chain_ids(flat, offsets, salt)
    pause = rng.choice((0.0, 0.002, 0.05, 0.5))
    gaps = [rng.choice((0.0, pause * rng.random())) for _ in range(num_rows)]
    workload = Workload(
        name=f"{kind}(span={span})",
        source="generated for the comparison with vLLM",
        arrival_s=np.round(np.cumsum(gaps), 6),
        prompt_tokens=prompt,
        output_tokens=output,
        tokens_per_id=span,
        ids=ids,
        id_offsets=offsets,
        num_ids=num_ids,
        prefix_known=known,
        outputs_identified=identified,
        session=np.full(num_rows, -1, np.int32),
        parent=np.full(num_rows, -1, np.int32),
        priority=np.array(
            [rng.randrange(4) for _ in range(num_rows)] if rng.random() < 0.5 else [0] * num_rows,
            np.int32,
        ),
        salt=np.unique(salt, return_inverse=True)[1].astype(np.int32) if salt.any() else salt,
        notes=(),
    )
    return workload, flat


def _tokens(rng: Random, unit: int, most: int) -> int:
    """Draw a length in tokens: up to `most` units, and exactly some units two times in five."""
    length = rng.randrange(1, most * unit + 1)
    return -(-length // unit) * unit if rng.random() < 0.4 else length


def _output(rng: Random, rows: Rows) -> int:
    most = rows.most_output
    return rng.choice((1, most // 6, rng.randrange(1, 30), rng.randrange(most // 2, most + 2)))


def _draw_shared(rng: Random, rows: Rows, span: int, unit: int) -> None:
    """Prompts that begin with one of a few documents, cut anywhere, some sent again as they are."""
    documents = [[1000 * doc + i for i in range(400)] for doc in range(rng.randrange(1, 5))]
    fresh = 10_000
    for _ in range(rng.randrange(20, 61)):
        if rows.prompt and rng.random() < 0.25:
            again = rng.randrange(len(rows.prompt))
            prompt = rows.prompt[again]
            if rng.random() < 0.3:  # the same identities, another length inside the last one
                prompt = (prompt - 1) // span * span + rng.randrange(1, span + 1)
            rows.add(prompt, _output(rng, rows), rows.raw[again])
            continue
        prompt = _tokens(rng, unit, rng.choice((2, 6, 12)))
        shared = rng.randrange(0, prompt // span + 1)
        own = list(range(fresh, fresh + prompt // span + 1))
        fresh += len(own)
        rows.add(prompt, _output(rng, rows), rng.choice(documents)[:shared] + own)


def _draw_turns(rng: Random, rows: Rows, span: int, unit: int) -> None:
    """Conversations whose next prompt repeats the last prompt and its answer."""
    fresh = 0
    talks: list[tuple[int, list[int]]] = []
    for _ in range(rng.randrange(20, 51)):
        tokens, raw = rng.choice(talks) if talks and rng.random() < 0.7 else (0, [])
        prompt = tokens + _tokens(rng, unit, 3)
        output = _output(rng, rows)
        kept = raw[: tokens // span]
        own = list(range(fresh, fresh + (prompt + output) // span + 1))
        fresh += len(own)
        rows.add(prompt, output, kept + own)
        talks = [*talks[-5:], (prompt + output, kept + own)]


def _draw_unknown(rng: Random, rows: Rows, span: int, unit: int) -> None:
    """Lengths only, as in a trace without prompts."""
    del span
    for _ in range(rng.randrange(12, 41)):
        rows.add(_tokens(rng, unit, 8), _output(rng, rows), [])


_DRAW: dict[str, Callable[[Random, Rows, int, int], None]] = {
    "shared": _draw_shared,
    "turns": _draw_turns,
    "unknown": _draw_unknown,
}
