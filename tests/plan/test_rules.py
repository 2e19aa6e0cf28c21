"""Rules on hand-made sheets: each side of each bound, what is not known, order, silence."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from runs import FACTS, HEALTHY, settings, sheet

from kvatlas.measure import Figures
from kvatlas.plan import RULES, Rule, evaluate
from kvatlas.plan.rules import DERIVED, MOST_SHOWN, Clause, Reading, fired_rules
from kvatlas.plan.rules.rule import fire

BY_NAME = {rule.name: rule for rule in RULES}
RULES_AND_CLAUSES = [
    pytest.param(rule, clause, id=f"{rule.name}-{clause.figure}")
    for rule in RULES
    for clause in rule.clauses
]


class Said(Reading):
    """A reading that says what a test wants of some figures, whatever they follow from."""

    def __init__(self, said: Mapping[str, float | None]) -> None:
        super().__init__(sheet(), settings(), FACTS)
        self.said = said

    def __getitem__(self, name: str) -> float | None:
        return self.said[name] if name in self.said else super().__getitem__(name)


def at_the_bounds(rule: Rule) -> dict[str, float | None]:
    return {clause.figure: clause.bound for clause in rule.clauses}


def beyond(clause: Clause) -> float:
    """Return the next number on the wrong side of the bound."""
    return math.nextafter(clause.bound, -math.inf if clause.side == "at least" else math.inf)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_fires_at_its_bounds(rule: Rule) -> None:
    fired = fire(rule, Said(at_the_bounds(rule)))
    assert fired is not None
    assert fired.finding.rule == rule.name
    assert fired.finding.tone == rule.tone
    assert fired.finding.evidence
    assert "{" not in fired.finding.title + "".join(fired.finding.evidence)


@pytest.mark.parametrize(("rule", "clause"), RULES_AND_CLAUSES)
def test_a_rule_is_silent_beyond_any_bound(rule: Rule, clause: Clause) -> None:
    assert fire(rule, Said(at_the_bounds(rule) | {clause.figure: beyond(clause)})) is None


@pytest.mark.parametrize(("rule", "clause"), RULES_AND_CLAUSES)
def test_what_is_not_known_fires_nothing(rule: Rule, clause: Clause) -> None:
    assert fire(rule, Said(at_the_bounds(rule) | {clause.figure: None})) is None


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_figure_that_a_clause_needs_silences_it_when_taken_away(rule: Rule) -> None:
    # GIVEN a sheet from which one figure that a clause follows from is missing
    for clause in rule.clauses:
        needs = DERIVED[clause.figure].needs if clause.figure in DERIVED else (clause.figure,)
        for name in needs:
            if name in HEALTHY:
                figures = sheet(**{name: None})
                fired = fired_rules(figures, settings(), FACTS)
                assert rule.name not in [one.rule.name for one in fired], name


def test_an_empty_sheet_says_nothing() -> None:
    assert evaluate(Figures(), {}) == ()
    assert evaluate(sheet(**dict.fromkeys(HEALTHY, None)), settings(), FACTS) == ()


def test_a_healthy_run_is_called_healthy_and_nothing_else() -> None:
    (finding,) = evaluate(sheet(), settings(), FACTS)
    assert (finding.rule, finding.tone) == ("healthy", "good")
    assert finding.change is None
    assert "39.0%" in " ".join(finding.evidence)


SICK: Mapping[str, tuple[dict[str, float], dict[str, object]]] = {
    # Rule: what differs from the healthy sheet, and from the default settings.
    "caching-off": ({}, {"prefix_caching": False}),
    "capacity-bound": ({"attribution.capacity": 0.4, "prefix.token_hit_rate": 0.2}, {}),
    "policy-gap": (
        {
            "prefix.optimum_token_hit_rate": 0.42,
            "prefix.lru_token_hit_rate": 0.3,
            "attribution.capacity": 0.09,
        },
        {},
    ),
    "premature-evictions": (
        {"prefix.evicted_premature_blocks": 900, "attribution.capacity": 0.06},
        {},
    ),
    "granularity-loss": ({"attribution.granularity": 0.1}, {"block_size": 256}),
    "computed-side-by-side": ({"prefix.token_hit_rate": 0.36}, {}),
    "duplicate-blocks": ({"prefix.duplicate_blocks_mean": 2000}, {}),
    "stranded-blocks": ({"prefix.stranded_blocks_mean": 2000}, {}),
    "pollution-by-session": (
        {"prefix.pollution_top_session_share": 0.6, "attribution.capacity": 0.06},
        {},
    ),
    "cold-traffic": (
        {
            "attribution.cold": 0.97,
            "prefix.token_hit_rate": 0.01,
            "prefix.ceiling_token_hit_rate": 0.02,
        },
        {},
    ),
    "cache-at-its-ceiling": ({"prefix.token_hit_rate": 0.415}, {}),
    "internal-waste": ({"waste.internal_time_weighted": 0.2}, {"block_size": 256}),
    "pool-oversized": ({"usage.peak": 0.2, "prefix.evicted_blocks": 0}, {}),
    "preemption-storm": ({"preemption.count": 400, "preemption.waste": 0.1}, {}),
    "preemption-waste": ({"preemption.count": 40, "preemption.waste": 0.1}, {}),
    "decode-pressure": ({"allocation.failed_decode": 50, "usage.time_weighted": 0.95}, {}),
    "head-of-line-blocking": ({"queue.head_of_line_s": 30.0}, {}),
    "watermark-refusals": ({"queue.head_refused_share": 0.3}, {"watermark": 0.1}),
    "reserved-prompts": ({"queue.head_refused_share": 0.3}, {}),
    "seats-bound": ({"queue.length_time_weighted": 30.0}, {"max_num_seqs": 21}),
    "token-budget-bound": ({"queue.length_time_weighted": 30.0}, {}),
    "healthy": ({}, {}),
}


@pytest.mark.parametrize("name", SICK)
def test_a_sheet_made_for_a_rule_fires_that_rule_alone(name: str) -> None:
    # GIVEN a healthy run but for one thing WHEN it is judged THEN that thing is said
    figures, changes = SICK[name]
    findings = evaluate(sheet(**figures), settings(**changes), FACTS)
    told = [finding.rule for finding in findings if finding.rule != "healthy" or name == "healthy"]
    assert told == [name]


def test_a_long_prompt_is_told_from_a_small_budget() -> None:
    # GIVEN one prompt of three steps among short ones
    facts = {**FACTS, "longest_prompt_tokens": 25_000}
    findings = evaluate(sheet(queue__length_time_weighted=30.0), settings(), facts)
    assert [finding.rule for finding in findings] == ["long-prompt-monopoly"]
    assert "25 times the median" in findings[0].title


def test_every_rule_has_a_sheet_of_its_own() -> None:
    assert set(SICK) | {"long-prompt-monopoly"} == set(BY_NAME)


def test_external_fragmentation_is_never_a_finding() -> None:
    # GIVEN a healthy run in a pool without two free blocks in a row
    worst = {
        "fragmentation.efi": 0.9999,
        "fragmentation.efi_empty": 1.0,
        "fragmentation.largest_free_run": 1,
        "fragmentation.free_runs": 10_000,
        "fragmentation.ufsi_order_9": 1.0,
        "fragmentation.runs_per_request_mean": 800.0,
    }
    findings = evaluate(sheet(**worst), settings(), FACTS)
    assert [finding.rule for finding in findings] == ["healthy"]
    # AND no rule could ever see it.
    for rule in RULES:
        assert not [name for name in rule.reads if name.startswith("fragmentation.")]


def test_the_most_important_comes_first_and_five_are_shown() -> None:
    # GIVEN a run with more trouble than anybody reads
    figures = sheet(
        attribution__capacity=0.2,
        attribution__granularity=0.3,
        allocation__failed_decode=60,
        preemption__waste=0.03,
        prefix__duplicate_blocks_mean=3_000,
        prefix__stranded_blocks_mean=1_500,
        prefix__token_hit_rate=0.1,
        queue__head_of_line_s=50.0,
        waste__internal_time_weighted=0.4,
    )
    config = settings(block_size=256)
    fired = fired_rules(figures, config, FACTS)
    assert len(fired) > MOST_SHOWN
    findings = evaluate(figures, config, FACTS)
    assert len(findings) == MOST_SHOWN
    # THEN what one can act on comes before what one should watch, larger gains first
    assert [one.finding for one in fired[:MOST_SHOWN]] == list(findings)
    assert [finding.rule for finding in findings[:3]] == [
        "granularity-loss",
        "head-of-line-blocking",
        "internal-waste",
    ]
    keys = [("act", "watch", "good").index(one.finding.tone) for one in fired]
    assert keys == sorted(keys)
    for tone in ("act", "watch"):
        scores = [one.score for one in fired if one.finding.tone == tone]
        assert scores == sorted(scores, reverse=True)


def test_rules_that_say_less_are_silent() -> None:
    figures = sheet(preemption__count=500, preemption__waste=0.2, allocation__failed_decode=500)
    names = [finding.rule for finding in evaluate(figures, settings(), FACTS)]
    assert "preemption-storm" in names
    assert not {"preemption-waste", "decode-pressure", "healthy"} & set(names)


def test_the_rules_are_sound_data() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert set(rule.silenced_by) <= set(names) - {rule.name}
        assert bool(rule.changes) == bool(rule.moves), rule.name
        assert rule.tone == "good" or rule.changes or rule.advice, rule.name
        assert rule.gain.why
        for clause in rule.clauses:
            assert clause.why
        known = set(HEALTHY) | {"waste.internal_mean_slots"}
        for name in rule.reads:
            assert name in known or name.startswith(("setting.", "workload.")), name


def test_what_should_move_is_better_that_way() -> None:
    rising = {"prefix.token_hit_rate"}
    for rule in RULES:
        if rule.whither != "keep":
            assert {name in rising for name in rule.moves} <= {rule.whither == "up"}, rule.name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("room.hit_rate", 0.42 - 0.39),
        ("lost.cold", 0.6 * 0.61),
        ("lost.capacity", 0.01 * 0.61),
        ("lost.granularity", 0.02 * 0.61),
        ("lost.side_by_side", 0.42 - 0.39 - 0.01 * 0.61),
        ("lost.policy", 0.4 - 0.39),
        ("ceiling.reached", 0.39 / 0.42),
        ("evicted.share", 0.2),
        ("evicted.premature_share", 0.03),
        ("duplicates.share", 3 / 19_999),
        ("stranded.share", 2 / 19_999),
        ("preemption.per_request", 0.0),
        ("refused.decode_per_request", 0.0),
        ("head_of_line.share", 0.0),
        ("seats.share", 20 / 256),
        ("waiting.share", 0.1 / 20.1),
        ("free.share", 0.5),
        ("free.at_peak_share", 0.2),
        ("waste.of_pool_share", 0.005),
        ("prompts.longest_in_steps", 4000 / 8192),
        ("prompts.longest_over_median", 4.0),
    ],
)
def test_what_follows_from_the_figures(name: str, value: float) -> None:
    assert Reading(sheet(), settings(), FACTS)[name] == pytest.approx(value)
    assert Reading(Figures(), {})[name] is None


def test_the_list_of_what_follows_is_complete() -> None:
    marks = test_what_follows_from_the_figures.pytestmark  # type: ignore[attr-defined]
    assert {name for name, _ in marks[0].args[1]} == set(DERIVED)


def test_a_trace_of_lengths_says_nothing_about_prefixes() -> None:
    # GIVEN figures by which all is cold, of a trace in which nobody knows what is shared
    figures = sheet(attribution__cold=1.0, prefix__token_hit_rate=0.0)
    assert "cold-traffic" in [one.rule for one in evaluate(figures, settings(), FACTS)]
    facts = {**FACTS, "prefix_known": False}
    (finding,) = evaluate(figures, settings(), facts)
    assert finding.rule == "healthy"
    assert not [sentence for sentence in finding.evidence if "cache" in sentence]


def test_nothing_to_divide_by_is_nothing() -> None:
    reading = Reading(sheet(prefix__evicted_blocks=0), settings(), FACTS)
    assert reading["evicted.premature_share"] == 0
