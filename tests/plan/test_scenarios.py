"""Each rule on a workload made for it, replayed for real; and its change replayed, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from runs import Run, run

from kvatlas.plan import RULES, Budget, verdict
from kvatlas.plan.rules import fired_rules
from kvatlas.report.run_document import Finding
from kvatlas.workload import Workload, chain_ids, generate


def chat(rows: int = 400) -> Workload:
    return generate("conversation", seed=1, num_requests=rows)


def sizes(large_tokens: int, per_s: float, *, share: float = 0.1, rows: int = 300) -> Workload:
    return generate(
        "mixed-sizes",
        num_requests=rows,
        requests_per_s=per_s,
        large_tokens=large_tokens,
        large_share=share,
    )


def alike(prompt_tokens: float, output_tokens: float, **knobs: Any) -> Workload:
    return generate(
        "bursts",
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        **{"num_requests": 200, "sigma": 0.5, "template_tokens": 20.0, **knobs},
    )


def one_loud_session() -> Workload:
    """Nineteen sessions that repeat their prompts of 512 tokens, and one that never does."""
    rows, span = 600, 16
    rng = np.random.default_rng(0)
    session = np.where(rng.random(rows) < 0.3, 0, 1 + rng.integers(0, 19, rows))
    loud = session == 0
    prompts = np.where(loud, 2048, 512).astype(np.int32)
    raw = [
        np.arange(2048 // span) + 1_000_000 + 1000 * row
        if loud[row]
        else np.arange(512 // span) + 1000 * session[row]
        for row in range(rows)
    ]
    offsets = np.concatenate(([0], np.cumsum([ids.size for ids in raw]))).astype(np.int64)
    ids, num_ids = chain_ids(np.concatenate(raw), offsets, np.zeros(rows, np.int32))
    return Workload(
        name="loud",
        source="by hand",
        arrival_s=np.arange(rows) / 4.0,
        prompt_tokens=prompts,
        output_tokens=np.full(rows, 4, np.int32),
        tokens_per_id=span,
        ids=ids,
        id_offsets=offsets,
        num_ids=num_ids,
        prefix_known=True,
        outputs_identified=False,
        session=session.astype(np.int32),
        parent=np.full(rows, -1, np.int32),
        priority=np.zeros(rows, np.int32),
        salt=np.zeros(rows, np.int32),
    )


TIMED = {"arrivals": "timed"}
SCENARIOS: dict[str, Callable[[], Run]] = {
    "caching-off": lambda: run(chat(), prefix_caching=False),
    "capacity-bound": lambda: run(chat(), num_blocks=2000, max_num_seqs=16),
    "policy-gap": lambda: run(chat(), num_blocks=2000, max_num_seqs=16),
    "premature-evictions": lambda: run(chat(), num_blocks=9000, **TIMED),
    "granularity-loss": lambda: run(chat(), num_blocks=1000, block_size=256, **TIMED),
    "computed-side-by-side": lambda: run(
        alike(50.0, 10.0, template_tokens=6000.0, num_templates=50, num_requests=100),
        long_prefill_token_threshold=512,
    ),
    "pollution-by-session": lambda: run(one_loud_session(), num_blocks=2500, **TIMED),
    "cold-traffic": lambda: run(
        generate("sawtooth", num_requests=200, requests_per_s=2.0), num_blocks=1500, **TIMED
    ),
    "cache-at-its-ceiling": lambda: run(chat(), num_blocks=12_000, **TIMED),
    "internal-waste": lambda: run(chat(), num_blocks=1000, block_size=256),
    "pool-oversized": lambda: run(chat(), num_blocks=60_000, **TIMED),
    "preemption-storm": lambda: run(alike(50.0, 1500.0), num_blocks=1500),
    "preemption-waste": lambda: run(generate("survivors", num_requests=300), num_blocks=1500),
    "decode-pressure": lambda: run(alike(2000.0, 100.0), num_blocks=1000),
    "head-of-line-blocking": lambda: run(sizes(8192, 30.0), num_blocks=1500, **TIMED),
    "watermark-refusals": lambda: run(chat(), num_blocks=1500, watermark=0.4, **TIMED),
    "reserved-prompts": lambda: run(sizes(25_000, 8.0, share=1.0), num_blocks=4000, **TIMED),
    "seats-bound": lambda: run(chat(), max_num_seqs=4, **TIMED),
    "long-prompt-monopoly": lambda: run(
        sizes(30_000, 12.0), num_blocks=30_000, max_num_batched_tokens=2048, **TIMED
    ),
    "token-budget-bound": lambda: run(
        alike(700.0, 10.0, requests_per_s=60.0), max_num_batched_tokens=1024, **TIMED
    ),
    "healthy": lambda: run(chat(), num_blocks=12_000, **TIMED),
}
FROM_SHEETS = {"duplicate-blocks", "stranded-blocks"}
"""Rules with figures that no small workload brings to their bounds: `test_rules` has sheets."""


def judged(scenario: Run, budget: Budget | None = None) -> tuple[Finding, ...]:
    header = scenario.header
    return verdict(
        scenario.figures, header.config, header.workload, scenario.workload, budget=budget
    )


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_workload_made_for_a_rule_fires_it(name: str) -> None:
    scenario = SCENARIOS[name]()
    fired = fired_rules(scenario.figures, scenario.config, scenario.facts)
    assert name in [one.rule.name for one in fired]


def test_every_rule_has_a_scenario() -> None:
    assert set(SCENARIOS) | FROM_SHEETS == {rule.name for rule in RULES}


@pytest.mark.parametrize(
    ("name", "tone", "change"),
    [
        ("caching-off", "act", "--prefix-caching"),
        ("capacity-bound", "act", "--blocks 4000"),
        ("premature-evictions", "watch", "--blocks 18000"),
        ("computed-side-by-side", "act", "--max-num-batched-tokens 4096"),
        ("granularity-loss", "act", "--blocks 16000 --block-size 16"),
        ("internal-waste", "act", "--blocks 16000 --block-size 16"),
        ("pool-oversized", "act", "--blocks 30000"),
        ("preemption-waste", "act", "--watermark 0.01"),
        ("decode-pressure", "watch", "--watermark 0.01"),
        ("watermark-refusals", "act", "--watermark 0"),
        ("seats-bound", "act", "--max-num-seqs 8"),
        ("long-prompt-monopoly", "act", "--long-prefill-token-threshold 512"),
        ("token-budget-bound", "watch", "--max-num-batched-tokens 2048"),
        ("cold-traffic", "good", None),
    ],
)
def test_the_change_that_helps_is_found(name: str, tone: str, change: str | None) -> None:
    # GIVEN the rule's own workload WHEN its changes are replayed THEN the one that helps is named
    finding = next(one for one in judged(SCENARIOS[name]()) if one.rule == name)
    assert (finding.tone, finding.change) == (tone, change)
    assert (finding.effect is None) == (change is None)


def test_a_healthy_run_gets_no_advice() -> None:
    for changes in ({"num_blocks": 12_000}, {"num_blocks": 400, "engine": "nano-vllm"}):
        findings = judged(run(chat(), **TIMED, **changes))
        assert {finding.tone for finding in findings} == {"good"}
        assert not [finding.change for finding in findings if finding.change]


def test_nano_vllm_is_judged_by_its_own_flags() -> None:
    # GIVEN nano-vLLM in a small pool WHEN judged THEN nothing is proposed that it does not have
    findings = judged(run(chat(), engine="nano-vllm", num_blocks=150))
    assert {"internal-waste", "preemption-storm"} <= {finding.rule for finding in findings}
    for finding in findings:
        assert "--watermark" not in (finding.change or "")
        if finding.effect is not None:
            assert "--engine nano-vllm" in finding.effect.command
    waste = next(finding for finding in findings if finding.rule == "internal-waste")
    assert (waste.tone, waste.change, waste.effect) == ("watch", None, None)
    assert "multiples of 256" in waste.effect_note
