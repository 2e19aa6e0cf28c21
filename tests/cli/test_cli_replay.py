"""`kvatlas replay`: its flags and what its JSON says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from command import hashed_trace, kvatlas, process, replayed
from docs.tables import measurement_names

from kvatlas.cli.app import app
from kvatlas.engine.config import EngineConfig
from kvatlas.engine.replay import Replay
from kvatlas.workload import generate

CONTRACT_FLAGS = set(
    """
    --engine --engine-version --blocks --kv-memory --model --block-size --max-num-seqs
    --max-num-batched-tokens --max-model-len --policy --watermark --reserve-full-isl
    --no-reserve-full-isl --long-prefill-token-threshold --prefix-caching --no-prefix-caching
    --async-scheduling --no-async-scheduling --arrivals --queue-depth --step-ms-base
    --step-ms-per-ktok --limit --checksum --json --html --events --format --seed --block-like-vllm
    --sort --last-block --tokens-per-id --identity-tokens --eviction --placement
    --lazy-free-steps --protect-waiting --preallocate-blocks --preallocate-predicted
    --no-preallocate-predicted --admission-growth --host-memory --host-blocks --host-policy
    --host-write-back --host-bandwidth --host-block-bytes --swap --forget-uncomputed
    --no-forget-uncomputed --memory-budget --device-price --budget-interval --budget-step
    --budget-least-gain
    """.split()  # noqa: SIM905
)
DECISIONS = [
    "requests",
    "finished",
    "steps",
    "empty_steps",
    "scheduled_tokens",
    "preemptions",
    "admissions_new",
    "admissions_resumed",
    "prefix_queries",
    "prefix_hits",
    "hit_rate",
    "preempted_queries",
    "preempted_hits",
    "peak_usage",
    "mean_usage",
    "mean_running",
]
HASHED_ROW = '{{"timestamp": {}, "input_length": {}, "output_length": {}, "hash_ids": {}}}\n'
REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
MEASUREMENTS = (REFERENCE / "measurements.md").read_text(encoding="utf-8")
DOCUMENTED = (REFERENCE / "replay-json.md").read_text(encoding="utf-8") + MEASUREMENTS


def test_the_flags_are_the_contract() -> None:
    command: Any = typer.main.get_command(app)
    shown = [p for p in command.commands["replay"].params if not getattr(p, "hidden", False)]
    names = {name for p in shown for name in [*p.opts, *p.secondary_opts]} - {"trace"}
    assert names - {"-h", "--help"} == CONTRACT_FLAGS


def test_help_shows_every_flag_in_full_at_80_columns() -> None:
    done = kvatlas("replay", "--help")
    assert done.code == 0
    assert max(len(line) for line in done.out.splitlines()) <= 80
    for flag in CONTRACT_FLAGS:
        assert re.search(rf"{flag}\b", done.out), flag


def test_every_key_is_there_and_documented() -> None:
    document = replayed("--limit", 50)
    assert list(document["decisions"]) == DECISIONS
    for part in ("config", "workload", "decisions", "measurements", "timing"):
        for name in document[part]:
            assert f"`{name}`" in DOCUMENTED, f"{part}: {name}"
    for name in document:
        assert f"`{name}`" in DOCUMENTED
    assert document["schema"] == 1
    assert document["partial"] is False


def test_documented_measurements_exist() -> None:
    names = measurement_names(MEASUREMENTS, "replay")
    assert len(names) == len(set(names))
    assert set(names) == set(replayed("--limit", 5)["measurements"])


def test_null_if_and_only_if_there_is_a_reason() -> None:
    for args in (("--arrivals", "timed"), ("--no-prefix-caching",), ("--engine", "nano-vllm")):
        document = replayed("--limit", 30, *args)
        measured = document["measurements"]
        assert {n for n, v in measured.items() if v is None} == set(document["unavailable"])


def test_decides_as_the_library_does() -> None:
    document = replayed("--limit", 400, "--blocks", 3000, "--max-num-seqs", 32, "--checksum")
    config = EngineConfig(num_blocks=3000, max_num_seqs=32)
    result = Replay(generate("conversation").head(400), config, checksum=True).run()
    assert document["decisions"] == result.decisions
    assert list(document["decisions"]) == [*DECISIONS, "alloc_sha256", "freelist_sha256"]
    assert document["config"]["num_blocks"] == 3000
    assert document["config"]["usable_blocks"] == 2999


@pytest.mark.parametrize(
    ("flags", "config"),
    [
        ((), {"num_blocks": 20_000, "blocks_from": "default", "block_size": 16}),
        (("--block-size", "32"), {"num_blocks": 10_000, "block_sizes": [32]}),
        (("--engine-version", "pre-42656"), {"engine_version": "pre-42656"}),
        (("--max-num-seqs", "7"), {"max_num_seqs": 7}),
        (("--max-num-batched-tokens", "512"), {"max_num_batched_tokens": 512}),
        (("--max-model-len", "9000"), {"max_model_len": 9000}),
        (("--policy", "priority"), {"policy": "priority"}),
        (("--watermark", "0.05"), {"watermark": 0.05}),
        (("--no-reserve-full-isl",), {"reserve_full_isl": False}),
        (("--long-prefill-token-threshold", "256"), {"long_prefill_token_threshold": 256}),
        (("--no-prefix-caching",), {"prefix_caching": False}),
        (("--eviction", "sieve"), {"eviction_policy": "sieve"}),
        (("--placement", "window:1.5"), {"placement": "window:1.5"}),
        (("--async-scheduling",), {"async_scheduling": True}),
        (("--lazy-free-steps", "9"), {"lazy_free_steps": 9}),
        (("--protect-waiting", "4", "--preallocate-blocks", "2"), {"protect_waiting": 4}),
        (("--preallocate-predicted",), {"preallocate_predicted": True}),
        (("--admission-growth", "0.5"), {"admission_growth": 0.5}),
        (("--arrivals", "timed"), {"arrivals": "timed"}),
        (("--queue-depth", "9"), {"queue_depth": 9}),
        (("--step-ms-base", "1", "--step-ms-per-ktok", "2"), {"step_ms_base": 1.0}),
        (("--block-like-vllm",), {"block_like_vllm": True}),
        (("--seed", "4"), {"seed": 4}),
        (("--kv-memory", "2GiB", "--model", "llama-3.1-8b"), {"num_blocks": 1024}),
        (("--engine", "nano-vllm"), {"num_blocks": 1250, "usable_blocks": 1250}),
        (("--engine", "nano-vllm", "--engine-version", "9e8507e"), {"engine_version": "9e8507e"}),
    ],
)
def test_every_flag_arrives(flags: tuple[str, ...], config: dict[str, Any]) -> None:
    document = replayed("--limit", 60, *flags)
    assert {key: document["config"][key] for key in config} == config
    assert document["decisions"]["finished"] == 60


def test_names_of_built_in_workloads_and_seeds() -> None:
    first, again, other = (
        replayed("agents", "--limit", 40, "--seed", seed)["workload"] for seed in (1, 1, 2)
    )
    assert first == again != other
    assert first["name"] == "agents"


def test_reading_options_reach_the_reader(tmp_path: Path) -> None:
    trace = tmp_path / "turned.jsonl"
    lines = hashed_trace(tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    trace.write_text("\n".join(reversed(lines)), encoding="utf-8")
    assert kvatlas("replay", trace).code == 2
    assert replayed(trace, "--sort", "--format", "mooncake")["workload"]["requests"] == 3
    assert replayed(trace, "--sort", "--limit", 2)["workload"]["requests"] == 2


def test_token_ids_are_cut_into_the_engines_blocks(tmp_path: Path) -> None:
    trace = tmp_path / "tokens.jsonl"
    row = '{"input_tok_ids": [%s], "output_tok_ids": [7, 8], "arrival_time_s": %d}\n'
    tokens = ", ".join(map(str, range(100)))
    trace.write_text("".join(row % (tokens, i) for i in range(4)), encoding="utf-8")
    document = replayed(trace, "--block-size", 24, "--max-num-seqs", 1)
    assert document["workload"]["tokens_per_id"] == 24
    assert document["decisions"]["prefix_hits"] == 3 * 96
    coarse = replayed(trace, "--block-size", 24, "--identity-tokens", 48, "--max-num-seqs", 1)
    assert coarse["workload"]["tokens_per_id"] == 48


def test_timed_runs_have_queue_times_and_backlogs_say_why_not() -> None:
    timed = replayed("--limit", 100, "--arrivals", "timed")["measurements"]
    assert 0 <= timed["queue.time_p50_s"] <= timed["latency.ttft_p50_s"]
    assert timed["latency.ttft_p50_s"] <= timed["latency.e2e_p50_s"]
    backlog = replayed("--limit", 100)
    assert backlog["measurements"]["latency.ttft_p50_s"] is None
    assert "--arrivals timed" in backlog["unavailable"]["latency.ttft_p50_s"]


def test_what_can_never_be_served_is_listed_or_blocks(tmp_path: Path) -> None:
    # GIVEN three prompts, of which the second needs more blocks than the pool has
    trace = hashed_trace(tmp_path / "t.jsonl")
    big = '{"timestamp": 1500, "input_length": 2000, "output_length": 4, "hash_ids": [0, 5, 6, 7]}'
    lines = trace.read_text(encoding="utf-8").splitlines()
    trace.write_text("\n".join([lines[0], lines[1], big, lines[2]]), encoding="utf-8")
    # WHEN it is set aside
    document = replayed(trace, "--blocks", 60)
    # THEN the others are served
    assert document["decisions"]["finished"] == 3
    assert document["never_served"] == [
        {
            "row": 2,
            "prompt_tokens": 2000,
            "output_tokens": 4,
            "blocks_needed": 126,
            "reason": "the pool has 59",
        }
    ]
    assert document["blocked"] is None
    # WHEN it blocks the queue as in vLLM THEN the one behind it is not served
    document = replayed(trace, "--blocks", 60, "--block-like-vllm")
    assert document["decisions"]["finished"] == 2
    assert document["blocked"]["row"] == 2
    assert document["partial"] is False
    assert "blocked for ever by request 2" in kvatlas(
        "replay", trace, "--blocks", 60, "--block-like-vllm"
    ).out.replace("\n", " ")


def test_a_prompt_longer_than_the_model_says_so(tmp_path: Path) -> None:
    trace = hashed_trace(tmp_path / "t.jsonl")
    (refused, *_) = replayed(trace, "--max-model-len", 600)["never_served"]
    assert "--max-model-len 600" in refused["reason"]


def test_several_groups_know_less_and_say_so() -> None:
    document = replayed("--limit", 40, "--kv-memory", "4GiB", "--model", "gemma-3-12b")
    kinds = [group["kind"] for group in document["config"]["kv_cache_groups"]]
    assert set(kinds) == {"FullAttentionSpec", "SlidingWindowSpec"}
    for name in ("prefix.ceiling_token_hit_rate", "waste.internal_time_weighted"):
        assert document["measurements"][name] is None
    assert document["config"]["bytes_per_block"] > 0


def test_lengths_alone(tmp_path: Path) -> None:
    trace = tmp_path / "lengths.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens\n0,100,5\n1,90,4\n", encoding="utf-8")
    document = replayed(trace)
    assert document["measurements"]["prefix.token_hit_rate"] is None
    assert document["workload"]["prefix_known"] is False
    assert any("reuse is unknown" in note for note in document["notes"])


def test_the_report_fits_80_columns_and_a_pipe_has_no_colours(tmp_path: Path) -> None:
    done = kvatlas("replay", hashed_trace(tmp_path / "t.jsonl"), "--blocks", 100)
    assert done.code == 0
    assert max(len(line) for line in done.out.splitlines()) <= 80
    assert "\x1b" not in done.out
    assert "Token hit rate" in done.out


def test_uncompiled_gives_the_same(tmp_path: Path) -> None:
    trace = hashed_trace(tmp_path / "t.jsonl")
    slow = process(
        ["replay", trace, "--checksum", "--json", tmp_path / "slow.json"],
        env={"NUMBA_DISABLE_JIT": "1"},
    )
    out, err = slow.communicate()
    assert (slow.returncode, err) == (0, "")
    assert "not compiled" in " ".join(out.split())
    decisions = replayed(trace, "--checksum")["decisions"]
    assert f'"alloc_sha256": "{decisions["alloc_sha256"]}"' in (tmp_path / "slow.json").read_text(
        encoding="utf-8"
    )


def test_version() -> None:
    done = kvatlas("--version")
    assert done.code == 0
    assert re.fullmatch(r"kvatlas \S+\n", done.out)


@pytest.mark.parametrize(("flags", "found"), [((), 60), (("--forget-uncomputed",), 54)])
def test_what_nobody_computed_is_hit_unless_asked_otherwise(
    tmp_path: Path, flags: tuple[str, ...], found: int
) -> None:
    # GIVEN a long prompt in chunks that loses its blocks to a more urgent one in the very step that
    # scheduled it (request i has priority i % 3), WHEN it comes back THEN vLLM finds three blocks
    # of 2 tokens that were never computed, unless these are forgotten
    rows = ((0, 2, 1, [0]), (0, 2, 1, [1]), (0, 63, 4, [*range(9, 41)]), (5, 12, 3, [*range(2, 8)]))
    trace = tmp_path / "t.jsonl"
    trace.write_text("".join(HASHED_ROW.format(*row) for row in rows), encoding="utf-8")
    pool = ("--block-size", 2, "--blocks", 38, "--policy", "priority", "--no-reserve-full-isl")
    sizes = ("--max-num-batched-tokens", 10, "--long-prefill-token-threshold", 8)
    read = ("--tokens-per-id", 2, "--arrivals", "timed", "--max-model-len", 128)
    document = replayed(trace, *pool, *sizes, *read, *flags)
    assert document["config"]["forget_uncomputed"] is bool(flags)
    assert document["decisions"]["preemptions"] == 1
    assert document["decisions"]["preempted_hits"] == found
