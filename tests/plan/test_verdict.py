"""A verdict on anything: recordings without a trace, damaged, foreign, of any layers."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from probes import effect_of, judged, probe, small_chat, thrashing, to
from runs import FACTS, HEALTHY, Run, run, settings, sheet

from kvatlas.cli.__main__ import run as main
from kvatlas.errors import InputError
from kvatlas.measure import Figures
from kvatlas.plan import Setup, verdict
from kvatlas.plan.effects import without_effects
from kvatlas.plan.rules import Reading
from kvatlas.plan.rules.rule import fire
from kvatlas.workload import Workload, generate, load


@pytest.fixture
def chat() -> Workload:
    return small_chat()


@pytest.fixture
def small_cache() -> Run:
    return thrashing()


def test_without_a_trace_the_change_is_named_and_the_reason_given(small_cache: Run) -> None:
    header = small_cache.header
    findings = verdict(small_cache.figures, header.config, header.workload, "the trace is gone")
    finding = next(one for one in findings if one.rule == "capacity-bound")
    assert (finding.tone, finding.change, finding.effect) == ("act", "--blocks 4000", None)
    assert finding.effect_note == "Not replayed: the trace is gone."


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"engine": "vllm"},
        settings() | {"num_blocks": "many"},
        settings(num_blocks=0),
        settings(policy="lottery"),
        settings() | {"kv_cache_groups": [{"kind": "Riddle"}]},
        settings() | {"kv_cache_groups": [{"kind": "FullAttentionSpec", "colour": 3}]},
        settings() | {"kv_cache_groups": 7},
    ],
)
def test_settings_that_are_no_engine_name_no_change(
    chat: Workload, config: dict[str, object]
) -> None:
    fired = fire(probe(to("watermark", 0.1)), Reading(sheet(), config))
    assert fired is not None
    figures = sheet(preemption__waste=0.5)
    findings = verdict(figures, config, {}, chat)
    assert findings[0].rule == "preemption-waste"
    assert all(one.tone == "good" for one in findings[1:])
    assert (findings[0].change, findings[0].effect) == (None, None)
    assert findings[0].effect_note.startswith("Not replayed: ")
    assert without_effects([fired], None, "why")[0].effect_note == "Not replayed: why."


def test_a_recording_that_a_replay_does_not_give_again_is_not_compared(
    chat: Workload, small_cache: Run
) -> None:
    # GIVEN figures that are not those of these requests
    figures = sheet(preemption__waste=0.5)
    header = small_cache.header
    (finding,) = [
        one
        for one in verdict(figures, header.config, header.workload, chat)
        if one.rule == "preemption-waste"
    ]
    assert finding.effect is None
    assert "do not give the recorded run again" in finding.effect_note


def test_a_block_size_that_does_not_fit_the_trace_is_said(tmp_path: Path) -> None:
    # GIVEN identities of 24 tokens and blocks of 48 WHEN blocks of 16 are tried
    chat = generate("conversation", seed=1, num_requests=100)
    odd = chat.with_(tokens_per_id=24, prompt_tokens=chat.prompt_tokens)
    rows = chat.prompt_tokens.astype(np.int64) + chat.output_tokens
    counts = -(-rows // 24)
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    odd = odd.with_(ids=np.arange(offsets[-1]), id_offsets=offsets, num_ids=int(offsets[-1]))
    odd.check()
    one = run(odd, block_size=48, num_blocks=2000)
    finding = effect_of(one, probe(to("block_size", 16)))
    assert (finding.effect, finding.change) == (None, "--blocks 6000 --block-size 16")
    assert "24 tokens per identity" in finding.effect_note


def test_layers_that_forget_have_no_ceiling_and_yet_a_verdict(chat: Workload) -> None:
    # GIVEN full attention beside a sliding window in a small pool
    config = settings(num_blocks=3000)
    group = config["kv_cache_groups"][0]
    window = {**group, "kind": "SlidingWindowSpec", "sliding_window": 512}
    one = run(chat, num_blocks=3000, kv_cache_groups=[group, window])
    assert one.figures["prefix.ceiling_token_hit_rate"] is None
    finding = next(found for found in judged(one) if found.rule == "capacity-bound")
    assert finding.change == "--blocks 6000"
    assert finding.effect is not None
    # AND its block size is not for a flag to change.
    with pytest.raises(InputError, match="depend on each other"):
        Setup(one.config).with_("block_size", 32)


def test_a_trace_of_token_ids_is_cut_the_same_way_again(tmp_path: Path) -> None:
    # GIVEN token ids replayed with blocks of 64 WHEN smaller blocks are tried
    path = tmp_path / "tokens.jsonl"
    rows = [
        {"timestamp": at / 4, "input_tok_ids": list(range(639)), "output_toks": 3}
        for at in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    one = run(load(path, identity_tokens=64), block_size=64, num_blocks=3000, trace=str(path))
    finding = next(found for found in judged(one) if found.rule == "granularity-loss")
    assert finding.effect is not None
    assert "tells prompts apart every 64 tokens" in finding.effect_note
    # THEN the command says how the ids were cut, so that typing it measures the same
    assert "--identity-tokens 64" in finding.effect.command
    typed = kvatlas_replay(finding.effect.command)
    assert typed["prefix.token_hit_rate"] == finding.effect.after


def kvatlas_replay(command: str) -> dict[str, float]:
    """Type a command and return its measurements."""
    out = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(out, encoding="utf-8")) as stdout:
        assert main([*shlex.split(command)[1:], "--json", "-"]) == 0
        stdout.flush()
        measurements: dict[str, float] = json.loads(out.getvalue())["measurements"]
    return measurements


EMPTY = generate("comb", num_requests=1, prompt_tokens=8, short_output_tokens=2)


@given(
    values=st.dictionaries(
        st.sampled_from(sorted(HEALTHY)), st.floats(0, 1e9) | st.integers(0, 10**12)
    ),
    config=st.dictionaries(
        st.sampled_from(sorted(settings())),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([{}]),
    ),
    facts=st.dictionaries(st.sampled_from(sorted(FACTS)), st.none() | st.integers(0, 10**9)),
)
def test_a_verdict_never_fails(
    values: dict[str, float], config: dict[str, object], facts: dict[str, object]
) -> None:
    # GIVEN any figures, and a header as a damaged or foreign file may have it
    figures = Figures()
    for name, value in values.items():
        figures.put(name, value)
    said = settings() | config
    for requests in ("no trace", EMPTY):
        findings = verdict(figures, said, facts, requests)
        assert len(findings) <= 5
        tones = [("act", "watch", "good").index(finding.tone) for finding in findings]
        assert tones == sorted(tones)
